"""Taking deliveries from the queue file."""

from __future__ import annotations

import itertools
import logging
import math
import sqlite3
import threading
import time
import uuid
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, wait
from functools import partial

from handoff.brokers.dead_letters import MAX_ATTEMPTS_CODE, dead_letter, never_acked
from handoff.brokers.embedded import statements
from handoff.brokers.embedded.clock import FileClock
from handoff.brokers.embedded.database import transaction, translated_errors
from handoff.brokers.embedded.writer import Writer
from handoff.brokers.leases import LeaseKeeper
from handoff.brokers.outage import Outage
from handoff.brokers.window import Window
from handoff.contracts.errors import BrokerUnavailable
from handoff.contracts.topology import SubscriptionSpec

_log = logging.getLogger(__name__)

# A waiting subscriber asks this often whether the file changed: soonest right after a change, when an answer to what
# was written may come, and seldom after a second of silence. A look costs 60-120 µs with its wake-up, so an idle worker
# uses about 1 % of a core and notices a message within 12 ms.
FIRST_WATCH_PERIODS_S = (0.002, 0.0025, 0.003, 0.004)
WATCH_PERIOD_S = 0.005
IDLE_WATCH_PERIOD_S = 0.012
LOOKS_BEFORE_IDLE = 200

# The owner of a temporary subscription renews it this often; it lives a day without.
RENEWAL_PERIOD_S = 3_600.0

# How long a subscriber outlives a full disk, or a program stopped in the middle of a write.
OUTAGE_S = 120.0

# What identifies a delivery in the file: the message, and which taking of it this was.
Lease = tuple[int, str]
Settle = Callable[["EmbeddedDelivery", Callable[..., None]], None]


class EmbeddedDelivery:
    """One handing-over of a message, leased until it is acked or nacked."""

    def __init__(self, claim: statements.Claim, *, lease: str, clock: FileClock, settle: Settle) -> None:
        self.message = claim.message
        self.attempt = claim.attempt
        self.lease: Lease = (claim.message_id, lease)
        self._clock = clock
        self._settle = settle

    def ack(self) -> None:
        """End the delivery: the message is done."""
        self._settle(self, statements.ack)

    def nack(self, delay_s: float = 0.0) -> None:
        """Give the message back, due again in `delay_s` seconds."""
        self._settle(self, partial(statements.nack, due_at=self._clock.now() + delay_s, unseen=False))

    def return_unseen(self) -> None:
        """Give back a message that no consumer has seen; it does not count as an attempt."""
        self._settle(self, partial(statements.nack, due_at=self._clock.now(), unseen=True))


class EmbeddedSubscription:
    """The deliveries of one subscriber, in the order they fell due."""

    def __init__(
        self,
        spec: SubscriptionSpec,
        *,
        connection: sqlite3.Connection,
        writer: Writer,
        clock: FileClock,
        window: Window,
        subscription_id: int,
    ) -> None:
        self._spec = spec
        self._connection = connection
        self._writer = writer
        self._clock = clock
        self._window = window
        self._id = subscription_id
        self._lease_names = (f"{uuid.uuid4().hex[:12]}-{number}" for number in itertools.count())
        self._renewed_at = self._clock.now()
        self._ready: deque[EmbeddedDelivery] = deque()
        self._lock = threading.Lock()
        self._closed = threading.Event()
        self._outage = Outage(give_up_after_s=OUTAGE_S)
        self._leases: LeaseKeeper[Lease] = LeaseKeeper(self._extend, ack_deadline_s=spec.ack_deadline_s)

    def start(self) -> None:
        """Begin to keep leases alive."""
        self._leases.start()

    def __iter__(self) -> Iterator[EmbeddedDelivery]:
        """Yield deliveries until `close`.

        Raises: BrokerUnavailable: the file could not be used for two minutes
        """
        while room := self._window.wait_for_room():
            self._renew()
            # Read before claiming: a message published in between changes it, and so is not overlooked.
            try:
                version = self._file_version()
                if not self._claim(room):
                    self._wait_for_change(version)
                self._outage.end()
            except BrokerUnavailable as error:
                self._wait_out(error)
            while (delivery := self._next_ready()) is not None:
                yield delivery

    def close(self) -> None:
        """Stop yielding; what was yielded stays leased until the broker closes."""
        with self._lock:
            first = not self._closed.is_set()
            self._closed.set()
            unseen, self._ready = list(self._ready), deque()
        self._window.close()
        for delivery in unseen:
            delivery.return_unseen()
        if first and self._spec.temporary:
            wait([self._submit(partial(statements.drop_subscription, name=self._spec.name))])

    def finish(self) -> None:
        """Give back what is still held and close the connection; the broker calls it when it closes."""
        self.close()
        give_back = partial(statements.nack, subscription=self._id, due_at=self._clock.now(), unseen=False)
        for message_id, lease in self._leases.stop():
            self._submit(partial(give_back, message_id=message_id, lease=lease))
        with self._lock:
            self._connection.close()

    def _claim(self, most: int) -> int:
        lease, now = next(self._lease_names), self._clock.now()
        until = now + self._spec.ack_deadline_s
        with self._lock, translated_errors():
            if self._closed.is_set() or not self._is_due(now):
                return 0
            with transaction(self._connection):
                claims = statements.claim(
                    self._connection,
                    self._id,
                    most=most,
                    lease=lease,
                    until=until,
                    now=now,
                    fitting=self._window.fitting,
                )
                claims = [claim for claim in claims if not self._bury(claim, lease=lease, now=now)]
            for claim in claims:
                delivery = EmbeddedDelivery(claim, lease=lease, clock=self._clock, settle=self._settle)
                self._leases.hold(delivery.lease)
                self._window.take(delivery.message)
                self._ready.append(delivery)
            return len(claims)

    def _bury(self, claim: statements.Claim, *, lease: str, now: float) -> bool:
        """Move a message that has used up its attempts to the dead letters, within the claiming transaction."""
        if self._spec.dead_letter_topic is None or claim.attempt <= self._spec.max_attempts:
            return False
        letter = dead_letter(
            claim.message,
            code=MAX_ATTEMPTS_CODE,
            reason=never_acked(claim.attempt - 1),
            attempts=claim.attempt - 1,
        )
        statements.publish(self._connection, self._spec.dead_letter_topic, letter, now=now, date=time.time())
        statements.ack(self._connection, self._id, claim.message_id, lease=lease)
        return True

    def _wait_out(self, error: BrokerUnavailable) -> None:
        wait_s = self._outage.next_wait_s()
        if wait_s is None:
            raise error
        _log.warning("nothing taken, again in %.1f s: %s", wait_s, error)
        self._closed.wait(wait_s)

    def _next_ready(self) -> EmbeddedDelivery | None:
        with self._lock:
            return self._ready.popleft() if self._ready else None

    def _is_due(self, now: float) -> bool:
        due_at = statements.next_due_at(self._connection, self._id)
        return due_at is not None and due_at <= now

    def _file_version(self) -> int:
        with self._lock, translated_errors():
            return -1 if self._closed.is_set() else int(self._connection.execute("PRAGMA data_version").fetchone()[0])

    def _wait_for_change(self, version: int) -> None:
        with self._lock, translated_errors():
            due_at = None if self._closed.is_set() else statements.next_due_at(self._connection, self._id)
        due_at = min(due_at or math.inf, self._clock.now() + RENEWAL_PERIOD_S)
        periods = itertools.chain(
            FIRST_WATCH_PERIODS_S,
            itertools.repeat(WATCH_PERIOD_S, LOOKS_BEFORE_IDLE),
            itertools.repeat(IDLE_WATCH_PERIOD_S),
        )
        while not self._closed.wait(next(periods)):
            if self._file_version() != version or due_at <= self._clock.now():
                return

    def _renew(self) -> None:
        if self._spec.temporary and self._renewed_at + RENEWAL_PERIOD_S <= self._clock.now():
            self._renewed_at = self._clock.now()
            self._submit(partial(statements.keep_temporary, name=self._spec.name, now=self._renewed_at))

    def _settle(self, delivery: EmbeddedDelivery, write: Callable[..., None]) -> None:
        if self._leases.release(delivery.lease):
            message_id, lease = delivery.lease
            self._submit(partial(write, subscription=self._id, message_id=message_id, lease=lease))
            self._window.give_back(delivery.message)

    def _extend(self, leases: Sequence[Lease]) -> None:
        until = self._clock.now() + self._spec.ack_deadline_s
        self._submit(partial(statements.extend, subscription=self._id, leases=leases, until=until))

    def _submit(self, write: Callable[[sqlite3.Connection], None]) -> Future[None]:
        future = self._writer.submit(write)
        future.add_done_callback(_log_failure)
        return future


def _log_failure(future: Future[None]) -> None:
    if error := future.exception():
        _log.warning("a delivery's end was not written, so it will be redelivered: %s", error)
