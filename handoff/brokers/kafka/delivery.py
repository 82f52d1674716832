"""What one Kafka subscriber holds: ready to be yielded, or yielded and not settled."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from typing import TypeVar

from handoff.brokers.kafka.records import Record
from handoff.brokers.window import Window
from handoff.contracts.errors import FashionError
from handoff.contracts.protocols import Limits, Message

T = TypeVar("T")
Settle = Callable[["KafkaDelivery", float | None], None]


class KafkaDelivery:
    """One handing-over of a record."""

    def __init__(self, record: Record, *, attempt: int, settle: Settle, settle_record: Settle) -> None:
        """Both get None for an ack, or the delay of a nack; `settle_record` ends the record where it was fetched."""
        self.record = record
        self.message = record.message
        self.attempt = attempt
        self.lease: str | None = None
        """Names what holds it on the retry topic, where its record was given up."""
        self.settle_record = settle_record
        self._settle = settle

    def ack(self) -> None:
        """End the delivery: the message is done."""
        self._settle(self, None)

    def nack(self, delay_s: float = 0.0) -> None:
        """Give the message back, to come again in `delay_s` seconds."""
        self._settle(self, max(0.0, delay_s))


class Holdings:
    """The deliveries of one subscriber, bounded by its limits; thread-safe.

    Its lock may be taken again by the thread that has it: `close` is called by signal handlers.
    """

    def __init__(self, limits: Limits) -> None:
        self._window = Window(limits)
        self._changed = threading.Condition()
        self._ready: deque[KafkaDelivery] = deque()
        self._held: dict[KafkaDelivery, None] = {}
        self.failure: FashionError | None = None
        self._closed = False
        self._moved_at = time.monotonic()

    def room(self, timeout_s: float) -> int:
        """Wait until at least one more message fits; how many to take, 0 where none does in time."""
        return self._window.wait_for_room(timeout_s)

    def fitting(self, messages: Sequence[Message]) -> int:
        """How many of these fit, from the first on."""
        return self._window.fitting(messages)

    @property
    def count(self) -> int:
        """Deliveries held."""
        return len(self._held)

    def still_s(self) -> float:
        """Seconds since a delivery was added or settled."""
        return time.monotonic() - self._moved_at

    def add(self, deliveries: Iterable[KafkaDelivery]) -> bool:
        """Have these yielded; False where it is closed and nothing was taken."""
        with self._changed:
            if self._closed:
                return False
            for delivery in deliveries:
                self._window.take(delivery.message)
                self._held[delivery] = None
                self._ready.append(delivery)
            self._moved_at = time.monotonic()
            self._changed.notify_all()
            return True

    def add_fitting(self, deliveries: Sequence[KafkaDelivery]) -> int:
        """Have as many of these yielded as there is room for, from the first on; how many."""
        with self._changed:
            few = deliveries[: self._window.wait_for_room(0.0)]
            count = self._window.fitting([delivery.message for delivery in few]) if few else 0
            return count if count and self.add(few[:count]) else 0

    def next(self) -> KafkaDelivery | None:
        """Wait for the next delivery to yield; None once it is closed.

        Raises: FashionError: what ended the subscriber
        """
        with self._changed:
            # Bounded, so that a signal's handler gets its turn on every platform.
            while not self._changed.wait_for(lambda: self._ready or self._closed or self.failure, 1.0):
                pass
            if self.failure and not (self._closed or self._ready):
                raise self.failure
            return None if self._closed else self._ready.popleft()

    def release(self, delivery: KafkaDelivery) -> bool:
        """Hold this delivery no more; False when it was released before."""
        with self._changed:
            if self._held.pop(delivery, delivery) is not None:
                return False
            self._window.give_back(delivery.message)
            self._moved_at = time.monotonic()
            self._changed.notify_all()
            return True

    def take_back(self, wanted: Callable[[KafkaDelivery], bool]) -> list[KafkaDelivery]:
        """Release those deliveries that were not yielded yet."""
        with self._changed:
            unseen = [delivery for delivery in self._ready if wanted(delivery)]
            self._ready = deque(delivery for delivery in self._ready if not wanted(delivery))
            return [delivery for delivery in unseen if self.release(delivery)]

    def each_held(
        self, wanted: Callable[[KafkaDelivery], bool], begin: Callable[[KafkaDelivery], T]
    ) -> list[tuple[KafkaDelivery, T]]:
        """Do something to each of those that are not settled, and will not be before it is done."""
        with self._changed:
            return [(delivery, begin(delivery)) for delivery in self._held if wanted(delivery)]

    def wait_settled(self, wanted: Callable[[KafkaDelivery], bool], timeout_s: float) -> None:
        """Wait until none of these is held, or as long as said."""
        with self._changed:
            self._changed.wait_for(lambda: not any(map(wanted, self._held)), timeout_s)

    def abandon(self) -> None:
        """Close, and release what was yielded; what was not is taken back, uncounted, by whoever fetched it."""
        self.close()
        with self._changed:
            for delivery in set(self._held).difference(self._ready):
                self.release(delivery)

    def fail(self, error: FashionError) -> None:
        """End the iteration with an error."""
        with self._changed:
            self.failure = self.failure or error  # the first is the cause of the others
            self._changed.notify_all()

    def close(self) -> None:
        """Yield nothing any more."""
        with self._changed:
            self._closed = True
            self._window.close()
            self._changed.notify_all()
