"""Fetching as a member of a share group: any number of workers on any number of partitions, each record acknowledged.

A share consumer must say of every record of a poll what became of it before it polls again, and nobody can prolong its
lock. So what is at work for long is parked on the retry topic; and what does not fit is published again.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from collections.abc import Set as AbstractSet
from concurrent.futures import Future
from functools import partial
from typing import NamedTuple

from confluent_kafka import AcknowledgeType, KafkaError, KafkaException, ShareConsumer, TopicPartition
from confluent_kafka import Message as KafkaMessage

from handoff.brokers.kafka.calls import ANSWER_WITHIN_S, error_of
from handoff.brokers.kafka.declaration import MOST_DELIVERIES
from handoff.brokers.kafka.delivery import Holdings, KafkaDelivery, Settle
from handoff.brokers.kafka.group_lane import BURY_AGAIN_AFTER_S, LONGEST_HANDOVER_S, LOOK_S
from handoff.brokers.kafka.handover import Handover
from handoff.brokers.kafka.lane import LaneThread
from handoff.brokers.kafka.membership import CHECK_PERIOD_S
from handoff.brokers.kafka.records import Record, record_of
from handoff.contracts.errors import SettingsInvalid
from handoff.contracts.topology import SubscriptionSpec

_log = logging.getLogger(__name__)

# What was fetched and still does not fit goes back after so long: it is another's while it waits for nobody.
SPARE_AFTER_S = 1.0
# Of the time a record is locked; beyond it, its delivery goes on with a lease on the retry topic.
PARK_SHARE = 1 / 3
# Brokers lock no longer (`group.share.max.record.lock.duration.ms`), whatever the ack deadline is.
LONGEST_LOCK_S = 60.0
_COMMIT_WITHIN_S = 10.0
_NO_SHARE_GROUPS = {KafkaError.UNSUPPORTED_VERSION, KafkaError._UNSUPPORTED_FEATURE}  # noqa: SLF001 - librdkafka's own

_Place = tuple[int, int]


class _Fetched(NamedTuple):
    record: Record
    attempt: int
    fetched_at: float


class ShareLane:
    """One share consumer at a time, which its thread alone uses."""

    def __init__(
        self,
        spec: SubscriptionSpec,
        *,
        connect: Callable[[], ShareConsumer],
        holdings: Holdings,
        handover: Handover,
        settle: Settle,
    ) -> None:
        self._spec = spec
        self._connect = connect
        self._holdings = holdings
        self._handover = handover
        self._settle = settle
        self._park_after_s = min(spec.ack_deadline_s, LONGEST_LOCK_S) * PARK_SHARE
        self._fetched: deque[_Fetched] = deque()
        self._open: dict[_Place, float] = {}
        """Records of the last poll that are not acknowledged, and when they came."""
        self._ended: dict[_Place, AcknowledgeType] = {}
        self._connected_at = 0.0
        self._moving: set[_Place] = set()
        """Records that are being published elsewhere."""
        self._changed = threading.Condition()
        self.thread = LaneThread(self._serve, name="kafka-share", subscription=spec.name, holdings=holdings)

    def settle_record(self, delivery: KafkaDelivery, delay_s: float | None) -> None:
        """End a record that was not parked."""
        record, parking = delivery.record, self._handover.parking
        if delay_s is None:
            self._end(record, AcknowledgeType.ACCEPT)
        elif delay_s == 0 or parking is None:
            self._end(record, AcknowledgeType.RELEASE)
        else:
            self._end_when_sent(record, parking.delay(record.message, attempts=delivery.attempt, delay_s=delay_s))

    def _end_when_sent(
        self, record: Record, sent: Future[str], *, otherwise: Callable[[], Future[str]] | None = None
    ) -> None:
        def decide(sent: Future[str]) -> None:
            if sent.exception() is not None and otherwise is not None:
                self._end_when_sent(record, otherwise())
                return
            with self._changed:
                self._moving.discard(_place(record))
                self._end(record, AcknowledgeType.RELEASE if sent.exception() else AcknowledgeType.ACCEPT)
                self._changed.notify_all()

        with self._changed:
            self._moving.add(_place(record))
        sent.add_done_callback(decide)

    def _end(self, record: Record, how: AcknowledgeType) -> None:
        with self._changed:
            # Done stays done, whoever else gives it back.
            if _place(record) in self._open and self._ended.get(_place(record)) != AcknowledgeType.ACCEPT:
                self._ended[_place(record)] = how
                self._changed.notify_all()

    def _serve(self) -> None:
        """Fetch with one consumer, until it is closed or of no use any more."""
        consumer = self._connect()
        try:
            consumer.set_acknowledgement_commit_callback(self._complain)
            consumer.subscribe([self._spec.topic])
            self._connected_at = time.monotonic()
            _log.info("%s is read as a share group, for the broker's URL says so", self._spec.name)
            while not self.thread.is_closed:
                if self._open:
                    self._work_off(consumer)
                elif self._holdings.room(LOOK_S):
                    self._fetch(consumer)
            self._give_up(consumer)
        except KafkaException as problem:
            if error_of(problem).code() not in _NO_SHARE_GROUPS:
                raise
            raise SettingsInvalid(
                "This Kafka cluster has no share groups (4.2 or later has, with share.version=1);"
                " leave mode=share-group out of the broker's URL."
            ) from problem
        finally:
            with self._changed:
                self._open, self._ended, self._moving = {}, {}, set()
            self._fetched.clear()
            consumer.close()

    def _fetch(self, consumer: ShareConsumer) -> None:
        found = consumer.poll(2 * LOOK_S)
        for error in filter(None, (each.error() for each in found)):
            raise KafkaException(error)  # before any of the others is published anew, for all come again
        for each in found:
            self.thread.answered()
            self._accept(each)
        if time.monotonic() - self._connected_at > CHECK_PERIOD_S:
            self.thread.answered()  # though nothing came: failures hours apart are no outage of hours
        self.thread.joined()
        self._deliver()

    def _accept(self, found: KafkaMessage) -> None:
        record, deliveries = record_of(found), found.delivery_count() or 1
        attempt = record.attempts + deliveries
        with self._changed:
            self._open[_place(record)] = time.monotonic()
        if self._handover.is_exhausted(attempt):
            self._bury(record, attempts=attempt - 1)
        elif deliveries >= MOST_DELIVERIES:
            self._send_back(record, attempts=attempt - 1)
        else:
            self._fetched.append(_Fetched(record, attempt, time.monotonic()))

    def _bury(self, record: Record, *, attempts: int) -> None:
        parking = self._handover.parking
        assert parking is not None  # noqa: S101 - temporary subscriptions are no share groups
        # Given back again and again, it would be dropped by the brokers.
        again = partial(parking.delay, record.message, attempts=attempts, delay_s=BURY_AGAIN_AFTER_S)
        self._end_when_sent(record, self._handover.bury(record, attempts=attempts), otherwise=again)

    def _send_back(self, record: Record, *, attempts: int) -> None:
        self._end_when_sent(record, self._handover.publish_again(record, attempts=attempts))

    def _work_off(self, consumer: ShareConsumer) -> None:
        """Go on with the records of the last poll until each is acknowledged."""
        self._acknowledge(consumer)
        if self._fetched:
            self._deliver()
        now = time.monotonic()
        while self._fetched and now - self._fetched[0].fetched_at > SPARE_AFTER_S:
            spare = self._fetched.popleft()
            self._send_back(spare.record, attempts=spare.attempt - 1)
        if min(self._open.values(), default=now) < now - self._park_after_s:
            self._park(wait_s=0.0)
        with self._changed:
            self._changed.wait_for(lambda: len(self._ended) == len(self._open) or self.thread.is_closed, LOOK_S)

    def _deliver(self) -> None:
        deliveries = [
            KafkaDelivery(each.record, attempt=each.attempt, settle=self._settle, settle_record=self.settle_record)
            for each in self._fetched
        ]
        for _ in range(self._holdings.add_fitting(deliveries)):
            self._fetched.popleft()

    def _acknowledge(self, consumer: ShareConsumer) -> None:
        """Acknowledge the records of the last poll, once every one of them has ended.

        Together, for of records that are acknowledged out of their order in several commits brokers refused a part
        (INVALID_REQUEST, librdkafka 2.16), and delivered those again.
        """
        with self._changed:
            if len(self._ended) < len(self._open):
                return
            ended, self._open, self._ended = sorted(self._ended.items()), {}, {}
        for (partition, offset), how in ended:
            consumer.acknowledge_offset(self._spec.topic, partition, offset, how)
        if ended:
            consumer.commit_async()

    def _park(self, *, wait_s: float) -> None:
        for record, is_parked in self._handover.park(self._is_mine, wait_s=wait_s):
            self._end(record, AcknowledgeType.ACCEPT if is_parked else AcknowledgeType.RELEASE)

    def _is_mine(self, delivery: KafkaDelivery) -> bool:
        return delivery.lease is None and delivery.settle_record == self.settle_record

    def _complain(self, offsets: Mapping[TopicPartition, AbstractSet[int]], problem: KafkaException | None) -> None:
        if problem is not None:
            count = sum(map(len, offsets.values()))
            _log.warning("%d messages may come again: %s", count, error_of(problem).str())

    def _give_up(self, consumer: ShareConsumer) -> None:
        """Leave nothing locked."""
        for delivery in self._holdings.take_back(self._is_mine):
            self._send_back(delivery.record, attempts=delivery.attempt - 1)
        for each in self._fetched:
            self._send_back(each.record, attempts=each.attempt - 1)
        wait_s = min(self._park_after_s, LONGEST_HANDOVER_S)
        self._park(wait_s=wait_s)
        with self._changed:
            self._changed.wait_for(lambda: not self._moving, ANSWER_WITHIN_S)
            for place in self._open:
                self._ended.setdefault(place, AcknowledgeType.RELEASE)
        self._acknowledge(consumer)
        consumer.commit_sync(_COMMIT_WITHIN_S)


def _place(record: Record) -> _Place:
    return record.partition, record.offset
