"""Each row of the table of bad input, sent to a live worker: the stated outcome, and the next good request succeeds."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import numpy as np
import pytest

from handoff.contracts.batches import Batch, encode_batch
from handoff.contracts.envelope import parse_response, request_message
from handoff.contracts.messages import AnalysisRequest, AnalysisResponse
from handoff.contracts.objects import batch_uri
from handoff.contracts.protocols import Broker, Limits, Message, Store
from handoff.contracts.topology import Topology
from tests.conformance.consumer import Consumer
from tests.e2e.conftest import Start

PIXELS = 28 * 28
HEADER = ",".join(f"pixel_{index}" for index in range(PIXELS)) + "\n"
GOOD_ROW = ",".join(["7"] * PIXELS) + "\n"
MAX_BATCH_BYTES = 200_000
MAX_BATCH_IMAGES = 10


def row_with(cell: str) -> str:
    """A row whose fourth cell is this one."""
    return ",".join(["7", "7", "7", cell, *["7"] * (PIXELS - 4)]) + "\n"


# What a batch's bytes are refused for, with words that the sentence must hold.
BATCHES: dict[str, tuple[str, str, list[str]]] = {
    "wrong-column-count": ("pixel_0,pixel_1\n1,2\n", "invalid_batch", ["pixel columns"]),
    "ragged": (HEADER + GOOD_ROW + "1,2,3\n", "invalid_batch", ["row 2", "pixel_3"]),
    "text": (HEADER + row_with("seven"), "invalid_batch", ["row 1", "pixel_3", "seven"]),
    "nan": (HEADER + row_with("nan"), "invalid_batch", ["row 1", "pixel_3"]),
    "below-0": (HEADER + row_with("-1"), "invalid_batch", ["row 1", "pixel_3"]),
    "over-255": (HEADER + row_with("256"), "invalid_batch", ["row 1", "pixel_3"]),
    "empty": ("", "invalid_batch", ["empty"]),
    "no-rows": (HEADER, "invalid_batch", ["no images"]),
    "too-many-bytes": ("7" * (MAX_BATCH_BYTES + 1), "payload_too_large", [str(MAX_BATCH_BYTES)]),
    "too-many-rows": (HEADER + GOOD_ROW * (MAX_BATCH_IMAGES + 1), "payload_too_large", [str(MAX_BATCH_IMAGES)]),
}

# What a request is refused for, though its batch is good.
REQUESTS: dict[str, tuple[dict[str, Any], str]] = {
    "outside": ({"batch_uri": "gs://another-bucket/images.csv"}, "payload_forbidden"),
    "traversal": ({"batch_uri": "{root}/../images.csv"}, "payload_forbidden"),
    "other-scheme": ({"batch_uri": "http://127.0.0.1/images.csv"}, "payload_forbidden"),
    "missing": ({"batch_uri": "{root}/requests/none/images.csv"}, "payload_not_found"),
    "checksum": ({"checksum": "sha256:" + 64 * "0"}, "payload_corrupt"),
    "count": ({"image_count": 2}, "invalid_batch"),
    "too-many": ({"image_count": MAX_BATCH_IMAGES + 1}, "payload_too_large"),
    "model": ({"model": "another"}, "unknown_model"),
    "deadline": ({"deadline": datetime.now(UTC) - timedelta(seconds=1)}, "deadline_exceeded"),
}

# What is no request at all: the body, and attributes that differ; the last two can be told to their sender.
MESSAGES: dict[str, tuple[bytes, dict[str, str]]] = {
    "no-json": (b"\xff{", {}),
    "json-of-something-else": (b'["r"]', {}),
    "unknown-version": (b'{"request_id": "unknown-version"}', {"ce-type": "fashion.analysis.requested.v9"}),
    "missing-field": (b'{"request_id": "missing-field", "format": "csv"}', {}),
}


class Line:
    """A live worker's two ends: requests in, responses and dead letters out."""

    def __init__(self, broker: Broker, store: Store, topology: Topology) -> None:
        self._broker = broker
        self._store = store
        self._topology = topology
        self._responses = Consumer(broker.subscribe(topology.responses, Limits()))
        self._dead_letters = Consumer(broker.subscribe(topology.dead_letters, Limits()))

    def request(self, request_id: str, data: bytes, **changes: Any) -> Message:  # noqa: ANN401
        """Store a batch and make the request for it."""
        uri = batch_uri(self._store.root, request_id, "csv")
        self._store.create(uri, data)
        said: dict[str, Any] = {
            "request_id": request_id,
            "batch_uri": uri,
            "format": "csv",
            "image_count": 1,
            "checksum": "sha256:" + hashlib.sha256(data).hexdigest(),
        }
        said |= changes
        said["batch_uri"] = said["batch_uri"].format(root=self._store.root)
        return request_message(AnalysisRequest(**said), client_id="console-1", now=datetime.now(UTC))

    def good(self, request_id: str) -> Message:
        """A request that succeeds."""
        return self.request(request_id, encode_batch(Batch(np.zeros((1, 28, 28, 1), np.uint8), ["0"]), format="csv"))

    def send(self, *messages: Message) -> None:
        """Publish in order."""
        for message in messages:
            self._broker.publish(self._topology.requests_topic, message).result(30)

    def responses(self, count: int) -> Mapping[str, AnalysisResponse]:
        """Wait for so many responses, by request."""
        found = {}
        for _ in range(count):
            (delivery,) = self._responses.take(within_s=60)
            response = parse_response(delivery.message)
            found[response.request_id] = response
            delivery.ack()
        return found

    def dead_letters(self, count: int) -> list[Message]:
        """Wait for so many dead letters."""
        found = []
        for _ in range(count):
            (delivery,) = self._dead_letters.take(within_s=60)
            found.append(delivery.message)
            delivery.ack()
        return found


@pytest.fixture
def line(broker: Broker, store: Store, topology: Topology, start_worker: Start) -> Line:
    """A worker with small bounds."""
    start_worker("worker-a", max_batch_bytes=MAX_BATCH_BYTES, max_batch_images=MAX_BATCH_IMAGES)
    return Line(broker, store, topology)


def check_good(responses: Mapping[str, AnalysisResponse], names: Mapping[str, object]) -> None:
    """After each bad request a good one was sent, and it succeeded."""
    assert {name: responses[f"after-{name}"].status for name in names} == dict.fromkeys(names, "succeeded")


def test_bad_batches_are_answered_with_row_and_column(line: Line) -> None:
    """One failed response each, at the first attempt, under the stated code."""
    for name, (text, _, _) in BATCHES.items():
        line.send(line.request(name, text.encode()), line.good(f"after-{name}"))
    responses = line.responses(2 * len(BATCHES))
    check_good(responses, BATCHES)
    for name, (_, code, words) in BATCHES.items():
        response = responses[name]
        assert (response.status, response.attempt) == ("failed", 1), name
        assert response.error is not None
        assert response.error.code == code, name
        assert [word for word in words if word not in response.error.message] == [], response.error.message


def test_requests_that_cannot_succeed_are_answered_so(line: Line) -> None:
    """Addresses outside, missing or changed objects, other models, passed deadlines: never a redelivery.

    The row of a store that does not answer is tests/e2e/test_store_outage.py's.
    """
    batch = encode_batch(Batch(np.zeros((1, 28, 28, 1), np.uint8), ["0"]), format="csv")
    for name, (changes, _) in REQUESTS.items():
        line.send(line.request(name, batch, **changes), line.good(f"after-{name}"))
    responses = line.responses(2 * len(REQUESTS))
    check_good(responses, REQUESTS)
    found = {name: (responses[name].status, responses[name].error and responses[name].attempt) for name in REQUESTS}
    assert found == dict.fromkeys(REQUESTS, ("failed", 1))
    codes = {name: error.code for name in REQUESTS if (error := responses[name].error)}
    assert codes == {name: code for name, (_, code) in REQUESTS.items()}


def test_what_is_no_request_becomes_a_dead_letter(line: Line) -> None:
    """With the reason on it and otherwise as it was; who can be told is told."""
    for name, (body, attributes) in MESSAGES.items():
        good = line.good(f"after-{name}")
        line.send(Message(body=body, attributes={**good.attributes, **attributes}), good)
    told = {"unknown-version", "missing-field"}
    responses = line.responses(len(MESSAGES) + len(told))
    check_good(responses, MESSAGES)
    errors = {name: responses[name].error for name in told}
    assert {name: error and error.code for name, error in errors.items()} == dict.fromkeys(told, "malformed_message")
    letters = line.dead_letters(len(MESSAGES))
    assert sorted(letter.body for letter in letters) == sorted(body for body, _ in MESSAGES.values())
    assert {letter.attributes["dead-letter-code"] for letter in letters} == {"malformed_message"}
    assert all(letter.attributes["dead-letter-reason"] for letter in letters)
    (of_tomorrow,) = [letter for letter in letters if b"unknown-version" in letter.body]
    assert "v9" in of_tomorrow.attributes["dead-letter-reason"]


def test_fields_of_tomorrow_are_ignored(line: Line) -> None:
    """A request with a field that is unknown here is a request."""
    good = line.good("r-1")
    line.send(Message(body=msgspec.json.encode(msgspec.json.decode(good.body) | {"x": 1}), attributes=good.attributes))
    assert line.responses(1)["r-1"].status == "succeeded"
