"""A broker that is killed and comes back with nothing: what has no answer is noticed, and asked for again."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from classifiers.protocol import Images
from fashion_client.client import Client
from fashion_client.submission import Submission
from handoff.brokers.urls import open_broker
from handoff.contracts.errors import ExitCode, ResponseTimeout
from handoff.contracts.messages import AnalysisResponse
from handoff.contracts.topology import Topology
from handoff.settings import Settings, WorkerSettings, environment_of
from tests.conftest import serving
from tests.e2e.programs import WORKER, Program, script
from tests.servers import Emulator

Sample = tuple[Images, list[str]]

# Longer than a worker takes on a busy machine, so that few are asked for twice.
ASK_AGAIN_AFTER_S = 5.0
TRIES = 12


@pytest.fixture
def emulator() -> Iterator[Emulator]:
    """An emulator of the test's own, running."""
    emulator = Emulator()

    @contextmanager
    def running() -> Iterator[str]:
        try:
            yield emulator.start()
        finally:
            emulator.kill()

    with serving(running, "PUBSUB_EMULATOR_HOST"):
        yield emulator


@pytest.fixture
def settings(emulator: Emulator, tmp_path: Path) -> Settings:
    """A deployment on it, declared."""
    del emulator
    settings = Settings(
        broker="pubsub://tests",
        store=f"file://{tmp_path}/store",
        topology=Topology(ack_deadline_s=10),
        worker=WorkerSettings(threads=1),
    )
    declare(settings)
    return settings


@pytest.fixture
def worker(settings: Settings, tmp_path: Path) -> Iterator[Program]:
    """A worker of it, ready."""
    environment = environment_of(settings)
    worker = Program(script(WORKER, "--name", "w-1"), environment=environment, folder=tmp_path, name="w-1")
    try:
        worker.wait_for("ready_s=")
        yield worker
    finally:
        worker.clear_away()


def declare(settings: Settings) -> list[str]:
    """What `fashion init` does."""
    with closing(open_broker(settings.broker, settings.topology)) as broker:
        return broker.declare(settings.topology)


def answered(client: Client, submissions: list[Submission]) -> list[AnalysisResponse]:
    """Wait for the responses, and publish again what has none, all of it together, as often as it takes."""
    for _ in range(TRIES):
        ends_at = time.monotonic() + ASK_AGAIN_AFTER_S
        missing = []
        for submission in submissions:
            try:
                submission.response(max(0.0, ends_at - time.monotonic()))
            except ResponseTimeout:
                missing.append(submission)
        for submission in missing:
            client.submit_again(submission)
        if not missing:
            break
    return [submission.response(0) for submission in submissions]


def test_a_broker_that_forgot_everything_is_told_again(
    emulator: Emulator, settings: Settings, worker: Program, sample: Sample
) -> None:
    """SIGKILL with requests waiting and held: worker and client go on, and every request is answered as before."""
    images, _ = sample
    with Client.open(settings.broker, settings.store, topology=settings.topology) as client:
        calm = client.submit(images[:10], request_id="calm").result(60).predictions()
        os.kill(worker.pid, signal.SIGSTOP)
        waiting = [client.submit(images[:10], request_id=f"waiting-{number}") for number in range(20)]
        emulator.kill()
        emulator.start()
        declared = declare(settings)
        assert len(declared) == len(settings.topology.topics) + len(settings.topology.subscriptions)
        os.kill(worker.pid, signal.SIGCONT)
        after = [client.submit(images[:10], request_id=f"after-{number}") for number in range(5)]
        responses = answered(client, [*waiting, *after])
        results = [submission.result(0).predictions() for submission in [*waiting, *after]]
    assert {response.status for response in responses} == {"succeeded"}
    assert all((found.probabilities == calm.probabilities).all() for found in results)
    worker.terminate()
    assert worker.wait() == ExitCode.OK, worker.log
