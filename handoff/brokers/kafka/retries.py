"""The retry topic, seen from who reads it: each message goes back to its topic when it is due, or its lease lapses."""

from __future__ import annotations

import logging
import threading
import time
from concurrent.futures import Future
from functools import partial

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition
from confluent_kafka import Message as KafkaMessage
from msgspec import Struct

from handoff.brokers.kafka.calls import ANSWER_WITHIN_S, error_of
from handoff.brokers.kafka.ledger import Ledger
from handoff.brokers.kafka.membership import Membership
from handoff.brokers.kafka.offsets import commit_ledgers, committed_ledgers
from handoff.brokers.kafka.parking import DELAY_NOTE, DONE, DUE, DUE_NOTE, LEASE_NOTE, SAYS_NOTE
from handoff.brokers.kafka.publisher import Publisher
from handoff.brokers.kafka.records import ATTEMPTS_NOTE, Record, record_of
from handoff.brokers.outage import Outage

_log = logging.getLogger(__name__)

# Between two looks at what has fallen due; a record that comes wakes it at once.
_LOOK_S = 0.1
# Read ahead of what is due: bounds memory. Beyond it, a lease's end may not be seen before it lapses.
_MOST_WAITING = 10_000
_RECORDS_AT_ONCE = 500


class Waiting(Struct):
    """A message that is not due yet."""

    record: Record
    due_at: float
    """By the monotonic clock of this process."""
    lease: str | None = None


class Retries:
    """Joins those who read one retry topic, of whom one at a time has its partition, until it is closed."""

    def __init__(self, membership: Membership, *, retry_topic: str, topic: str, publisher: Publisher) -> None:
        """What is due goes to `topic`."""
        self._membership = membership
        self._retry_topic = retry_topic
        self._topic = topic
        self._publisher = publisher
        self._ledgers: dict[int, Ledger] = {}
        self._waiting: dict[int, Waiting] = {}
        self._leases: dict[str, int] = {}
        self._at_end = False
        self._lock = threading.Lock()
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="kafka-retries", daemon=True)

    def start(self) -> None:
        """Begin to read."""
        self._thread.start()

    def stop(self) -> None:
        """Leave what is not due to others."""
        self._stopped.set()
        self._thread.join()

    def _run(self) -> None:
        outage = Outage(give_up_after_s=float("inf"))
        while not self._stopped.is_set():
            consumer = self._membership.open()
            try:
                self._membership.join(consumer, self._assigned, self._revoked, self._lost)
                while not self._stopped.is_set():
                    self._step(consumer)
                    outage.end()
                self._commit(consumer)
            except KafkaException as problem:
                if self._membership.fall_back(error_of(problem)):
                    continue
                wait_s = outage.next_wait_s() or 0.0
                _log.info("no retries are read, again in %.1f s: %s", wait_s, error_of(problem).str())
                self._stopped.wait(wait_s)
            finally:
                consumer.close()
                self._forget()

    def _step(self, consumer: Consumer) -> None:
        if len(self._waiting) < _MOST_WAITING:
            found = consumer.poll(_LOOK_S)
            for each in [found, *consumer.consume(_RECORDS_AT_ONCE, 0.0)] if found is not None else []:
                self._read(each)
        else:
            self._stopped.wait(_LOOK_S)
        if self._at_end or len(self._waiting) >= _MOST_WAITING:
            self._forward_due()
        self._commit(consumer, is_asynchronous=True)

    def _read(self, found: KafkaMessage) -> None:
        error = found.error()
        if error is not None:
            if error.code() == KafkaError._PARTITION_EOF:  # noqa: SLF001 - librdkafka's own codes begin so
                self._at_end = True
                return
            raise KafkaException(error)
        record = record_of(found)
        with self._lock:
            ledger = self._ledgers.get(record.partition)
            if ledger is not None and ledger.is_anew(record.offset):
                self._waiting, self._leases = {}, {}
                ledger = self._ledgers[record.partition] = Ledger(record.offset)
            if ledger is None or ledger.is_done(record.offset):
                return
            ledger.begin(record.offset)
            says, lease = record.notes.get(SAYS_NOTE), record.notes.get(LEASE_NOTE)
            if says is None:
                self._waiting[record.offset] = Waiting(record, due_at=_due_at(record), lease=lease)
                if lease is not None:
                    self._leases[lease] = record.offset
            else:
                self._hear(ledger, says, self._leases.get(lease or "", -1), record)
                ledger.end(record.offset)

    def _hear(self, ledger: Ledger, says: str, offset: int, record: Record) -> None:
        """What is said of a lease counts while its message waits here."""
        waiting = self._waiting.get(offset)
        if waiting is None:
            return
        waiting.due_at = _due_at(record)
        if says in {DONE, DUE} and waiting.lease is not None:
            del self._leases[waiting.lease]
            waiting.lease = None
        if says == DONE:
            del self._waiting[offset]
            ledger.end(offset)

    def _forward_due(self) -> None:
        now = time.monotonic()
        with self._lock:
            due = [waiting for waiting in self._waiting.values() if waiting.due_at <= now]
            for waiting in due:
                del self._waiting[waiting.record.offset]
                if waiting.lease is not None:
                    self._leases.pop(waiting.lease, None)
        for waiting in due:
            notes = {ATTEMPTS_NOTE: waiting.record.attempts}
            sent = self._publisher.publish(self._topic, waiting.record.message, notes=notes)
            ledger = self._ledgers.get(waiting.record.partition)
            sent.add_done_callback(partial(self._forwarded, waiting, ledger))

    def _forwarded(self, waiting: Waiting, ledger: Ledger | None, sent: Future[str]) -> None:
        error = sent.exception()
        with self._lock:
            if error is None and ledger is not None:
                ledger.end(waiting.record.offset)
            elif error is not None and ledger is self._ledgers.get(waiting.record.partition):
                _log.info("a message that is due stays on the retry topic: %s", error)
                waiting.due_at = time.monotonic() + 1.0
                self._waiting[waiting.record.offset] = waiting

    def _commit(self, consumer: Consumer, *, is_asynchronous: bool = False) -> None:
        commit_ledgers(consumer, self._retry_topic, self._ledgers, lock=self._lock, is_asynchronous=is_asynchronous)

    def _assigned(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        ledgers = committed_ledgers(consumer, partitions, timeout_s=ANSWER_WITHIN_S)
        with self._lock:
            self._ledgers.update(ledgers)
            self._at_end = False
        self._membership.assign(
            consumer,
            [TopicPartition(self._retry_topic, number, each.committed_offset) for number, each in ledgers.items()],
        )

    def _revoked(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        del partitions  # there is one
        self._commit(consumer)
        self._forget()

    def _lost(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        del consumer, partitions  # there is one
        self._forget()

    def _forget(self) -> None:
        with self._lock:
            self._ledgers, self._waiting, self._leases, self._at_end = {}, {}, {}, False


def _due_at(record: Record) -> float:
    due_ms, delay_ms = (record.notes.get(name, "") for name in (DUE_NOTE, DELAY_NOTE))
    if not (due_ms.isdecimal() and delay_ms.isdecimal()):
        return 0.0
    left_s = int(due_ms) / 1000 - time.time()
    return time.monotonic() + min(max(left_s, 0.0), int(delay_ms) / 1000)
