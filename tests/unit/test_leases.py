"""Held leases are extended until they are let go of."""

from __future__ import annotations

import queue
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from handoff.brokers.leases import LeaseKeeper
from handoff.contracts.errors import BrokerUnavailable

# The keeper extends at a third of it: ten times a second.
ACK_DEADLINE_S = 0.3


class Extensions:
    """Records what is extended, after failing a few times."""

    def __init__(self, *, failures: int = 0) -> None:
        self.made: queue.Queue[set[str]] = queue.Queue()
        self._failures = failures

    def extend(self, leases: Sequence[str]) -> None:
        """Extend, or fail."""
        self.made.put(set(leases))
        if self._failures:
            self._failures -= 1
            raise BrokerUnavailable("The broker did not answer.")

    def next_with(self, wanted: set[str]) -> bool:
        """Wait for an extension of exactly these."""
        return any(self.made.get(timeout=30) == wanted for _ in range(100))


@contextmanager
def keeping(extensions: Extensions) -> Iterator[LeaseKeeper[str]]:
    """A keeper at work."""
    keeper: LeaseKeeper[str] = LeaseKeeper(extensions.extend, ack_deadline_s=ACK_DEADLINE_S)
    keeper.start()
    try:
        yield keeper
    finally:
        keeper.stop()


def test_what_is_held_is_extended_again_and_again() -> None:
    """Every held lease is in every extension, those let go of in none."""
    extensions = Extensions()
    with keeping(extensions) as keeper:
        keeper.hold("a")
        keeper.hold("b")
        assert extensions.next_with({"a", "b"})
        assert extensions.next_with({"a", "b"})
        keeper.release("a")
        assert extensions.next_with({"b"})


def test_a_failed_extension_is_tried_again() -> None:
    """A broker that does not answer once or twice costs no lease."""
    extensions = Extensions(failures=2)
    with keeping(extensions) as keeper:
        keeper.hold("a")
        for _ in range(3):
            assert extensions.next_with({"a"})


def test_a_lease_is_let_go_of_once() -> None:
    """The second release says that there was nothing to let go of: so an ack after a nack does nothing."""
    keeper: LeaseKeeper[str] = LeaseKeeper(Extensions().extend, ack_deadline_s=60)
    keeper.hold("a")
    assert keeper.release("a") is True
    assert keeper.release("a") is False
    assert keeper.release("never held") is False


def test_stopping_tells_what_was_held() -> None:
    """What is still held at the end can be given back; asked again there is nothing."""
    keeper: LeaseKeeper[str] = LeaseKeeper(Extensions().extend, ack_deadline_s=60)
    keeper.start()
    keeper.hold("a")
    keeper.hold("b")
    keeper.release("b")
    assert keeper.stop() == ["a"]
    assert keeper.stop() == []
    assert keeper.release("a") is False
