"""The partitions that one consumer has: a ledger each, and what of them is to be delivered, or again, from here."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Collection, Iterable, Mapping, Sequence
from itertools import islice

from confluent_kafka import Consumer

from handoff.brokers.kafka.ledger import Ledger
from handoff.brokers.kafka.offsets import commit_ledgers
from handoff.brokers.kafka.records import Record
from handoff.contracts.envelope import CLIENT_ID_ATTRIBUTE


class Partitions:
    """Ledgers by partition; thread-safe. What concerns a partition that has gone does nothing."""

    def __init__(self, topic: str, *, only_client_id: str | None) -> None:
        """With `only_client_id`, messages for others are done as soon as they are fetched."""
        self._topic = topic
        self._only_client_id = only_client_id
        self._ledgers: dict[int, Ledger] = {}
        self._fetched: deque[Record] = deque()
        self._again: list[tuple[float, Record]] = []
        self._moving: set[tuple[int, int]] = set()
        self._changed = threading.Condition()

    def add(self, ledgers: Mapping[int, Ledger]) -> None:
        """These are this consumer's now."""
        with self._changed:
            self._ledgers.update(ledgers)

    def drop(self, numbers: Collection[int] | None = None) -> None:
        """These, or all, are another's now."""
        with self._changed:
            gone = set(self._ledgers) if numbers is None else set(numbers)
            self._ledgers = {number: each for number, each in self._ledgers.items() if number not in gone}
            self._fetched = deque(record for record in self._fetched if record.partition not in gone)
            self._again = [(due_at, record) for due_at, record in self._again if record.partition not in gone]

    def mine(self, numbers: Iterable[int] | None) -> set[int]:
        """Those of these, or of all, that this consumer has."""
        with self._changed:
            return set(self._ledgers) if numbers is None else set(self._ledgers).intersection(numbers)

    def accept(self, record: Record) -> None:
        """Keep a record that was fetched for its delivery, unless it is done, for others, or of another's partition."""
        with self._changed:
            ledger = self._ledgers.get(record.partition)
            if ledger is not None and ledger.is_anew(record.offset):
                self.drop([record.partition])
                ledger = self._ledgers[record.partition] = Ledger(record.offset)
            if ledger is None or ledger.is_done(record.offset):
                return
            if self._only_client_id is not None:
                # In its turn, whoever it is for: a ledger takes what it was not told of for gone.
                ledger.begin(record.offset)
                if record.message.attributes.get(CLIENT_ID_ATTRIBUTE) != self._only_client_id:
                    ledger.end(record.offset)
                    return
                ledger.undo(record.offset)
            self._fetched.append(record)

    def waiting(self, count: int) -> list[Record]:
        """The first of what is to be delivered, those that come again before the others."""
        with self._changed:
            now = time.monotonic()
            self._fetched.extendleft(record for due_at, record in reversed(self._again) if due_at <= now)
            self._again = [(due_at, record) for due_at, record in self._again if due_at > now]
            return list(islice(self._fetched, count))

    def take(self, count: int) -> list[Record]:
        """Take the first of what was waiting."""
        with self._changed:
            return [self._fetched.popleft() for _ in range(count)]

    def put_back(self, records: Sequence[Record]) -> None:
        """Have these wait again, before all others."""
        with self._changed:
            self._fetched.extendleft(reversed(records))

    def begin(self, records: Iterable[Record]) -> list[tuple[Record, int]]:
        """Count a delivery of each of these; beside each, how many this record has had.

        Not of those that are done: of a partition that was lost and came back, a delivery from before may settle what
        waits here.
        """
        with self._changed:
            return [
                (record, self._ledgers[record.partition].begin(record.offset))
                for record in records
                if record.partition in self._ledgers and not self._is_done(record)
            ]

    def undo(self, record: Record) -> None:
        """Nobody saw this delivery."""
        with self._changed:
            if record.partition in self._ledgers:
                self._ledgers[record.partition].undo(record.offset)

    def end(self, record: Record) -> None:
        """The record is done."""
        with self._changed:
            self._moving.discard((record.partition, record.offset))
            if record.partition in self._ledgers:
                self._ledgers[record.partition].end(record.offset)
            self._changed.notify_all()

    def come_again(self, record: Record, *, delay_s: float) -> None:
        """Have a record delivered again from here."""
        with self._changed:
            self._moving.discard((record.partition, record.offset))
            if self._is_open(record):
                self._again.append((time.monotonic() + delay_s, record))
            self._changed.notify_all()

    def move(self, record: Record) -> bool:
        """A record goes to another topic, and is done or comes again when it has arrived or not; False: it is not here.

        Then whoever has its partition delivers it again.
        """
        with self._changed:
            if self._is_open(record):
                self._moving.add((record.partition, record.offset))
                return True
            return False

    def wait_moved(self, timeout_s: float) -> None:
        """Wait until all that were on their way have arrived or not."""
        with self._changed:
            self._changed.wait_for(lambda: not self._moving, timeout_s)

    def commit(self, consumer: Consumer, *, is_asynchronous: bool = False) -> None:
        """Commit what changed.

        Raises: KafkaException
        """
        commit_ledgers(consumer, self._topic, self._ledgers, lock=self._changed, is_asynchronous=is_asynchronous)

    def touch(self) -> None:
        """Have the next commit hold every partition, for one of those before may have been refused unheard."""
        with self._changed:
            for ledger in self._ledgers.values():
                ledger.is_changed = True

    def _is_done(self, record: Record) -> bool:
        return record.partition in self._ledgers and self._ledgers[record.partition].is_done(record.offset)

    def _is_open(self, record: Record) -> bool:
        return record.partition in self._ledgers and self._ledgers[record.partition].is_open(record.offset)
