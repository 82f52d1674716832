"""A real worker watched from outside: its probes, its metrics, and the trace of a request through it."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from urllib.parse import urlencode

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from classifiers.protocol import Images
from fashion_client.client import Client
from handoff.contracts.errors import ExitCode
from handoff.settings import REPOSITORY, Settings, TelemetrySettings, WorkerSettings
from tests.e2e.conftest import Start
from tests.e2e.programs import WORKER, Program, script, wait_until
from tests.otlp import otlp_receiver, wait_for_spans

Sample = tuple[Images, list[str]]


class Health:
    """A worker's port."""

    def __init__(self, wanted: int = 0) -> None:
        """Any port that is free, or this one where it is."""
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", wanted))
            except OSError:
                probe.bind(("127.0.0.1", 0))
            self.port = int(probe.getsockname()[1])

    def ask(self, path: str) -> tuple[int, str]:
        """The status and the text of a page; 0 while nobody listens."""
        return asked(f"http://127.0.0.1:{self.port}{path}")

    def wait_for(self, path: str, answer: tuple[int, str]) -> None:
        """Wait until a page says so."""
        wait_until(lambda: self.ask(path) == answer, what=f"{path} {answer}, it is {self.ask(path)}")

    def value(self, name: str, **labels: str) -> float | None:
        """One sample of a scrape; None where there is none."""
        families = text_string_to_metric_families(self.ask("/metrics")[1])
        samples = (sample for family in families for sample in family.samples)
        return next((found.value for found in samples if (found.name, found.labels) == (name, labels)), None)


def asked(url: str) -> tuple[int, str]:
    """The status and the text at an address; 0 while nobody listens."""
    try:
        with urllib.request.urlopen(url, timeout=10) as answer:  # noqa: S310 - our own http:// address
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()
    except OSError:
        return 0, ""


@pytest.fixture
def health() -> Health:
    """A port that is free."""
    return Health()


def start_watched(start: Start, health: Health, *options: str, name: str = "w-1", **settings: object) -> Program:
    """Start a worker that answers on the port."""
    worker = WorkerSettings(threads=1, health_port=health.port, **settings)  # type: ignore[arg-type]
    return start(script(WORKER, "--name", name, *options), name=name, worker=worker)


def test_a_worker_says_how_it_does_from_start_to_end(
    start: Start, health: Health, client: Client, sample: Sample
) -> None:
    """Alive before it is ready, ready when it serves, counting what it does, and gone with exit code 0."""
    # It is warmed up at every size up to this one, so that there is time to look.
    worker = start_watched(start, health, micro_batch_images=2048)
    health.wait_for("/readyz", (503, "starting\n"))
    assert health.ask("/livez") == (200, "ok\n")
    health.wait_for("/readyz", (200, "ok\n"))
    for submission in [client.submit(sample[0][:10]) for _ in range(5)]:
        submission.result(60)
    refused = client.submit(sample[0][:1], model="other").response(60)
    assert refused.status == "failed"
    wait_until(lambda: worker.log.count(" outcome=") == 6, what=f"six lines:\n{worker.log}")
    # The last one's line comes just before it is counted.
    wait_until(lambda: health.value("fashion_delivery_seconds_count") == 6, what="six deliveries")
    assert health.value("fashion_deliveries_total", outcome="succeeded", code="") == 5
    assert health.value("fashion_deliveries_total", outcome="failed", code="unknown_model") == 1
    assert health.value("fashion_images_total") == 50
    assert health.value("fashion_ready") == 1
    assert health.value("process_resident_memory_bytes") is not None
    worker.terminate()
    assert worker.wait() == ExitCode.OK, worker.log
    assert health.ask("/livez")[0] == 0


class TestOnOneMachine:
    """What needs no server beside the worker."""

    @pytest.fixture
    def deployment(self) -> tuple[str, str]:
        """The one that needs nothing."""
        return "embedded", "file"

    def test_a_draining_worker_is_alive_and_not_ready(
        self, start: Start, health: Health, client: Client, sample: Sample
    ) -> None:
        """While it finishes what it holds, which is seconds' worth of work."""
        worker = start_watched(start, health, max_images=100_000)
        health.wait_for("/readyz", (200, "ok\n"))
        submissions = [client.submit(sample[0], format="npy") for _ in range(30)]
        wait_until(lambda: (health.value("fashion_in_flight_deliveries") or 0) >= 10, what="ten deliveries are held")
        worker.terminate()
        health.wait_for("/readyz", (503, "draining\n"))
        assert health.ask("/livez") == (200, "ok\n")
        assert worker.wait() == ExitCode.OK, worker.log
        answered = [submission for submission in submissions if submission.done()]
        assert len(answered) == worker.log.count(" outcome=succeeded") >= 10

    def test_a_taken_port_ends_in_a_sentence(self, start: Start, health: Health) -> None:
        """Before the model is loaded."""
        with socket.create_server(("127.0.0.1", health.port)):
            worker = start_watched(start, health)
            assert worker.wait() == ExitCode.SETTINGS_INVALID
        assert worker.log.startswith(f"Error: Health cannot be asked at 127.0.0.1 port {health.port}")
        assert worker.log.count("\n") == 1

    def test_each_of_several_workers_answers_on_its_own_port(self, start: Start, health: Health) -> None:
        """The first on the one that is set, the second on the next."""
        second = Health()
        while second.port != health.port + 1:  # two neighbours that are free
            health.port, second = second.port, Health(second.port + 1)
        supervisor = start_watched(start, health, "--workers", "2", name="supervisor")
        for port in (health, second):
            port.wait_for("/readyz", (200, "ok\n"))
        supervisor.terminate()
        assert supervisor.wait() == ExitCode.OK, supervisor.log

    def test_the_log_may_be_objects(self, start: Start, client: Client, sample: Sample) -> None:
        """One a line, from ready to drained."""
        worker = start(script(WORKER, "--name", "w-1", "--log-format", "json"), name="w-1")
        worker.wait_for('"event": "ready"')
        client.submit(sample[0][:3], request_id="r-1").result(60)
        worker.wait_for('"event": "delivery"')
        worker.terminate()
        assert worker.wait() == ExitCode.OK, worker.log
        lines = [json.loads(line) for line in worker.log.splitlines()]
        assert [line["event"] for line in lines] == ["ready", "delivery", "drained"]
        assert {name: lines[1][name] for name in ("request_id", "images", "outcome", "worker")} == {
            "request_id": "r-1",
            "images": 3,
            "outcome": "succeeded",
            "worker": "w-1",
        }

    def test_prometheus_scrapes_a_worker(
        self, start: Start, health: Health, client: Client, sample: Sample, tmp_path: Path
    ) -> None:
        """A real one, which takes the rules of docs/ as well, and has the figures and the target's health."""
        start_watched(start, health)
        health.wait_for("/readyz", (200, "ok\n"))
        client.submit(sample[0][:10]).result(60)
        with prometheus(tmp_path, target=f"127.0.0.1:{health.port}") as server:
            wait_until(lambda: queried(server, "fashion_images_total") == ["10"], what="the images are known")
            assert queried(server, 'fashion_deliveries_total{outcome="succeeded"}') == ["1"]
            assert queried(server, "fashion_ready") == queried(server, "up") == ["1"]
            assert asked(f"{server}/api/v1/rules")[1].count('"type":"alerting"') == len(rules())


def test_a_request_leaves_one_trace(settings: Settings, start: Start, sample: Sample) -> None:
    """From the client through the worker to the client again; sent at the latest when each of them ends."""
    with otlp_receiver() as receiver, ExitStack() as stack:
        worker = start(
            script(WORKER, "--name", "w-1"),
            name="w-1",
            worker=WorkerSettings(threads=1),
            telemetry=TelemetrySettings(endpoint=receiver.endpoint),
        )
        worker.wait_for("ready_s=")
        client = Client.open(
            settings.broker,
            settings.store,
            topology=settings.topology,
            client_id="me",
            telemetry_endpoint=receiver.endpoint,
        )
        stack.enter_context(client)
        request_id = client.submit(sample[0]).result(60).request_id
        client.close()
        worker.terminate()
        assert worker.wait() == ExitCode.OK, worker.log
        topics = settings.topology.requests_topic, settings.topology.responses_topic
        wait_for_spans(receiver, {f"publish {topics[0]}", f"process {topics[0]}", f"receive {topics[1]}"})
    (publish,) = receiver.named(f"publish {topics[0]}")
    assert (publish.service, publish.instance, publish.parent_id) == ("fashion-client", "me", "")
    assert publish.attributes["messaging.message.id"] == request_id
    *own, process = receiver.children(publish.span_id)
    assert [span.name for span in own] == ["encode", "upload", "publish"]
    assert (process.name, process.service, process.instance) == (f"process {topics[0]}", "fashion-worker", "w-1")
    *stages, receive = receiver.children(process.span_id)
    assert [span.name for span in stages] == ["fetch", "decode", "wait", "classify", "store", "publish"]
    assert (receive.name, receive.service) == (f"receive {topics[1]}", "fashion-client")
    assert {span.trace_id for span in receiver.spans} == {publish.trace_id}
    assert f"trace={publish.trace_id} outcome=succeeded" in worker.log


def rules() -> list[object]:
    """The alert rules that docs/ shows."""
    text = (REPOSITORY / "docs" / "prometheus-rules.yaml").read_text(encoding="utf-8")
    return [rule for group in yaml.safe_load(text)["groups"] for rule in group["rules"]]


@contextmanager
def prometheus(folder: Path, *, target: str) -> Iterator[str]:
    """Run Prometheus over one target, with the rules of docs/; its address."""
    program = shutil.which("prometheus")
    if program is None:
        absent = "no Prometheus: install the package prometheus"
        if os.environ.get("CI") == "true":
            pytest.fail(absent)
        pytest.skip(absent)
    config = {
        "global": {"scrape_interval": "200ms", "scrape_timeout": "200ms"},
        "rule_files": [str(REPOSITORY / "docs" / "prometheus-rules.yaml")],
        "scrape_configs": [{"job_name": "fashion-worker", "static_configs": [{"targets": [target]}]}],
    }
    (folder / "prometheus.yml").write_text(yaml.safe_dump(config), encoding="utf-8")
    address = f"127.0.0.1:{Health().port}"
    command = [program, f"--config.file={folder}/prometheus.yml", f"--storage.tsdb.path={folder}/tsdb"]
    with (folder / "prometheus.log").open("wb") as log:
        process = subprocess.Popen([*command, f"--web.listen-address={address}"], stdout=log, stderr=log)
    try:
        wait_until(lambda: asked(f"http://{address}/-/ready")[0] == 200, what="Prometheus is ready")
        yield f"http://{address}"
    finally:
        process.terminate()
        process.wait(30)


def queried(server: str, expression: str) -> list[str]:
    """The values of an instant query."""
    status, text = asked(f"{server}/api/v1/query?{urlencode({'query': expression})}")
    assert status == 200, text
    return [found["value"][1] for found in json.loads(text)["data"]["result"]]
