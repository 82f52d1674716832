"""The retry topic, seen from who writes it: messages that come again later, and leases on what is still at work.

A record of a partition that goes to another worker, or whose lock cannot be prolonged, is given up there and parked
here: the retry topic has one partition, so whoever reads it sees a lease before its prolongations and its end.
"""

from __future__ import annotations

import logging
import time
import uuid
from collections.abc import Sequence
from concurrent.futures import Future

from handoff.brokers.kafka.delivery import KafkaDelivery
from handoff.brokers.kafka.publisher import Publisher
from handoff.brokers.kafka.records import ATTEMPTS_NOTE, Record
from handoff.brokers.leases import LeaseKeeper
from handoff.contracts.protocols import Message

_log = logging.getLogger(__name__)

# When a message is due, in milliseconds since the epoch, and how long that was from its publication: whoever reads it
# waits no longer than that, whatever the two machines' clocks say.
DUE_NOTE = "fashion-due-ms"
DELAY_NOTE = "fashion-delay-ms"
LEASE_NOTE = "fashion-lease"
# What a record without a body says of a lease: that it goes on until then, that its message is due then, or done.
SAYS_NOTE = "fashion-says"
HELD, DUE, DONE = "held", "due", "done"

_NOTHING = Message(body=b"")


class Parking:
    """Publishes to the retry topic of one subscription, and keeps the leases there alive."""

    def __init__(self, publisher: Publisher, *, topic: str, ack_deadline_s: float) -> None:
        self._publisher = publisher
        self._topic = topic
        self._ack_deadline_s = ack_deadline_s
        self._keeper: LeaseKeeper[str] = LeaseKeeper(self._prolong, ack_deadline_s=ack_deadline_s)

    def start(self) -> None:
        """Begin to keep leases."""
        self._keeper.start()

    def stop(self) -> None:
        """Let what is still leased come again at once."""
        for lease in self._keeper.stop():
            self._say(lease, DUE, 0.0)

    def delay(self, message: Message, *, attempts: int, delay_s: float) -> Future[str]:
        """Have a message come again, not before `delay_s` seconds from now."""
        return self._publisher.publish(self._topic, message, notes={ATTEMPTS_NOTE: attempts, **_due_in(delay_s)})

    def park(self, delivery: KafkaDelivery) -> Future[str]:
        """Lease a delivery's message here, from the moment the future says; its record can then be given up."""
        lease = uuid.uuid4().hex
        delivery.lease = lease
        self._keeper.hold(lease)
        notes = {ATTEMPTS_NOTE: delivery.attempt, LEASE_NOTE: lease, **_due_in(self._ack_deadline_s)}
        return self._publisher.publish(self._topic, delivery.message, notes=notes)

    def end(self, delivery: KafkaDelivery, delay_s: float | None) -> bool:
        """Settle a parked delivery: it is done, or comes again in `delay_s` seconds. False where it is not parked."""
        lease = delivery.lease
        if lease is None or not self._keeper.release(lease):
            return False
        self._say(lease, DONE if delay_s is None else DUE, delay_s or 0.0)
        return True

    def forget(self, delivery: KafkaDelivery) -> bool:
        """It could not be parked, and is its lane's again; False where it was settled meanwhile."""
        lease, delivery.lease = delivery.lease, None
        return lease is not None and self._keeper.release(lease)

    def _prolong(self, leases: Sequence[str]) -> None:
        for lease in leases:
            self._say(lease, HELD, self._ack_deadline_s)

    def _say(self, lease: str, what: str, delay_s: float) -> None:
        notes = {LEASE_NOTE: lease, SAYS_NOTE: what, **_due_in(delay_s)}
        self._publisher.publish(self._topic, _NOTHING, notes=notes).add_done_callback(_complain)


def when_due(record: Record, *, is_news: bool) -> float:
    """When a record is due, by the monotonic clock of this process.

    News is due so much later than it is read; what waited in the topic by the clocks, and no later than that.
    """
    due_ms, delay_ms = (record.notes.get(name, "") for name in (DUE_NOTE, DELAY_NOTE))
    if not (due_ms.isdecimal() and delay_ms.isdecimal() and len(due_ms + delay_ms) < 30):  # noqa: PLR2004 - of a clock
        return 0.0
    delay_s, left_s = int(delay_ms) / 1000, int(due_ms) / 1000 - time.time()
    return time.monotonic() + (delay_s if is_news else min(max(left_s, 0.0), delay_s))


def _due_in(delay_s: float) -> dict[str, object]:
    return {DUE_NOTE: round((time.time() + delay_s) * 1000), DELAY_NOTE: round(delay_s * 1000)}


def _complain(future: Future[str]) -> None:
    error = future.exception()
    if error is not None:
        _log.warning("a delivery may come again although it is held or done: %s", error)
