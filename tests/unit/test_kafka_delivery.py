"""What one Kafka subscriber holds: within its limits, whoever adds, settles, parks or closes at the same moment."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

import pytest

from handoff.brokers.kafka.delivery import Holdings, KafkaDelivery
from handoff.brokers.kafka.records import Record
from handoff.contracts.errors import BrokerUnavailable, SettingsInvalid
from handoff.contracts.protocols import Limits, Message
from handoff.contracts.topology import SubscriptionSpec

SPEC = SubscriptionSpec(name="read", topic="requests", ack_deadline_s=30.0)
RETRIES = "read-retry"


class Settled:
    """Where the deliveries of a lane go: remembers what became of their records."""

    def __init__(self, settle: Callable[[KafkaDelivery, float | None], None] = lambda *_: None) -> None:
        self.settle = settle
        self.ends: list[tuple[int, float | None]] = []

    def end(self, delivery: KafkaDelivery, delay_s: float | None) -> None:
        """What a lane does for a record that was not parked."""
        self.ends.append((delivery.record.offset, delay_s))

    def deliveries(self, count: int, *, first: int = 0, images: int = 1) -> list[KafkaDelivery]:
        """So many."""
        return [
            KafkaDelivery(
                Record(0, offset, Message(body=b"%d" % offset, attributes={"ce-imagecount": str(images)}), 0, {}),
                attempt=1,
                settle=self.settle,
                settle_record=self.end,
            )
            for offset in range(first, first + count)
        ]


def offsets(deliveries: Sequence[KafkaDelivery]) -> list[int]:
    """Which records these are."""
    return [delivery.record.offset for delivery in deliveries]


class TestLimits:
    """As much as a subscriber may hold, and no more."""

    def test_what_fits_is_taken_from_the_first_on(self) -> None:
        """One until sizes are known, then messages and images are counted."""
        holdings = Holdings(Limits(max_in_flight=4, max_images=10))
        first, *others = Settled().deliveries(6, images=3)
        assert holdings.add_fitting([first, *others]) == 1
        assert holdings.add_fitting(others) == 2  # nine images of ten
        assert holdings.add_fitting(others[2:]) == 0
        assert holdings.count == 3
        assert holdings.release(first)
        assert holdings.add_fitting(others[2:]) == 1

    def test_one_over_the_limit_is_taken_alone(self) -> None:
        """Nobody else would take it either."""
        holdings = Holdings(Limits(max_images=10))
        assert holdings.add_fitting(Settled().deliveries(3, images=50)) == 1

    def test_two_lanes_hold_no_more_than_one_may(self) -> None:
        """Eight threads offer at once, again and again: the limit holds at every moment."""
        holdings, counts = Holdings(Limits(max_in_flight=3)), list[int]()
        start = threading.Barrier(8)

        def offer(number: int) -> int:
            taken = 0
            for turn in range(200):
                start.wait(timeout=30)
                taken += holdings.add_fitting(Settled().deliveries(3, first=1000 * number + 3 * turn))
                start.wait(timeout=30)
                if number == 0:
                    counts.append(holdings.count)
                    while holdings.count:
                        delivery = holdings.next()
                        assert delivery
                        holdings.release(delivery)
            return taken

        with ThreadPoolExecutor(8) as threads:
            taken = list(threads.map(offer, range(8)))
        assert max(counts) == 3
        assert sum(taken) == sum(counts)

    def test_a_closed_subscriber_takes_nothing(self) -> None:
        """It is the lane's again."""
        holdings = Holdings(Limits())
        holdings.close()
        assert holdings.add_fitting(Settled().deliveries(1)) == 0
        assert not holdings.add(Settled().deliveries(1))
        assert holdings.count == holdings.room(0.0) == 0


class TestEnd:
    """The iteration ends by `close` or by an error."""

    def test_close_ends_it_whatever_is_ready(self) -> None:
        """What was not yielded goes back."""
        holdings, deliveries = Holdings(Limits()), Settled().deliveries(3)
        holdings.add(deliveries)
        assert holdings.next() is deliveries[0]
        holdings.close()
        assert holdings.next() is None
        assert holdings.take_back(lambda _: True) == deliveries[1:]
        assert holdings.count == 1

    def test_an_error_comes_after_what_was_ready(self) -> None:
        """And again, for whoever asks again; the first one is the cause."""
        holdings, (delivery,) = Holdings(Limits()), Settled().deliveries(1)
        holdings.add([delivery])
        holdings.fail(BrokerUnavailable("first"))
        holdings.fail(SettingsInvalid("second"))
        assert holdings.next() is delivery
        for _ in range(2):
            with pytest.raises(BrokerUnavailable, match="first"):
                holdings.next()

    def test_after_close_an_error_is_nobodys(self) -> None:
        """A lane that fails while it leaves."""
        holdings = Holdings(Limits())
        holdings.close()
        holdings.fail(BrokerUnavailable("too late"))
        assert holdings.next() is None

    def test_a_signal_handler_may_close_within_the_lock(self) -> None:
        """It runs in the thread that iterates, also while that waits, and also where that holds the lock."""
        holdings = Holdings(Limits())
        previous = signal.signal(signal.SIGALRM, lambda *_: holdings.close())
        try:
            signal.setitimer(signal.ITIMER_REAL, 0.05)
            assert holdings.next() is None
            holdings = Holdings(Limits())
            holdings.add(Settled().deliveries(2))
            # What is wanted is asked within the lock.
            assert len(holdings.take_back(lambda _: not signal.raise_signal(signal.SIGALRM))) == 2
            assert holdings.next() is None
        finally:
            signal.signal(signal.SIGALRM, previous)
