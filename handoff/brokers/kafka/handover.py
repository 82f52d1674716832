"""Giving up records whose deliveries are still at work: to the retry topic, or to the dead letters."""

from __future__ import annotations

import logging
from collections.abc import Callable
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeout

from handoff.brokers.dead_letters import MAX_ATTEMPTS_CODE, dead_letter, never_acked
from handoff.brokers.kafka.calls import ANSWER_WITHIN_S
from handoff.brokers.kafka.delivery import Holdings, KafkaDelivery
from handoff.brokers.kafka.parking import Parking
from handoff.brokers.kafka.publisher import Publisher
from handoff.brokers.kafka.records import ATTEMPTS_NOTE, Record
from handoff.contracts.errors import FashionError
from handoff.contracts.topology import SubscriptionSpec

_log = logging.getLogger(__name__)

# The publisher gives up by itself, a little before.
_SENT_WITHIN_S = 1.5 * ANSWER_WITHIN_S


class Handover:
    """Moves messages of one subscription from where they were fetched to where they go on."""

    def __init__(
        self, spec: SubscriptionSpec, *, holdings: Holdings, publisher: Publisher, parking: Parking | None
    ) -> None:
        """Without `parking`, as for a client's own subscription, nothing is handed over to anybody."""
        self._spec = spec
        self._holdings = holdings
        self._publisher = publisher
        self.parking = parking

    def park(self, wanted: Callable[[KafkaDelivery], bool], *, wait_s: float) -> list[tuple[Record, bool]]:
        """Wait for these deliveries, then lease those not settled on the retry topic.

        The records that are nobody's here any more: True where it is parked, False where it was given back while
        that failed. What could not be parked and is still at work stays here.
        """

        def concerned(delivery: KafkaDelivery) -> bool:
            return delivery.lease is None and wanted(delivery)

        if self.parking is None:
            return []
        self._holdings.wait_settled(concerned, wait_s)
        parked = []
        for delivery, leased in self._holdings.each_held(concerned, self.parking.park):
            try:
                leased.result(_SENT_WITHIN_S)
            except (FashionError, FutureTimeout) as error:
                _log.warning("a message that is at work here may come to another worker, too: %s", error)
                if not self.parking.forget(delivery):
                    parked.append((delivery.record, False))
            else:
                parked.append((delivery.record, True))
        return parked

    def is_exhausted(self, attempt: int) -> bool:
        """Whether a message has had all its attempts before this one."""
        return self._spec.dead_letter_topic is not None and attempt > self._spec.max_attempts

    def bury(self, record: Record, *, attempts: int) -> Future[str]:
        """Publish a message to the dead letters; it can be given up once the future says so."""
        assert self._spec.dead_letter_topic is not None  # noqa: S101 - only what is exhausted is buried
        reason = never_acked(attempts)
        letter = dead_letter(record.message, code=MAX_ATTEMPTS_CODE, reason=reason, attempts=attempts)
        return self._told(self._publisher.publish(self._spec.dead_letter_topic, letter))

    def publish_again(self, record: Record, *, attempts: int) -> Future[str]:
        """Put a message at the end of its topic, with so many deliveries to its name."""
        notes = {ATTEMPTS_NOTE: attempts}
        return self._told(self._publisher.publish(self._spec.topic, record.message, notes=notes))

    def _told(self, sent: Future[str]) -> Future[str]:
        sent.add_done_callback(self._complain)
        return sent

    def _complain(self, sent: Future[str]) -> None:
        error = sent.exception()
        if error is not None:
            _log.warning("a message of %s stays where it is: %s", self._spec.topic, error)
