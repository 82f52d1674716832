"""Workers whose model a server holds: real processes, a real server that is killed, and what is lost: nothing."""

from __future__ import annotations

import re
import threading
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from shutil import copy

import numpy as np
import pytest

from classifiers.loading import load_model
from classifiers.protocol import Images
from fashion_client.client import Client
from handoff.contracts.errors import ExitCode
from handoff.contracts.messages import AnalysisResponse
from handoff.contracts.protocols import Broker
from handoff.contracts.topology import Topology
from handoff.settings import REPOSITORY, WorkerSettings
from tests.e2e.conftest import Start
from tests.e2e.programs import WORKER, Program, script, wait_until
from tests.scripted_serving import scripted_serving
from tests.servers import free_port
from tests.serving_server import KServe, kserve

ARTIFACT = REPOSITORY / "ml_model_development" / "artifacts" / "1"
GRAPH = ARTIFACT / "model.onnx"
# The server is SIGKILLed and started again within this; the default is two minutes.
PATIENCE_S = 60.0

Sample = tuple[Images, list[str]]
StartServed = Callable[..., Program]


@pytest.fixture
def deployment() -> tuple[str, str]:
    """One is enough: what is behind the classifier knows no broker."""
    return "embedded", "file"


@pytest.fixture(scope="module")
def shared_server() -> Iterator[KServe]:
    """KServe with the committed model's float graph."""
    with kserve(GRAPH) as server:
        yield server


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """All that such a worker needs of an artifact: its manifest."""
    folder = tmp_path / "artifact"
    folder.mkdir()
    copy(ARTIFACT / "manifest.json", folder)
    return folder


@pytest.fixture
def start_served(start: Start, model: Path) -> StartServed:
    """Start workers that classify by a server."""

    def begin(
        name: str, url: str, *flags: str, patience_s: float = PATIENCE_S, timeout_s: float = 5.0, health_port: int = 0
    ) -> Program:
        told = WorkerSettings(
            model=str(model),
            runtime="tf-serving",
            serving_url=url,
            serving_patience_s=patience_s,
            serving_timeout_s=timeout_s,
            health_port=health_port,
        )
        return start(script(WORKER, "--name", name, *flags), name=name, worker=told)

    return begin


def dead_letter_count(broker: Broker, topology: Topology) -> int:
    """How many dead letters wait."""
    return broker.backlog(topology.dead_letters).count or 0


def test_images_are_classified_by_the_server(
    shared_server: KServe, start_served: StartServed, client: Client, sample: Sample
) -> None:
    """With the reference's probabilities, under the manifest's name and version and without a digest."""
    worker = start_served("w-1", shared_server.url)
    worker.wait_for("ready_s=")
    images, labels = sample
    submission = client.submit(images[:300], labels=labels[:300])
    response = submission.response(60)
    found = submission.result(60).predictions()
    expected = load_model(GRAPH, runtime="onnx")[0].classify(images[:300])
    assert found.probabilities == pytest.approx(expected, abs=2e-6)
    assert found.label_ids.tolist() == expected.argmax(axis=1).tolist()
    assert response.model is not None
    assert (response.model.name, response.model.version, response.model.digest) == ("fashion-mnist-cnn", "1", "")
    worker.terminate()
    assert worker.wait() == ExitCode.OK, worker.log


@pytest.mark.timeout(300)
def test_a_server_that_is_killed_in_mid_load_costs_nothing_but_time(
    start_served: StartServed, client: Client, sample: Sample, broker: Broker, topology: Topology
) -> None:
    """Twice SIGKILL under load, two workers: every request is answered at its first attempt, none is a dead letter."""
    images, _ = sample
    with kserve(GRAPH) as server:
        ports = [free_port(), free_port()]
        workers = [start_served(f"w-{n}", server.url, health_port=port) for n, port in enumerate(ports)]
        for worker in workers:
            worker.wait_for("ready_s=")
        submissions = [client.submit(images[20 * n % 900 :][:100], request_id=f"r-{n}") for n in range(60)]
        for answered in (5, 30):
            wait_until(lambda so_many=answered: sum(each.done() for each in submissions) >= so_many, what="answers")
            server.kill()
            for worker, port in zip(workers, ports, strict=True):
                wait_until(lambda at=port: readiness(at)[0] == 503, what=f"unready:\n{worker.log}")
            wait_until(lambda: f"Nothing answers at {server.url}" in readiness(ports[0])[1], what="the reason")
            assert all(worker.is_running for worker in workers)
            server.start()
        responses = [submission.response(120) for submission in submissions]
        wait_until(lambda: all(readiness(port) == (200, "ok\n") for port in ports), what="ready again")
        for worker in workers:
            worker.terminate()
        assert [worker.wait() for worker in workers] == [ExitCode.OK, ExitCode.OK]
    assert {response.status for response in responses} == {"succeeded"}
    assert {response.attempt for response in responses} == {1}
    assert {response.worker for response in responses} <= {"w-0", "w-1"}
    assert dead_letter_count(broker, topology) == 0
    assert "answers again" in "".join(worker.log for worker in workers)
    expected = load_model(GRAPH, runtime="onnx")[0].classify(images)
    for number, submission in enumerate(submissions):
        found = submission.result(10).predictions().probabilities
        assert np.abs(found - expected[20 * number % 900 :][:100]).max() <= 2e-6


def test_a_drain_does_not_wait_for_a_server_that_is_gone(
    start_served: StartServed, client: Client, sample: Sample
) -> None:
    """What is held is given back at once, for a worker whose server answers; that one answers it."""
    images, _ = sample
    with kserve(GRAPH) as server:
        worker = start_served("w-1", server.url)
        worker.wait_for("ready_s=")
        server.kill()
        submission = client.submit(images[:10])
        worker.wait_for("Nothing answers")
        worker.terminate()
        assert worker.wait(within_s=15) == ExitCode.OK
        assert "outcome=retry" in worker.log
        server.start()
        start_served("w-2", server.url)
        assert (submission.response(60).worker, submission.response(0).attempt) == ("w-2", 2)


@pytest.mark.timeout(180)
def test_an_outage_beyond_all_patience_ends_in_dead_letters_with_the_reason(
    start_served: StartServed, client: Client, sample: Sample, broker: Broker, topology: Topology
) -> None:
    """Every attempt waits its time; then the request lies with the dead letters, from where it can be replayed."""
    images, _ = sample
    with kserve(GRAPH) as server:
        worker = start_served("w-1", server.url, patience_s=0.2)
        worker.wait_for("ready_s=")
        server.kill()
        client.submit(images[:10], request_id="late")
        worker.wait_for("outcome=dead-letter")
    outcomes = re.findall(r"attempt=(\d) .* outcome=(\S+).* code=(\S+)", worker.log)
    ends = (topology.max_attempts - 1) * ["retry"] + ["dead-letter"]
    assert outcomes == [(str(n + 1), end, "runtime_unavailable") for n, end in enumerate(ends)]
    assert dead_letter_count(broker, topology) == 1


def test_a_worker_without_a_server_ends_with_a_sentence(start_served: StartServed) -> None:
    """Its own exit code, after a bounded wait."""
    url = f"http://127.0.0.1:{free_port()}/v1/models/fashion"
    worker = start_served("w-1", url, patience_s=1.5)
    assert worker.wait() == ExitCode.RUNTIME_UNAVAILABLE
    last = worker.log.splitlines()[-1]
    assert last == f"Error: Nothing answers at {url} (Connection refused); is TensorFlow Serving running there?"
    assert "Traceback" not in worker.log


def test_supervised_workers_share_a_server(
    shared_server: KServe, start_served: StartServed, client: Client, sample: Sample
) -> None:
    """`--workers 2` hands the URL on."""
    images, _ = sample
    supervisor = start_served("all", shared_server.url, "--workers", "2")
    supervisor.wait_for("ready_s=", times=2)
    responses = [client.submit(images[:50]) for _ in range(30)]
    assert {each.response(60).worker for each in responses} <= {"worker-1", "worker-2"}
    supervisor.terminate()
    assert supervisor.wait() == ExitCode.OK


def test_a_model_that_is_rolled_out_is_followed_without_a_gap(
    start_served: StartServed, client: Client, sample: Sample, broker: Broker, topology: Topology
) -> None:
    """From version 3 to 4 under load: each response names the version that classified it, and all are answered."""
    images, _ = sample
    with scripted_serving() as serving:
        serving.metadata, serving.label_count = None, 10
        worker = start_served("w-1", serving.url)
        worker.wait_for("ready_s=")
        before = [client.submit(images[:20]) for _ in range(20)]
        versions = {version_of(each.response(60)) for each in before}
        stop = threading.Event()
        responses: list[AnalysisResponse] = []

        def load() -> None:
            while not stop.is_set():
                responses.append(client.submit(images[:20]).response(60))

        thread = threading.Thread(target=load)
        thread.start()
        serving.versions = {3: "UNLOADING", 4: "AVAILABLE"}
        serving.versions = {4: "AVAILABLE"}
        wait_until(lambda: bool(responses) and version_of(responses[-1]) == "4", what="version 4")
        stop.set()
        thread.join(60)
        worker.terminate()
        assert worker.wait() == ExitCode.OK
    assert versions == {"3"}
    assert {response.status for response in responses} == {"succeeded"}
    assert [version_of(each) for each in responses] == sorted(version_of(each) for each in responses)
    assert dead_letter_count(broker, topology) == 0


def version_of(response: AnalysisResponse) -> str:
    """The version that a response names."""
    assert response.model is not None, response.error
    return response.model.version


def readiness(port: int) -> tuple[int, str]:
    """What /readyz says on a port."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=10) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()
