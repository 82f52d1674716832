"""Kafka with real processes, in both modes: work is shared out, and nothing is lost to whoever is killed."""

from __future__ import annotations

import re
import signal
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from classifiers.protocol import Images
from fashion_client.client import Client
from handoff.brokers.dead_letters import MAX_ATTEMPTS_CODE, burial_of, original_message
from handoff.brokers.urls import open_broker
from handoff.contracts.envelope import parse_request
from handoff.contracts.errors import ExitCode
from handoff.contracts.protocols import Limits
from handoff.settings import ClientSettings, Settings
from handoff.stores.urls import open_store
from tests.conformance.consumer import Consumer
from tests.conftest import started, unique_topology
from tests.e2e.conftest import Start
from tests.e2e.programs import REQUEST, Program, script, wait_until
from tests.kafka_server import KafkaServer

# The least of Kafka's classic groups; noticing a death takes about as long.
ACK_DEADLINE_S = 6.0
# Answers come at once but for what a death or a restart delays, several ack deadlines at worst.
ANSWERED_WITHIN_S = 110.0
# A consumer group has work for as many workers as partitions.
PARTITIONS = {"consumer-group": 8, "share-group": 2}
DYING_WORKER = Path(__file__).with_name("dying_worker.py")

Sample = tuple[Images, list[str]]


@pytest.fixture(scope="module")
def server() -> Iterator[KafkaServer]:
    """A broker of this module's own: it is killed here."""
    with started(KafkaServer) as server:
        yield server


@pytest.fixture(params=PARTITIONS)
def mode(request: pytest.FixtureRequest) -> str:
    """How work is shared out."""
    return str(request.param)


@pytest.fixture
def settings(server: KafkaServer, mode: str, tmp_path: Path) -> Settings:
    """A deployment of the test's own, declared."""
    settings = Settings(
        broker=f"kafka://{server.address}?partitions={PARTITIONS[mode]}&mode={mode}",
        store=f"file://{tmp_path}/store",
        topology=unique_topology(ack_deadline_s=ACK_DEADLINE_S, max_attempts=3),
        # Longer than what is delayed by a death takes to come, so that it comes by itself.
        client=ClientSettings(timeout_s=90.0),
    )
    open_store(settings.store).declare()
    with closing(open_broker(settings.broker, settings.topology)) as broker:
        broker.declare(settings.topology)
    return settings


def request(start: Start, count: int) -> Program:
    """Publish so many requests of one image each, and show their responses."""
    return start(
        script(REQUEST, "--batch-size", "1", "--repeat", "10", "--count", str(count), "--wait", "--json"),
        name="request",
    )


def shown(requesting: Program) -> list[str]:
    """The ids of the requests whose responses were shown, as often as they were."""
    return re.findall(r"(?m)^([0-9a-f]{12}-[0-9]+)  1 images", requesting.output)


def assert_answered_once(requesting: Program, count: int) -> None:
    """Wait for its end: every request was answered, none was missing, failed or shown twice."""
    assert requesting.wait(within_s=ANSWERED_WITHIN_S) == ExitCode.OK, requesting.log
    found = requesting.figures
    assert (found["answered"], found["missing"], found["failed"]) == (count, 0, 0)
    assert max(Counter(shown(requesting)).values()) == 1
    assert len(shown(requesting)) == count


def served(worker: Program) -> int:
    """How many requests a worker has answered."""
    return worker.log.count(" outcome=succeeded")


@pytest.mark.parametrize("mode", ["share-group"])
def test_four_workers_share_two_partitions(start: Start, start_worker: Start) -> None:
    """More workers than partitions: of 2,000 requests each does at least 15 %."""
    workers = [start_worker(f"w-{number}") for number in range(4)]
    requesting = request(start, 2_000)
    assert_answered_once(requesting, 2_000)
    counts = [served(worker) for worker in workers]
    assert sum(counts) == 2_000
    assert min(counts) >= 300, counts


def test_two_of_four_workers_are_killed(start: Start, start_worker: Start) -> None:
    """SIGKILL in mid-load: the others answer what those held, and nothing is shown twice."""
    workers = [start_worker(f"w-{number}", max_in_flight=16) for number in range(4)]
    requesting = request(start, 2_000)
    wait_until(lambda: sum(map(served, workers)) > 300, what="300 answers")
    for worker in workers[:2]:
        worker.kill()
    assert sum(map(served, workers)) < 2_000
    assert_answered_once(requesting, 2_000)


def test_the_broker_is_killed_and_comes_back(server: KafkaServer, start: Start, start_worker: Start) -> None:
    """SIGKILL under load: workers and client go on with the same broker when it is there again."""
    workers = [start_worker(f"w-{number}", max_in_flight=16) for number in range(2)]
    requesting = request(start, 2_000)
    wait_until(lambda: sum(map(served, workers)) > 300, what="300 answers")
    server.kill()
    assert sum(map(served, workers)) < 2_000
    server.start()
    assert_answered_once(requesting, 2_000)
    for worker in workers:
        worker.terminate()
        assert worker.wait() == ExitCode.OK, worker.log


def test_a_message_that_kills_its_worker_becomes_a_dead_letter(
    settings: Settings, start: Start, client: Client, sample: Sample
) -> None:
    """Each worker that takes it dies; after `max_attempts` deaths it is set aside, and the next request is answered."""
    images, _ = sample
    client.submit(images[:3], request_id="poison")
    for number in range(settings.topology.max_attempts):
        worker = start([*script(DYING_WORKER, "poisoned", "--name", f"w-{number}")], name=f"w-{number}")
        assert worker.wait() == -signal.SIGKILL, worker.log
    start([*script(DYING_WORKER, "poisoned", "--name", "last")], name="last")
    with closing(open_broker(settings.broker, settings.topology)) as broker:
        (letter,) = Consumer(broker.subscribe(settings.topology.dead_letters, Limits())).take(within_s=60)
        burial = burial_of(letter.message)
        assert parse_request(original_message(letter.message)).request.request_id == "poison"
        assert (burial.code, burial.attempts) == (MAX_ATTEMPTS_CODE, settings.topology.max_attempts)
        letter.ack()
    assert client.submit(images[:3], request_id="harmless").response(60).status == "succeeded"
