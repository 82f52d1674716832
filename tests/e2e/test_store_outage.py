"""A live worker whose store does not answer for one object: retries with backoff, in the end a dead letter."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from msgspec.structs import replace

from classifiers.protocol import Images
from fashion_client.client import Client
from handoff.contracts.batches import Batch, encode_batch
from handoff.contracts.objects import batch_uri
from handoff.contracts.protocols import Broker, Limits, Store
from handoff.contracts.topology import Topology
from tests.conformance.consumer import Consumer
from tests.e2e.conftest import Start


@pytest.fixture
def deployment() -> tuple[str, str]:
    """The one whose store can be broken object by object, from outside."""
    return "embedded", "file"


@pytest.fixture
def topology(topology: Topology) -> Topology:
    """Three attempts: two retries, after about one and two seconds."""
    return replace(topology, max_attempts=3)


def break_object(store: Store, request_id: str) -> Path:
    """Put a node where a request's batch will be looked for that the file system has but cannot open."""
    path = Path(urlsplit(batch_uri(store.root, request_id, "csv")).path)
    path.parent.mkdir(parents=True)
    os.mknod(path, stat.S_IFSOCK | 0o600)
    return path


def test_a_store_that_never_answers_ends_in_a_dead_letter(
    start_worker: Start,
    client: Client,
    broker: Broker,
    store: Store,
    topology: Topology,
    sample: tuple[Images, list[str]],
) -> None:
    """After `max_attempts`, with the reason; requests beside it are answered meanwhile."""
    worker = start_worker("w-1")
    break_object(store, "broken")
    client.submit(sample[0][:1], request_id="broken")
    assert client.submit(sample[0][:5]).result(60).response.attempt == 1
    (delivery,) = Consumer(broker.subscribe(topology.dead_letters, Limits())).take(within_s=60)
    assert delivery.message.attributes["dead-letter-code"] == "store_unavailable"
    assert delivery.message.attributes["dead-letter-attempts"] == "3"
    assert worker.log.count("request=broken") == topology.max_attempts
    assert client.submit(sample[0][:5]).result(60).response.status == "succeeded"


def test_a_store_that_answers_again_is_waited_for(
    start_worker: Start, client: Client, store: Store, sample: tuple[Images, list[str]]
) -> None:
    """The same request succeeds at a later attempt, and nobody sees the failures."""
    worker = start_worker("w-1")
    path = break_object(store, "late")
    submission = client.submit(sample[0][:1], request_id="late")
    worker.wait_for("request=late")
    path.unlink()
    store.create(batch_uri(store.root, "late", "csv"), encode_batch(Batch(sample[0][:1], ["0"]), format="csv"))
    assert submission.result(60).response.attempt > 1
