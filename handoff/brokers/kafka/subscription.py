"""One subscriber on Kafka: what it holds, and the lanes that fill it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence

from handoff.brokers.kafka.delivery import Holdings, KafkaDelivery
from handoff.brokers.kafka.lane import LaneThread
from handoff.brokers.kafka.parking import Parking
from handoff.brokers.kafka.retries import Retries

# A group tells a new member of its partitions with a heartbeat, every 5 s where nothing else is set.
JOIN_WITHIN_S = 12.0


class KafkaSubscription:
    """The deliveries of one subscriber."""

    def __init__(
        self,
        holdings: Holdings,
        *,
        parking: Parking | None,
        retries: Retries | None,
        discard: Callable[[], None] | None,
    ) -> None:
        """`discard` removes a temporary subscription, once it is finished."""
        self._holdings = holdings
        self._parking = parking
        self._retries = retries
        self._discard = discard
        self._lanes: Sequence[LaneThread] = ()
        self._lock = threading.RLock()
        self._is_closed = False

    def start(self, lanes: Sequence[LaneThread]) -> None:
        """Begin to fetch, to keep leases and to bring back what is due; returns when it has joined, where it can.

        Raises: SettingsInvalid: the cluster refuses
        """
        self._lanes = lanes
        for part in (self._parking, self._retries, *lanes):
            if part is not None:
                part.start()
        for lane in lanes:
            lane.wait_joined(JOIN_WITHIN_S)
        if self._holdings.failure is not None:
            raise self._holdings.failure

    def __iter__(self) -> Iterator[KafkaDelivery]:
        """Yield deliveries until `close`.

        Raises: BrokerUnavailable: no answer for two minutes; SettingsInvalid: the cluster refuses
        """
        while (delivery := self._holdings.next()) is not None:
            yield delivery

    def settle(self, delivery: KafkaDelivery, delay_s: float | None) -> None:
        """Ack, or nack with a delay; nothing when that was done before."""
        if not self._holdings.release(delivery):
            return
        # The lease is set before the delivery can be released, or never: both go by the lock of what is held.
        is_parked = self._parking is not None and self._parking.end(delivery, delay_s)
        # What is done is done wherever it is; it may yet turn out that it could not be parked.
        if delay_s is None or not is_parked:
            delivery.settle_record(delivery, delay_s)

    def close(self) -> None:
        """Stop fetching and give back what was not yielded; what was yielded stays held, on the retry topic."""
        with self._lock:
            first, self._is_closed = not self._is_closed, True
        self._holdings.close()
        # Once: a signal's handler that comes between must not wait for what the thread has that it interrupted.
        for lane in self._lanes if first else ():
            lane.close()

    def leave(self) -> None:
        """Close, and begin to give back what is still held; `finish` waits for it."""
        self.close()
        self._holdings.abandon()
        if self._retries is not None:
            self._retries.close()

    def finish(self) -> None:
        """Leave, and return when the cluster knows."""
        self.leave()
        for lane in self._lanes:
            lane.join()
        if self._parking is not None:
            self._parking.stop()
        if self._retries is not None:
            self._retries.join()
        if self._discard is not None:
            self._discard()
