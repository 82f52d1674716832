"""A live worker whose store does not answer for one object: retries with backoff, in the end a dead letter."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from classifiers.protocol import Images
from fashion_client.client import Client
from handoff.contracts.protocols import Broker, Limits
from handoff.contracts.topology import Topology
from tests.conformance.consumer import Consumer
from tests.e2e.broken_batch import BrokenBatch
from tests.e2e.conftest import Start


@pytest.fixture
def deployment() -> tuple[str, str]:
    """The one whose store can be broken object by object, from outside."""
    return "embedded", "file"


@pytest.fixture
def topology(topology: Topology) -> Topology:
    """Three attempts: two retries, after about one and two seconds."""
    return replace(topology, max_attempts=3)


def test_a_store_that_never_answers_ends_in_a_dead_letter(
    start_worker: Start,
    client: Client,
    broker: Broker,
    topology: Topology,
    sample: tuple[Images, list[str]],
) -> None:
    """After `max_attempts`, with the reason; requests beside it are answered meanwhile."""
    worker = start_worker("w-1")
    BrokenBatch(client, sample[0][:1], request_id="broken")
    assert client.submit(sample[0][:5]).result(60).response.attempt == 1
    (delivery,) = Consumer(broker.subscribe(topology.dead_letters, Limits())).take(within_s=60)
    assert delivery.message.attributes["dead-letter-code"] == "store_unavailable"
    assert delivery.message.attributes["dead-letter-attempts"] == "3"
    assert worker.log.count("request=broken") == topology.max_attempts
    assert client.submit(sample[0][:5]).result(60).response.status == "succeeded"


def test_a_store_that_answers_again_is_waited_for(
    start_worker: Start, client: Client, sample: tuple[Images, list[str]]
) -> None:
    """The same request succeeds at a later attempt, and nobody sees the failures."""
    worker = start_worker("w-1")
    late = BrokenBatch(client, sample[0][:1], request_id="late")
    worker.wait_for("request=late")
    late.mend()
    assert late.submission.result(60).response.attempt > 1
