"""What one Kafka subscriber holds: within its limits, whoever adds, settles, parks or closes at the same moment."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

import pytest

from handoff.brokers.kafka.delivery import Holdings, KafkaDelivery
from handoff.brokers.kafka.handover import Handover
from handoff.brokers.kafka.parking import DONE, DUE, LEASE_NOTE, SAYS_NOTE, Parking
from handoff.brokers.kafka.records import Record
from handoff.brokers.kafka.subscription import KafkaSubscription
from handoff.contracts.errors import BrokerUnavailable, SettingsInvalid
from handoff.contracts.protocols import Limits, Message
from handoff.contracts.topology import SubscriptionSpec
from tests.kafka_fakes import FakeCluster, FakePublisher, wait_until

SPEC = SubscriptionSpec(name="read", topic="requests", ack_deadline_s=30.0)
RETRIES = "read-retry"

Park = Callable[[], Future[list[tuple[Record, bool]]]]


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

    def test_a_signal_handler_may_close_while_a_close_is_under_way(self) -> None:
        """A second signal during the first: each lane is told once, for what it waits on is no lock to take twice."""
        told: list[str] = []

        class Lane:
            """Is interrupted while it is told."""

            def start(self) -> None:
                """Nothing to fetch."""

            def wait_joined(self, timeout_s: float) -> None:
                """It has."""

            def close(self) -> None:
                """A signal comes in the middle of it."""
                told.append("closing")
                assert len(told) < 5
                subscription.close()

            def join(self) -> None:
                """It is."""

        subscription = KafkaSubscription(Holdings(Limits()), parking=None, retries=None, discard=None)
        subscription.start([Lane(), Lane()])
        subscription.close()
        subscription.finish()
        assert told == ["closing"] * 2


class TestSettling:
    """A delivery ends once, where its record is: at its lane, or parked on the retry topic."""

    @pytest.fixture
    def publisher(self) -> FakePublisher:
        """Answers when it is told to."""
        publisher = FakePublisher(FakeCluster({RETRIES: 1}))
        publisher.is_held = True
        return publisher

    @pytest.fixture
    def parking(self, publisher: FakePublisher) -> Iterator[Parking]:
        """Leases on the retry topic."""
        parking = Parking(publisher, topic=RETRIES, ack_deadline_s=SPEC.ack_deadline_s)  # type: ignore[arg-type]
        parking.start()
        yield parking
        publisher.confirm()
        parking.stop()

    @pytest.fixture
    def holdings(self) -> Holdings:
        """With room."""
        return Holdings(Limits())

    @pytest.fixture
    def lane(self, holdings: Holdings, parking: Parking) -> Settled:
        """Whose deliveries are settled as those of a subscription."""
        return Settled(KafkaSubscription(holdings, parking=parking, retries=None, discard=None).settle)

    @pytest.fixture
    def delivery(self, holdings: Holdings, lane: Settled) -> KafkaDelivery:
        """One that was yielded."""
        holdings.add(lane.deliveries(1))
        delivery = holdings.next()
        assert delivery
        return delivery

    @pytest.fixture
    def park(self, holdings: Holdings, publisher: FakePublisher, parking: Parking) -> Iterator[Park]:
        """Park everything from another thread, up to the wait for the publication."""
        handover = Handover(SPEC, holdings=holdings, publisher=publisher, parking=parking)  # type: ignore[arg-type]
        with ThreadPoolExecutor(1) as threads:

            def begin() -> Future[list[tuple[Record, bool]]]:
                parked = threads.submit(handover.park, lambda _: True, wait_s=0.0)
                wait_until(lambda: publisher.held_count)
                return parked

            yield begin
            publisher.confirm()

    def said(self, publisher: FakePublisher) -> list[object]:
        """What was said of leases."""
        return [notes[SAYS_NOTE] for _, _, notes in publisher.sent if SAYS_NOTE in notes]

    def test_the_first_of_ack_and_nack_counts(self, delivery: KafkaDelivery, lane: Settled, holdings: Holdings) -> None:
        """From whichever thread; and there is room again."""
        with ThreadPoolExecutor(8) as threads:
            for _ in threads.map(lambda end: end(), [delivery.ack] * 8):
                pass
        delivery.nack(5)
        assert lane.ends == [(0, None)]
        assert holdings.count == 0

    def test_a_delay_is_never_negative(self, delivery: KafkaDelivery, lane: Settled) -> None:
        """It is a time to come."""
        delivery.nack(-1)
        assert lane.ends == [(0, 0.0)]

    @pytest.mark.parametrize(("delay_s", "says"), [(None, DONE), (5.0, DUE)])
    def test_what_is_parked_ends_on_the_retry_topic(
        self, delivery: KafkaDelivery, publisher: FakePublisher, park: Park,
        delay_s: float | None, says: str,
    ) -> None:  # fmt: skip
        """Behind the lease's own record, under its name."""
        parked = park()
        publisher.confirm()
        assert parked.result(20) == [(delivery.record, True)]
        delivery.ack() if delay_s is None else delivery.nack(delay_s)
        assert self.said(publisher) == [says]
        assert publisher.sent[0][2][LEASE_NOTE] == publisher.sent[1][2][LEASE_NOTE] == delivery.lease

    def test_an_ack_while_it_is_being_parked_is_an_ack(
        self,
        delivery: KafkaDelivery,
        lane: Settled,
        publisher: FakePublisher,
        park: Park,
    ) -> None:
        """The lane hears of it too, for it may be that nothing was parked."""
        parked = park()
        delivery.ack()
        publisher.confirm()
        assert parked.result(20) == [(delivery.record, True)]
        assert self.said(publisher) == [DONE]
        assert lane.ends == [(0, None)]

    def test_what_could_not_be_parked_is_the_lanes_again(
        self,
        delivery: KafkaDelivery,
        lane: Settled,
        publisher: FakePublisher,
        park: Park,
    ) -> None:
        """It is not given up, and its ack goes where it was fetched."""
        parked = park()
        publisher.errors.append(BrokerUnavailable("no answer"))
        publisher.confirm()
        assert parked.result(20) == []
        delivery.ack()
        assert lane.ends == [(0, None)]
        assert publisher.sent == []

    @pytest.mark.parametrize("delay_s", [0.0, 5.0])
    def test_a_nack_while_it_cannot_be_parked_comes_again(
        self,
        delivery: KafkaDelivery,
        publisher: FakePublisher,
        park: Park,
        delay_s: float,
    ) -> None:
        """The lease that it ended is nowhere, so the lane is told that the record has nobody."""
        parked = park()
        delivery.nack(delay_s)
        publisher.errors.append(BrokerUnavailable("no answer"))
        publisher.confirm()
        assert parked.result(20) == [(delivery.record, False)]

    def test_an_ack_while_it_cannot_be_parked_is_an_ack(
        self,
        delivery: KafkaDelivery,
        lane: Settled,
        publisher: FakePublisher,
        park: Park,
    ) -> None:
        """The lane has heard of it, whatever else it hears."""
        parked = park()
        delivery.ack()
        publisher.errors.append(BrokerUnavailable("no answer"))
        publisher.confirm()
        parked.result(20)
        assert lane.ends == [(0, None)]

    def test_settling_never_raises(self, delivery: KafkaDelivery, holdings: Holdings, parking: Parking) -> None:
        """After the subscriber has given everything back, too."""
        holdings.abandon()
        assert holdings.count == 0
        parking.stop()
        delivery.ack()
        delivery.nack()
