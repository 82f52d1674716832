"""The retry topic, seen from who reads it: each message goes back to its topic when it is due, or its lease lapses."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Sequence
from concurrent.futures import Future
from functools import partial

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition
from confluent_kafka import Message as KafkaMessage
from msgspec import Struct

from handoff.brokers.kafka.calls import ANSWER_WITHIN_S, error_of
from handoff.brokers.kafka.delivery import Holdings
from handoff.brokers.kafka.lane import LaneThread
from handoff.brokers.kafka.ledger import Ledger
from handoff.brokers.kafka.membership import CHECK_WITHIN_S, Membership
from handoff.brokers.kafka.offsets import commit_ledgers, committed_ledgers
from handoff.brokers.kafka.parking import DONE, DUE, LEASE_NOTE, SAYS_NOTE, when_due
from handoff.brokers.kafka.publisher import Publisher
from handoff.brokers.kafka.records import ATTEMPTS_NOTE, Record, record_of
from handoff.contracts.errors import SettingsInvalid

_log = logging.getLogger(__name__)

# Between two looks at what has fallen due; a record that comes wakes it at once.
_LOOK_S = 0.1
# Read ahead of what is due: bounds memory. Beyond it, a lease's end may not be seen before it lapses.
MOST_WAITING = 10_000
MOST_WAITING_BYTES = 64 * 1024 * 1024
_RECORDS_AT_ONCE = 500
# Before leaving, what is on its way is waited for, so that nobody forwards it again.
_ARRIVED_WITHIN_S = 5.0
# A message that is due and could not be forwarded.
FORWARD_AGAIN_AFTER_S = 1.0


class Waiting(Struct):
    """A message that is not due yet."""

    record: Record
    due_at: float
    """By the monotonic clock of this process."""
    lease: str | None = None


class Retries:
    """Joins those who read one retry topic, of whom one at a time has its partition, until it is closed."""

    def __init__(
        self, membership: Membership, *, retry_topic: str, topic: str, publisher: Publisher, holdings: Holdings
    ) -> None:
        """What is due goes to `topic`; that nothing comes back any more is told to whoever waits for `holdings`."""
        self._membership = membership
        self._retry_topic = retry_topic
        self._topic = topic
        self._publisher = publisher
        self._ledgers: dict[int, Ledger] = {}
        self._waiting: dict[int, Waiting] = {}
        self._leases: dict[str, int] = {}
        self._forwarding: set[int] = set()
        self._read_to = 0
        self._at_end = False
        self._changed = threading.Condition()
        self._thread = LaneThread(self._serve, name="kafka-retries", subscription=retry_topic, holdings=holdings)

    def start(self) -> None:
        """Begin to read."""
        self._thread.start()

    def close(self) -> None:
        """Read no more, and leave what is not due to others, soon."""
        self._thread.close()

    def join(self) -> None:
        """Wait until that is done."""
        self._thread.join()

    def _serve(self) -> None:
        rebalances = self._assigned, self._revoked, self._lost
        with self._membership.joined(*rebalances, forget=self._forget) as consumer:
            while not self._thread.is_closed:
                self._step(consumer)
            self._give_up(consumer)

    def _step(self, consumer: Consumer) -> None:
        if is_full := self._is_full():
            self._membership.stand_by(consumer, leaving=False)
        else:
            self._membership.resume(consumer)
        found = consumer.poll(_LOOK_S)
        for each in [found, *consumer.consume(_RECORDS_AT_ONCE, 0.0)] if found is not None else []:
            self._read(each)
        if self._at_end or is_full:
            self._forward_due(consumer, may_read_on=not is_full)
        # A share consumer says nothing of an outage, so that this one speaks for its lanes.
        self._thread.look(partial(self._membership.check, consumer))
        commit_ledgers(consumer, self._retry_topic, self._ledgers, lock=self._changed, is_asynchronous=True)

    def _is_full(self) -> bool:
        with self._changed:
            size_bytes = sum(len(waiting.record.message.body) for waiting in self._waiting.values())
            return len(self._waiting) >= MOST_WAITING or size_bytes >= MOST_WAITING_BYTES

    def _read(self, found: KafkaMessage) -> None:
        self._membership.heard()
        error = found.error()
        if error is not None:
            if error.code() == KafkaError._PARTITION_EOF:  # noqa: SLF001 - librdkafka's own codes begin so
                self._at_end, self._read_to = True, found.offset() or 0
                return
            raise KafkaException(error)
        self._thread.answered()
        record = record_of(found)
        with self._changed:
            self._read_to = record.offset + 1
            ledger = self._ledgers.get(record.partition)
            if ledger is not None and ledger.is_anew(record.offset):
                self._waiting, self._leases = {}, {}
                ledger = self._ledgers[record.partition] = Ledger(record.offset)
            if ledger is not None:
                self._keep(ledger, record)

    def _keep(self, ledger: Ledger, record: Record) -> None:
        is_done, due_at = ledger.is_done(record.offset), when_due(record, is_news=self._at_end)
        says, lease = record.notes.get(SAYS_NOTE), record.notes.get(LEASE_NOTE)
        if says is not None:
            # Also where the reader before this one heard it: it counts for as long as the message waits.
            self._hear(ledger, says, self._leases.get(lease or "", -1), due_at)
        elif not is_done:
            self._waiting[record.offset] = Waiting(record, due_at=due_at, lease=lease)
            if lease is not None:
                self._leases[lease] = record.offset
        if not is_done:
            ledger.begin(record.offset)
            if says is not None:
                ledger.end(record.offset)

    def _hear(self, ledger: Ledger, says: str, offset: int, due_at: float) -> None:
        """What is said of a lease counts while its message waits here."""
        waiting = self._waiting.get(offset)
        if waiting is None:
            return
        waiting.due_at = due_at
        if says in {DONE, DUE} and waiting.lease is not None:
            del self._leases[waiting.lease]
            waiting.lease = None
        if says == DONE:
            del self._waiting[offset]
            ledger.end(offset)

    def _forward_due(self, consumer: Consumer, *, may_read_on: bool) -> None:
        now = time.monotonic()
        with self._changed:
            due = [waiting for waiting in self._waiting.values() if waiting.due_at <= now]
        if may_read_on and any(waiting.lease for waiting in due) and not self._has_read_all(consumer, due):
            due = [waiting for waiting in due if not waiting.lease]
        with self._changed:
            for waiting in due:
                del self._waiting[waiting.record.offset]
                self._leases.pop(waiting.lease or "", None)
                self._forwarding.add(waiting.record.offset)
        for waiting in due:
            notes = {ATTEMPTS_NOTE: waiting.record.attempts}
            sent = self._publisher.publish(self._topic, waiting.record.message, notes=notes)
            sent.add_done_callback(partial(self._forwarded, waiting, self._ledgers.get(waiting.record.partition)))

    def _has_read_all(self, consumer: Consumer, due: Sequence[Waiting]) -> bool:
        """Whether nothing is left unread that could prolong a lease; who did not reach the cluster could not either."""
        try:
            _, end = consumer.get_watermark_offsets(TopicPartition(self._retry_topic, 0), timeout=CHECK_WITHIN_S)
        except KafkaException:
            for waiting in due:
                if waiting.lease:
                    waiting.due_at = when_due(waiting.record, is_news=True)
            return False
        return self._read_to >= end

    def _forwarded(self, waiting: Waiting, ledger: Ledger | None, sent: Future[str]) -> None:
        error, offset = sent.exception(), waiting.record.offset
        with self._changed:
            self._forwarding.discard(offset)
            self._changed.notify_all()
            if ledger is None or ledger is not self._ledgers.get(waiting.record.partition):
                return
            if error is None:
                ledger.end(offset)
                return
            _log.info("a message that is due stays on the retry topic: %s", error)
            waiting.due_at = time.monotonic() + FORWARD_AGAIN_AFTER_S
            self._waiting[offset] = waiting
            if waiting.lease is not None:
                self._leases[waiting.lease] = offset

    def _assigned(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        if any(each.partition for each in partitions):
            raise SettingsInvalid(f"Topic {self._retry_topic} has several partitions; run `fashion init`.")
        ledgers = committed_ledgers(consumer, partitions, timeout_s=ANSWER_WITHIN_S)
        with self._changed:
            self._ledgers.update(ledgers)
            self._at_end = False
        self._membership.assign(
            consumer,
            [TopicPartition(self._retry_topic, number, each.committed_offset) for number, each in ledgers.items()],
        )

    def _revoked(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        del partitions  # there is one
        self._give_up(consumer)

    def _lost(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        del consumer, partitions  # there is one
        self._forget()

    def _give_up(self, consumer: Consumer) -> None:
        """Have the next reader begin where this one ended."""
        with self._changed:
            if not self._ledgers:
                return
            self._changed.wait_for(lambda: not self._forwarding, _ARRIVED_WITHIN_S)
            for ledger in self._ledgers.values():
                ledger.is_changed = True
        try:
            self._membership.ask(consumer)
            commit_ledgers(consumer, self._retry_topic, self._ledgers, lock=self._changed)
        except KafkaException as problem:
            _log.warning("what came back to %s may come back again: %s", self._topic, error_of(problem).str())
        self._forget()

    def _forget(self) -> None:
        with self._changed:
            self._ledgers, self._waiting, self._leases, self._forwarding, self._at_end = {}, {}, {}, set(), False
