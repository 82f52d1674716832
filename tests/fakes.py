"""Small stand-ins for what lies outside: a store, a broker, deliveries and a model, all in memory."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from classifiers.protocol import Images, Probabilities
from handoff.artifacts import Artifact
from handoff.contracts.batches import encode_batch
from handoff.contracts.envelope import request_message
from handoff.contracts.errors import BrokerUnavailable, FashionError, PayloadNotFound, PayloadTooLarge, StoreUnavailable
from handoff.contracts.images import Batch
from handoff.contracts.manifest import Manifest
from handoff.contracts.messages import AnalysisRequest, AnalysisResponse
from handoff.contracts.objects import batch_uri
from handoff.contracts.protocols import Delivery, Limits, Message, ObjectInfo
from handoff.contracts.topology import SubscriptionSpec
from handoff.stores.address import key_below, prefix_below

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
SIDE = 2
MANIFEST = Manifest(
    name="fashion",
    version="7",
    labels=["dark", "bright"],
    input_shape=(SIDE, SIDE, 1),
    files={"model.onnx": "sha256:" + 64 * "a"},
    graph="model.onnx",
    accuracy=0.9,
    validation_accuracy=0.9,
    seed=1,
    preset="quick",
    commit="unknown",
    packages={},
    created_at="2026-01-02T03:04:05Z",
)
ARTIFACT = Artifact(Path("artifacts/7"), MANIFEST)


class FakeStore:
    """Objects in a dictionary; `failures` counts down the calls that the store does not answer."""

    root = "memory://store"

    def __init__(self) -> None:
        self.objects: dict[str, bytes] = {}
        self.failures = 0
        self.creates: list[str] = []
        self.reads: list[str] = []

    def declare(self) -> list[str]:
        """Nothing to make."""
        return []

    def read(self, uri: str, *, max_bytes: int) -> bytes:
        """Read an object."""
        self._answer(uri)
        self.reads.append(uri)
        if uri not in self.objects:
            raise PayloadNotFound(f"There is no object at {uri}.")
        if len(self.objects[uri]) > max_bytes:
            raise PayloadTooLarge(f"The object has {len(self.objects[uri])} bytes; at most {max_bytes} are read.")
        return self.objects[uri]

    def create(self, uri: str, data: bytes) -> bool:
        """Write an object unless one is there."""
        self._answer(uri)
        self.creates.append(uri)
        # A copy: the same object given twice must not look as if it were new twice.
        copy = bytes(bytearray(data))
        return self.objects.setdefault(uri, copy) is copy

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        """List objects."""
        prefix_below(self.root, prefix)
        found = sorted(uri for uri in self.objects if uri.startswith(prefix))
        return (ObjectInfo(uri=uri, size_bytes=len(self.objects[uri])) for uri in found)

    def delete(self, uri: str) -> None:
        """Remove an object."""
        self.objects.pop(uri, None)

    def _answer(self, uri: str) -> None:
        key_below(self.root, uri)
        if self.failures:
            self.failures -= 1
            raise StoreUnavailable("The store did not answer.")


class FakeDelivery:
    """A delivery that remembers how it ended."""

    def __init__(self, message: Message, *, attempt: int = 1) -> None:
        self.message = message
        self.attempt = attempt
        self.ends: list[str] = []
        self.delay_s: float | None = None

    def ack(self) -> None:
        """End it, unless it has ended."""
        if not self.ends:
            self.ends.append("ack")

    def nack(self, delay_s: float = 0.0) -> None:
        """Give it back, unless it has ended."""
        if not self.ends:
            self.ends.append("nack")
            self.delay_s = delay_s


class FakeSubscription:
    """Yields what it was given, then waits for `close` unless it was closed beforehand."""

    def __init__(self, deliveries: Sequence[Delivery] = (), *, closed: bool = True) -> None:
        self.deliveries = list(deliveries)
        self.closed = threading.Event()
        if closed:
            self.closed.set()

    def __iter__(self) -> Iterator[Delivery]:
        yield from self.deliveries
        assert self.closed.wait(30), "nobody closed the subscription"

    def close(self) -> None:
        """End the iteration."""
        self.closed.set()


class FakeBroker:
    """Keeps what was published; `failures` counts down the publishes that fail."""

    def __init__(self, subscription: FakeSubscription | None = None) -> None:
        self.published: list[tuple[str, Message]] = []
        self.subscribed: list[SubscriptionSpec] = []
        self.failures = 0
        self.closed = False
        self._subscription = subscription or FakeSubscription()

    def publish(self, topic: str, message: Message) -> Future[str]:
        """Keep a message."""
        future: Future[str] = Future()
        if self.failures:
            self.failures -= 1
            future.set_exception(BrokerUnavailable("The broker did not answer."))
        else:
            self.published.append((topic, message))
            future.set_result(str(len(self.published)))
        return future

    def subscribe(self, subscription: SubscriptionSpec, limits: Limits) -> FakeSubscription:
        """Give the one subscription."""
        del limits
        self.subscribed.append(subscription)
        return self._subscription

    def close(self) -> None:
        """Remember it."""
        self.closed = True

    def responses(self) -> list[AnalysisResponse]:
        """Every response published, parsed."""
        bodies = [message.body for topic, message in self.published if topic == "image-analysis-outputs"]
        return [msgspec.json.decode(body, type=AnalysisResponse) for body in bodies]

    def dead_letters(self) -> list[Message]:
        """Every dead letter published."""
        return [message for topic, message in self.published if topic == "image-analysis-dead-letters"]


class BrightnessClassifier:
    """Calls an image bright when its mean is over the middle; counts what it was asked."""

    def __init__(self) -> None:
        self.sizes: list[int] = []
        self.errors: list[Exception] = []

    def classify(self, images: Images) -> Probabilities:
        """Classify images."""
        self.sizes.append(len(images))
        if self.errors:
            raise self.errors.pop(0)
        bright = images.reshape(len(images), -1).mean(axis=1) / 255
        return np.stack([1 - bright, bright], axis=1).astype(np.float32)

    def warm_up(self, sizes: list[int]) -> None:
        """Nothing to warm."""


class Unheard(FashionError):
    """An error that no part of the program knows."""

    code = "unheard"


def images_of(*levels: int) -> Images:
    """One image a level, every pixel of it at that level."""
    return np.array(levels, np.uint8)[:, None, None, None] * np.ones((1, SIDE, SIDE, 1), np.uint8)


def batch_of(*levels: int, labels: list[str] | None = None) -> Batch:
    """A batch with one image a level."""
    return Batch(images_of(*levels), [f"image-{position}" for position in range(len(levels))], labels)


def upload(store: FakeStore, request_id: str, batch: Batch, **changes: Any) -> AnalysisRequest:  # noqa: ANN401
    """Store a batch as a client does, and make the request for it; `changes` replace what it says."""
    data = encode_batch(batch, format="csv")
    uri = batch_uri(store.root, request_id, "csv")
    store.create(uri, data)
    said: dict[str, Any] = {
        "request_id": request_id,
        "batch_uri": uri,
        "format": "csv",
        "image_count": len(batch),
        "checksum": "sha256:" + hashlib.sha256(data).hexdigest(),
    }
    return AnalysisRequest(**(said | changes))


def delivery_of(request: AnalysisRequest, *, attempt: int = 1, client_id: str = "console-1") -> FakeDelivery:
    """A delivery of a request's message."""
    return FakeDelivery(request_message(request, client_id=client_id, now=NOW), attempt=attempt)
