"""Liveness and readiness of a worker, asked over HTTP as a probe does."""

from __future__ import annotations

import socket
import threading
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from http import HTTPStatus

import pytest

from handoff.contracts.errors import SettingsInvalid
from handoff.contracts.protocols import UNKNOWN_BACKLOG
from ml_server import health_server
from ml_server.answering_model import LocalModel
from ml_server.health import pages_of
from ml_server.health_server import Answer, health_served
from ml_server.recording import End, Serving
from ml_server.vitals import STUCK_AFTER_S, Vitals
from ml_server.work import Work
from tests.fakes import ARTIFACT, FakeStore, batch_of, delivery_of, upload


class Probe:
    """A worker's vitals, its pages and who asks for them; `now` is the time by its clock."""

    def __init__(self) -> None:
        self.now = 0.0
        self.vitals = Vitals(clock=lambda: self.now)
        self.port = 0

    def ask(self, path: str, *, method: str = "GET") -> tuple[int, str]:
        """The status and the text of a page."""
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}{path}", method=method)
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:  # noqa: S310 - our own http:// address
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()

    def serve(self, *threads: threading.Thread, fault: Callable[[], str] = str) -> None:
        """Become ready."""
        self.vitals.serving(Serving(LocalModel(ARTIFACT).current, threads, lambda: UNKNOWN_BACKLOG, fault))


@pytest.fixture
def probe() -> Iterator[Probe]:
    """A worker that is asked on a port of its own."""
    probe = Probe()
    pages = pages_of(probe.vitals, lambda: Answer(HTTPStatus.OK, b"metrics\n"))
    with health_served("127.0.0.1", 0, pages) as probe.port:
        yield probe


def work_in_classification() -> Work:
    """A delivery of two images, the first micro-batch of which is being classified."""
    work = Work(delivery_of(upload(FakeStore(), "r-1", batch_of(1, 2))))
    work.image_ids = ["0", "1"]
    work.begin_classification()
    return work


def test_readiness_follows_the_worker(probe: Probe) -> None:
    """Not while it starts, while it serves, not once it drains; alive throughout."""
    said = [probe.ask("/readyz")]
    probe.serve(threading.current_thread())
    said.append(probe.ask("/readyz"))
    probe.vitals.draining()
    said.append(probe.ask("/readyz"))
    assert said == [(503, "starting\n"), (200, "ok\n"), (503, "draining\n")]
    assert probe.ask("/livez") == probe.ask("/healthz") == (200, "ok\n")


def test_a_worker_whose_runtime_does_not_answer_is_not_ready(probe: Probe) -> None:
    """It says why, for as long as that lasts; a new process would be no better off, so it is alive."""
    faults = ["", "Nothing answers at http://serving.", ""]
    probe.serve(threading.current_thread(), fault=lambda: faults[0])
    said = []
    while faults:
        said.append(probe.ask("/readyz"))
        assert probe.ask("/livez") == (200, "ok\n")
        faults.pop(0)
    assert said == [(200, "ok\n"), (503, "Nothing answers at http://serving.\n"), (200, "ok\n")]


def test_a_worker_without_one_of_its_threads_is_not_alive(probe: Probe) -> None:
    """One that has not begun is no fault, nor is one that ends with the drain."""
    thread = threading.Thread(target=lambda: None, name="classify")
    probe.serve(threading.current_thread(), thread)
    assert probe.ask("/livez")[0] == 200
    thread.start()
    thread.join()
    assert probe.ask("/livez") == (503, "the thread classify has ended\n")
    probe.vitals.draining()
    assert probe.ask("/livez")[0] == 200


def test_a_classification_that_never_ends_is_not_alive(probe: Probe) -> None:
    """Counted from its last progress; a delivery that waits, or has ended, is no fault."""
    probe.serve(threading.current_thread())
    waiting, classifying = Work(delivery_of(upload(FakeStore(), "r-2", batch_of(1)))), work_in_classification()
    for work in (waiting, classifying):
        probe.vitals.pulled(work)
    assert classifying.classifying_since is not None
    probe.now = classifying.classifying_since + STUCK_AFTER_S
    assert probe.ask("/livez")[0] == 200
    probe.now += 1
    assert probe.ask("/livez") == (503, "a delivery has been under classification for 601 s without progress\n")
    probe.vitals.ended(classifying, End("succeeded"))
    assert probe.ask("/livez")[0] == 200


def test_a_delivery_that_ended_is_under_classification_no_more() -> None:
    """Whether by an error of another part of its images, or with its last image."""
    work = work_in_classification()
    work.end()
    assert work.classifying_since is None


def test_pages_that_are_not_there_are_said(probe: Probe) -> None:
    """With those that are; a query does not matter, and HEAD gets no body."""
    assert probe.ask("/") == (404, "There are /livez, /readyz, /healthz, /metrics.\n")
    assert probe.ask("/metrics?name[]=up") == (200, "metrics\n")
    assert probe.ask("/livez", method="HEAD") == (200, "")
    assert probe.ask("/livez", method="POST")[0] == 501


def test_a_taken_port_is_refused_in_a_sentence(probe: Probe) -> None:
    """It names the setting to change."""
    with pytest.raises(SettingsInvalid, match=r"port .* set another worker.health_port") as refused:
        health_served("127.0.0.1", probe.port, {}).__enter__()
    assert "\n" not in str(refused.value)


def test_an_unknown_host_is_refused_in_a_sentence() -> None:
    """As a taken port is."""
    with pytest.raises(SettingsInvalid, match=r"Health cannot be asked at 203\.0\.113\.1 port 1 "):
        health_served("203.0.113.1", 1, {}).__enter__()


def test_those_who_say_nothing_keep_nobody_out(probe: Probe, monkeypatch: pytest.MonkeyPatch) -> None:
    """Open connections are bounded; over that they are hung up on, and those who were silent make room in time."""
    monkeypatch.setattr(health_server._Request, "timeout", 0.05)
    silent = [socket.create_connection(("127.0.0.1", probe.port)) for _ in range(3 * health_server.MOST_CONNECTIONS)]
    tick = threading.Event()

    def answered() -> bool:
        try:
            return probe.ask("/livez") == (200, "ok\n")
        except OSError:
            return False

    assert any(answered() or tick.wait(0.01) for _ in range(1000))
    for connection in silent:
        connection.close()


def test_an_answer_nobody_waits_for_is_no_trouble(probe: Probe, capfd: pytest.CaptureFixture[str]) -> None:
    """Whoever hangs up, or talks no HTTP, leaves no traceback."""
    for said in (b"", b"GET /livez HTTP/1.0\r\n\r\n", b"\x00\xff\r\n\r\n", b"GET " + b"x" * 70_000 + b"\r\n\r\n"):
        with socket.create_connection(("127.0.0.1", probe.port)) as connection:
            connection.sendall(said)
    assert probe.ask("/livez") == (200, "ok\n")
    assert "Traceback" not in capfd.readouterr().err
