"""Fetching by partitions: those of a consumer group that this member was given, or all of them.

A partition's ledger is committed before any of its messages is yielded, so that an attempt is counted although its
worker dies. A partition goes to another member once what was yielded of it is settled, or parked on the retry topic.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Collection
from concurrent.futures import Future
from functools import partial

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition
from confluent_kafka import Message as KafkaMessage

from handoff.brokers.kafka.calls import ANSWER_WITHIN_S, COORDINATOR_AWAY, error_of
from handoff.brokers.kafka.delivery import Holdings, KafkaDelivery, Settle
from handoff.brokers.kafka.handover import Handover
from handoff.brokers.kafka.lane import LaneThread
from handoff.brokers.kafka.membership import Membership
from handoff.brokers.kafka.offsets import committed_ledgers
from handoff.brokers.kafka.partitions import Partitions
from handoff.brokers.kafka.records import Record, record_of
from handoff.contracts.topology import SubscriptionSpec

_log = logging.getLogger(__name__)

# Between two looks at what changed here: acks to commit, room to fill. A record that comes wakes it at once.
LOOK_S = 0.05
# A subscriber without room answers the group all the same, its partitions paused, from then on.
PAUSE_AFTER_S = 1.0
# One whose deliveries all stood still for this share of the ack deadline leaves its partitions to its peers.
STALL_SHARE = 0.5
LONGEST_STALL_S = 15.0
# How long a partition that another member is to have waits for what was yielded of it.
LONGEST_HANDOVER_S = 5.0

# A dead letter that could not be published is tried again.
BURY_AGAIN_AFTER_S = 1.0

# The group has moved on: its news come with the next poll.
_REBALANCING = {
    KafkaError.FENCED_MEMBER_EPOCH,
    KafkaError.ILLEGAL_GENERATION,
    KafkaError.REBALANCE_IN_PROGRESS,
    KafkaError.STALE_MEMBER_EPOCH,
    KafkaError.UNKNOWN_MEMBER_ID,
}

# The group's coordinator moves or starts again, as when brokers are updated one after another.
_PASSING = COORDINATOR_AWAY | {
    KafkaError.NETWORK_EXCEPTION,
    KafkaError.REQUEST_TIMED_OUT,
    KafkaError._ALL_BROKERS_DOWN,  # noqa: SLF001 - librdkafka's own codes begin so
    KafkaError._TIMED_OUT,  # noqa: SLF001
    KafkaError._TRANSPORT,  # noqa: SLF001
    KafkaError._WAIT_COORD,  # noqa: SLF001
}


class GroupLane:
    """One consumer at a time, which its thread alone uses."""

    def __init__(
        self,
        spec: SubscriptionSpec,
        *,
        membership: Membership,
        holdings: Holdings,
        handover: Handover,
        settle: Settle,
    ) -> None:
        self._spec = spec
        self._membership = membership
        self._holdings = holdings
        self._handover = handover
        self._settle = settle
        self._partitions = Partitions(spec.topic, only_client_id=spec.only_client_id)
        self._polled_at = 0.0
        self.thread = LaneThread(self._serve, name="kafka-group", subscription=spec.name, holdings=holdings)

    def settle_record(self, delivery: KafkaDelivery, delay_s: float | None) -> None:
        """End a record that was not parked."""
        record, parking = delivery.record, self._handover.parking
        if delay_s is None:
            self._partitions.end(record)
        elif delay_s == 0 or parking is None:
            self._partitions.come_again(record, delay_s=delay_s)
        elif self._partitions.move(record):
            moved = parking.delay(record.message, attempts=delivery.attempt, delay_s=delay_s)
            self._end_when_sent(record, moved, else_in_s=delay_s)

    def _end_when_sent(self, record: Record, sent: Future[str], *, else_in_s: float) -> None:
        def decide(sent: Future[str]) -> None:
            if sent.exception() is None:
                self._partitions.end(record)
            else:
                self._partitions.come_again(record, delay_s=else_in_s)

        sent.add_done_callback(decide)

    def _serve(self) -> None:
        """Fetch with one consumer, until it is closed or of no use any more."""
        rebalances = self._assigned, self._revoked, self._lost
        with self._membership.joined(*rebalances, forget=self._partitions.drop) as consumer:
            while not self.thread.is_closed:
                self._step(consumer)
            self._give_up(consumer, None)

    def _step(self, consumer: Consumer) -> None:
        room = self._holdings.room(LOOK_S)
        if room:
            self._membership.resume(consumer)
            self._fetch(consumer, room)
            fitting = self._holdings.fitting([record.message for record in self._partitions.waiting(room)])
            if fitting:
                self._deliver(consumer, self._partitions.take(fitting))
        elif time.monotonic() - self._polled_at > PAUSE_AFTER_S:
            stall_s = min(self._spec.ack_deadline_s * STALL_SHARE, LONGEST_STALL_S)
            self._membership.stand_by(consumer, leaving=self._holdings.still_s() > stall_s)
            self._poll(consumer, 0.0)
        self.thread.look(partial(self._membership.check, consumer))
        self._partitions.commit(consumer, is_asynchronous=True)

    def _fetch(self, consumer: Consumer, room: int) -> None:
        waiting = len(self._partitions.waiting(room))
        if waiting < room:
            self._poll(consumer, 0.0 if waiting else LOOK_S, most=room)

    def _poll(self, consumer: Consumer, timeout_s: float, *, most: int = 1) -> None:
        self._polled_at = time.monotonic()
        found = consumer.poll(timeout_s)
        if found is not None:
            for each in [found, *(consumer.consume(most - 1, 0.0) if most > 1 else ())]:
                self._accept(each)

    def _accept(self, found: KafkaMessage) -> None:
        error = found.error()
        if error is not None:
            raise KafkaException(error)
        self.thread.answered()
        self._membership.heard()
        self._partitions.accept(record_of(found))

    def _deliver(self, consumer: Consumer, records: list[Record]) -> None:
        """Have these counted for good, then yielded."""
        begun = self._partitions.begin(records)
        try:
            self._partitions.commit(consumer)
        except KafkaException as problem:
            for record, _ in begun:
                self._partitions.undo(record)
            self._partitions.put_back(records)
            self._go_on(consumer, problem)
            return
        deliveries = []
        for record, deliveries_of_record in begun:
            attempt = record.attempts + deliveries_of_record
            if self._handover.is_exhausted(attempt):
                self._bury(record, attempts=attempt - 1)
            else:
                deliveries.append(
                    KafkaDelivery(record, attempt=attempt, settle=self._settle, settle_record=self.settle_record)
                )
        if not self._holdings.add(deliveries):
            for delivery in deliveries:
                self._partitions.undo(delivery.record)

    def _go_on(self, consumer: Consumer, problem: KafkaException) -> None:
        """After a commit that was refused, with the same consumer where that is of use."""
        error = error_of(problem)
        if error.code() in _REBALANCING:
            self._poll(consumer, LOOK_S)
        elif error.code() in _PASSING:
            self.thread.wait_out(error)
        else:
            raise problem

    def _bury(self, record: Record, *, attempts: int) -> None:
        self._partitions.undo(record)
        if self._partitions.move(record):
            self._end_when_sent(record, self._handover.bury(record, attempts=attempts), else_in_s=BURY_AGAIN_AFTER_S)

    def _assigned(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        ledgers = committed_ledgers(consumer, partitions, timeout_s=ANSWER_WITHIN_S)
        self._partitions.add(ledgers)
        self.thread.joined()
        self._membership.assign(
            consumer,
            [TopicPartition(self._spec.topic, number, each.committed_offset) for number, each in ledgers.items()],
        )

    def _revoked(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        self._give_up(consumer, [each.partition for each in partitions])

    def _lost(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        del consumer
        numbers = {each.partition for each in partitions}
        _log.warning("%d partitions of %s went to others unasked", len(numbers), self._spec.topic)
        self._partitions.drop(numbers)
        self._holdings.take_back(_of(numbers))

    def _give_up(self, consumer: Consumer, numbers: Collection[int] | None) -> None:
        """Leave these partitions, or all, so that another member begins where this one ended."""
        leaving = self._partitions.mine(numbers)
        if not leaving:
            return
        of_these = _of(leaving)
        for delivery in self._holdings.take_back(of_these):
            self._partitions.undo(delivery.record)
        wait_s = min(self._spec.ack_deadline_s / 3, LONGEST_HANDOVER_S)
        for record, is_parked in self._handover.park(of_these, wait_s=wait_s):
            if is_parked:
                self._partitions.end(record)
        self._partitions.wait_moved(wait_s)
        self._partitions.touch()
        try:
            self._membership.ask(consumer)
            self._partitions.commit(consumer)
        except KafkaException as problem:
            _log.warning("what was done of %s may be done again: %s", self._spec.topic, error_of(problem).str())
        self._partitions.drop(leaving)


def _of(numbers: Collection[int]) -> Callable[[KafkaDelivery], bool]:
    return lambda delivery: delivery.lease is None and delivery.record.partition in numbers
