"""Between any two steps of an answer its worker may die: the next one finishes it, once, with the same bytes."""

from __future__ import annotations

import hashlib
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path

import pytest
from msgspec.structs import replace

from classifiers.protocol import Images
from fashion_client.client import Client
from handoff.contracts.envelope import parse_response, request_message
from handoff.contracts.errors import ExitCode
from handoff.contracts.protocols import Broker, Limits, Store
from handoff.contracts.topology import Topology
from tests.conformance.consumer import Consumer
from tests.e2e.conftest import Start
from tests.e2e.dying_worker import POINTS
from tests.e2e.programs import RECEIVE, script

Sample = tuple[Images, list[str]]

DYING_WORKER = Path(__file__).with_name("dying_worker.py")
ANSWER_WITHIN_S = 90.0


def objects_of(store: Store, request_id: str) -> dict[str, str]:
    """The digests of everything below a request's results, by the objects' names."""
    found = store.list(f"{store.root}/results/{request_id}/")
    return {
        entry.uri.rpartition("/")[2]: hashlib.sha256(store.read(entry.uri, max_bytes=1_000_000)).hexdigest()
        for entry in found
    }


@pytest.mark.parametrize("point", POINTS)
def test_a_worker_that_dies_on_the_way_leaves_the_rest_to_the_next(
    start: Start, start_worker: Start, client: Client, store: Store, sample: Sample, point: str
) -> None:
    """Answered once, byte for byte as on a calm day; classified again only where nothing was stored."""
    images, labels = sample
    receiving = start(script(RECEIVE, "--count", "2", "--json"), name="receive")
    dying = start([*script(DYING_WORKER, point, "--name", "dying")], name="dying")
    dying.wait_for("ready_s=")
    submission = client.submit(images[:50], labels=labels[:50], request_id="r-0")
    assert dying.wait() == -9
    left = objects_of(store, "r-0")
    start_worker("living")
    response = submission.response(ANSWER_WITHIN_S)
    calm = client.submit(images[:50], labels=labels[:50], request_id="calm").result(ANSWER_WITHIN_S)
    assert response.predictions == calm.response.predictions
    found = objects_of(store, "r-0")
    assert found["predictions.csv"] == objects_of(store, "calm")["predictions.csv"]
    assert set(found) == {"predictions.csv", "response.json"}
    assert left.items() <= found.items()
    stored = point in {"before-publishing", "before-ack"}
    assert set(left) == (set(found) if stored else {"predictions.csv"} if point == "between-objects" else set())
    # What was stored whole is told as it stands; the dead worker's name in it shows that nobody classified again.
    assert (response.worker, response.attempt) == (("dying", 1) if stored else ("living", 2))
    assert receiving.wait(within_s=ANSWER_WITHIN_S) == ExitCode.OK, receiving.log
    shown = Counter(line.split()[0] for line in receiving.output.splitlines() if " images" in line)
    assert (shown["r-0"], shown["calm"]) == (1, 1)


def test_another_request_under_an_answered_id_is_refused(
    start_worker: Start, client: Client, broker: Broker, topology: Topology, store: Store, sample: Sample
) -> None:
    """Its sender is told to use another id, and what was answered stays."""
    images, _ = sample
    start_worker("w-1")
    client.submit(images[:5], request_id="taken").result(ANSWER_WITHIN_S)
    objects = objects_of(store, "taken")
    other = client.submit(images[5:10], request_id="other")
    other.result(ANSWER_WITHIN_S)
    asked = replace(other.request, request_id="taken")
    message = request_message(asked, client_id="stranger", now=datetime.now(UTC))
    broker.publish(topology.requests_topic, message).result()
    deliveries = Consumer(broker.subscribe(topology.responses, Limits())).take(3, within_s=ANSWER_WITHIN_S)
    responses = [parse_response(delivery.message) for delivery in deliveries]
    (failed,) = [response for response in responses if response.status == "failed"]
    assert failed.request_id == "taken"
    assert failed.error is not None
    assert failed.error.code == "request_conflict"
    assert "use a new id" in failed.error.message
    assert objects_of(store, "taken") == objects
