"""Receiving responses: each request once, whatever the broker redelivers."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from concurrent.futures import Future

from handoff.contracts.envelope import client_id_of, parse_response, traceparent_of
from handoff.contracts.errors import FashionError, MalformedMessage
from handoff.contracts.messages import AnalysisResponse
from handoff.contracts.protocols import Delivery, Message, Subscription
from handoff.telemetry.tracing import NO_TRACER, Span, Tracer, messaging_attributes

_log = logging.getLogger(__name__)

# 100 bytes each: a hundred megabytes at most, for a console that ran for weeks.
REMEMBERED_REQUESTS = 1_000_000


class Seen:
    """Remembers the last requests that were shown."""

    def __init__(self, *, most: int = REMEMBERED_REQUESTS) -> None:
        self._most = most
        self._request_ids: dict[str, None] = {}

    def add(self, request_id: str) -> bool:
        """Remember a request; False when it was remembered already."""
        if request_id in self._request_ids:
            return False
        self._request_ids[request_id] = None
        if len(self._request_ids) > self._most:
            del self._request_ids[next(iter(self._request_ids))]
        return True


def once_each(subscription: Subscription, *, tracer: Tracer = NO_TRACER, topic: str = "") -> Iterator[AnalysisResponse]:
    """Yield each request's response once; a delivery is acked after its response was handled."""
    seen = Seen()
    for delivery in subscription:
        response = readable_response(delivery)
        if response is not None and seen.add(response.request_id):
            _receiving(tracer, topic, delivery.message, response.request_id).end()
            yield response
        delivery.ack()


def readable_response(delivery: Delivery) -> AnalysisResponse | None:
    """Parse a response; None, with a line in the log, for a message that is none."""
    try:
        return parse_response(delivery.message)
    except MalformedMessage as error:
        _log.warning("a message that is no response was skipped: %s", error)
        return None


def _receiving(tracer: Tracer, topic: str, message: Message, request_id: str) -> Span:
    """The span of a response's arrival, in the trace that the worker repeated from the request."""
    said = messaging_attributes("receive", topic=topic, request_id=request_id, client_id=client_id_of(message))
    return tracer.span(f"receive {topic}", kind="consumer", parent=traceparent_of(message), attributes=said)


class Receiver:
    """Hands the responses of one client's own subscription to whoever waits for them."""

    def __init__(self, subscription: Subscription, *, tracer: Tracer = NO_TRACER, topic: str = "") -> None:
        self._subscription = subscription
        self._tracer = tracer
        self._topic = topic
        self._waiting: dict[str, Future[AnalysisResponse]] = {}
        self._failure: FashionError | None = None
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self._run, name="responses", daemon=True)

    def start(self) -> None:
        """Begin to receive."""
        self._thread.start()

    def close(self) -> None:
        """Receive no more."""
        self._subscription.close()
        self._thread.join()

    def expect(self, request_id: str) -> Future[AnalysisResponse]:
        """The future response to a request; the same one when it is expected already."""
        with self._lock:
            future = self._waiting.setdefault(request_id, Future())
            if self._failure is not None and not future.done():
                future.set_exception(self._failure)
            return future

    def _run(self) -> None:
        try:
            for delivery in self._subscription:
                response = readable_response(delivery)
                if response is not None:
                    self._hand_over(response, delivery.message)
                delivery.ack()
        except FashionError as error:  # an outage, or a subscription that has gone: nothing will come any more
            with self._lock:
                self._failure = error
                waiting, self._waiting = self._waiting, {}
            for future in waiting.values():
                future.set_exception(error)

    def _hand_over(self, response: AnalysisResponse, message: Message) -> None:
        with self._lock:
            future = self._waiting.pop(response.request_id, None)
        if future is not None:
            span = _receiving(self._tracer, self._topic, message, response.request_id)
            future.set_result(response)
            span.end()
