"""A service in memory: answers what a client publishes, in whatever order a test wants."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future

import numpy as np

from fashion_client.client import Client, Receive
from handoff.contracts.batches import decode_batch
from handoff.contracts.envelope import parse_request, response_message
from handoff.contracts.errors import BrokerUnavailable, PayloadNotFound
from handoff.contracts.messages import AnalysisRequest, AnalysisResponse, FailureReason, ModelReference, encode_body
from handoff.contracts.objects import predictions_uri, response_uri
from handoff.contracts.predictions import encode_predictions
from handoff.contracts.protocols import Delivery, Message
from handoff.contracts.topology import Topology
from handoff.stores.responses import read_response
from tests.fakes import MANIFEST, NOW, SIDE, BrightnessClassifier, FakeBroker, FakeDelivery, FakeStore, FakeSubscription

END = object()


class Incoming(FakeSubscription):
    """A subscription that is fed while it is iterated."""

    def __init__(self) -> None:
        super().__init__(closed=False)
        self._coming: queue.SimpleQueue[object] = queue.SimpleQueue()

    def __iter__(self) -> Iterator[Delivery]:
        while (item := self._coming.get(timeout=30)) is not END:
            if isinstance(item, Exception):
                raise item
            assert isinstance(item, FakeDelivery)
            yield item

    def deliver(self, item: FakeDelivery | Exception) -> None:
        """Let something come."""
        self._coming.put(item)

    def close(self) -> None:
        """End the iteration."""
        self._coming.put(END)


class AnsweringBroker(FakeBroker):
    """Hands every request to a function as soon as it is published."""

    def __init__(self, incoming: Incoming, answer: Callable[[AnalysisRequest], None]) -> None:
        super().__init__(incoming)
        self._answer = answer

    def publish(self, topic: str, message: Message) -> Future[str]:
        """Keep a message, and answer it."""
        published = super().publish(topic, message)
        self._answer(parse_request(message).request)
        return published


class AnsweringService:
    """Classifies by brightness; `hold` more than one request to answer them in reverse order.

    Requests whose number (the end of their id) is in `failing` fail, and those in `ignored` are never answered.
    """

    def __init__(self, *, hold: int = 1) -> None:
        self.store = FakeStore()
        self.classifier = BrightnessClassifier()
        self.labels = list(MANIFEST.labels)
        self.failing: set[int] = set()
        self.ignored: set[int] = set()
        self.lost: set[int] = set()
        """Answered, but the message does not arrive."""
        self.requested: list[str] = []
        self.most_open = 0
        self._hold = hold
        self._lock = threading.Lock()
        self._held: list[AnalysisRequest] = []
        self._incoming = Incoming()

    def client(self, *, client_id: str = "me", receive: Receive = "own") -> Client:
        """Connect, as another process does."""
        self._incoming = Incoming()
        self._held = []
        return Client(
            self.broker(self._incoming), store=self.store, topology=Topology(), client_id=client_id, receive=receive
        )

    def broker(self, incoming: Incoming) -> FakeBroker:
        """The connection of one client, which receives what is put into `incoming`."""
        return AnsweringBroker(incoming, self.take)

    def break_broker(self) -> None:
        """Let the client's subscription fail."""
        self._incoming.deliver(BrokerUnavailable("Gone."))

    def release(self) -> None:
        """Answer what is held, the last first."""
        while self._held:
            self._respond(self._held.pop())

    def take(self, request: AnalysisRequest) -> None:
        """Answer a request, or keep it until enough are held."""
        with self._lock:  # a client uploads in several threads
            self._take_one(request)

    def _take_one(self, request: AnalysisRequest) -> None:
        self.requested.append(request.request_id)
        if _number(request) in self.ignored:
            return
        self._held.append(request)
        self.most_open = max(self.most_open, len(self._held))
        if len(self._held) >= self._hold:
            self.release()

    def _respond(self, request: AnalysisRequest) -> None:
        response = read_response(self.store, request.request_id) or self._classify(request)
        if _number(request) not in self.lost:
            message = response_message(response, client_id="me", traceparent=None, source="/workers/w", now=NOW)
            self._incoming.deliver(FakeDelivery(message))

    def _classify(self, request: AnalysisRequest) -> AnalysisResponse:
        said = {"request_id": request.request_id, "image_count": request.image_count, "worker": "w", "attempt": 1}
        try:
            data = self.store.read(request.batch_uri, max_bytes=1_000_000)
        except PayloadNotFound as error:
            return AnalysisResponse(status="failed", error=FailureReason(error.code, str(error)), **said)  # type: ignore[arg-type]
        if _number(request) in self.failing:
            return AnalysisResponse(status="failed", error=FailureReason("unknown_model", "Not here."), **said)  # type: ignore[arg-type]
        images = decode_batch(
            data, format=request.format, image_shape=(SIDE, SIDE, 1), max_images=1000, max_bytes=1_000_000
        ).images
        probabilities = self.classifier.classify(images)
        uri = predictions_uri(self.store.root, request.request_id)
        self.store.create(uri, encode_predictions(list(map(str, range(len(images)))), probabilities, self.labels))
        counts = np.bincount(probabilities.argmax(axis=1), minlength=len(self.labels)).tolist()
        response = AnalysisResponse(
            status="succeeded",
            predictions_uri=uri,
            label_counts={label: count for label, count in zip(self.labels, counts, strict=True) if count},
            model=ModelReference("fashion", "7", "sha256:0"),
            **said,  # type: ignore[arg-type]
        )
        self.store.create(response_uri(self.store.root, request.request_id), encode_body(response))
        return response


def _number(request: AnalysisRequest) -> int:
    return int(request.request_id.rpartition("-")[2])
