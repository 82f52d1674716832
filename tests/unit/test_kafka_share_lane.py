"""A worker's part of a share group, given polls that no healthy cluster gives on demand."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator

import pytest
from confluent_kafka import AcknowledgeType, KafkaError

from handoff.brokers.dead_letters import burial_of
from handoff.brokers.kafka.delivery import Holdings
from handoff.brokers.kafka.handover import Handover
from handoff.brokers.kafka.parking import DONE, SAYS_NOTE, Parking
from handoff.brokers.kafka.records import ATTEMPTS_NOTE, headers_of
from handoff.brokers.kafka.share_lane import ShareLane
from handoff.brokers.kafka.subscription import KafkaSubscription
from handoff.contracts.errors import BrokerUnavailable, FashionError, SettingsInvalid
from handoff.contracts.protocols import Limits, Message
from handoff.contracts.topology import SubscriptionSpec
from tests.conformance.consumer import Consumer, bodies
from tests.kafka_fakes import FakeCluster, FakePublisher, FakeRecord, FakeShareConsumer, wait_until

SPEC = SubscriptionSpec(
    name="read", topic="requests", ack_deadline_s=1.5, max_attempts=6, dead_letter_topic="dead-letters"
)
RETRIES = "read-retry"
LIMITS = Limits()
ACCEPT, RELEASE = AcknowledgeType.ACCEPT, AcknowledgeType.RELEASE
SILENCE = BrokerUnavailable("no answer")


def record(offset: int, *, deliveries: int = 1, attempts: int = 0, images: int = 1) -> FakeRecord:
    """One of the topic's, of which so many attempts were made by earlier records of its message."""
    message = Message(body=b"%d" % offset, attributes={"ce-imagecount": str(images)})
    headers = headers_of(message, {ATTEMPTS_NOTE: attempts} if attempts else {})
    return FakeRecord(message.body, offset=offset, headers=headers, deliveries=deliveries)


class Worker:
    """One subscriber with one lane."""

    def __init__(self, *, limits: Limits) -> None:
        self.members: list[FakeShareConsumer] = []
        self.errors: deque[FashionError] = deque()
        self.publisher = FakePublisher(FakeCluster({}))
        self.holdings = Holdings(limits)
        parking = Parking(self.publisher, topic=RETRIES, ack_deadline_s=600.0)  # type: ignore[arg-type]
        handover = Handover(SPEC, holdings=self.holdings, publisher=self.publisher, parking=parking)  # type: ignore[arg-type]
        self.subscription = KafkaSubscription(self.holdings, parking=parking, retries=None, discard=None)
        self.lane = ShareLane(
            SPEC,
            connect=self._connect,  # type: ignore[arg-type]
            holdings=self.holdings,
            handover=handover,
            settle=self.subscription.settle,
        )
        # Without a cluster nobody joins; what is said of that comes later.
        self.lane.thread.joined()
        self.subscription.start([self.lane.thread])

    @property
    def member(self) -> FakeShareConsumer:
        """The one at work."""
        wait_until(lambda: self.members)
        return self.members[-1]

    def _connect(self) -> FakeShareConsumer:
        if self.errors:
            raise self.errors.popleft()
        self.members.append(FakeShareConsumer())
        return self.members[-1]


Join = Callable[..., Worker]


@pytest.fixture
def join(monkeypatch: pytest.MonkeyPatch) -> Iterator[Join]:
    """Subscribers, finished at the end."""
    monkeypatch.setattr("handoff.brokers.kafka.share_lane.SPARE_AFTER_S", 0.2)
    monkeypatch.setattr("handoff.brokers.outage.random.uniform", lambda *_: 0.01)
    workers: list[Worker] = []

    def start(*, limits: Limits = LIMITS) -> Worker:
        workers.append(Worker(limits=limits))
        return workers[-1]

    yield start
    for worker in workers:
        worker.publisher.confirm()
        worker.subscription.finish()


def warmed(worker: Worker) -> Consumer:
    """A consumer of a worker that knows how large messages are, and so has room for several."""
    consumer = Consumer(worker.subscription)
    worker.member.give(record(999))
    consumer.take()[0].ack()
    wait_until(lambda: worker.member.acknowledged == [(999, ACCEPT)])
    worker.member.acknowledged.clear()
    return consumer


class TestAcknowledgements:
    """Of each record it is said what became of it, once all of a poll have ended."""

    def test_what_was_acked_is_accepted_and_what_was_nacked_released(self, join: Join) -> None:
        """Together, in their order; then more is fetched."""
        worker = join()
        consumer = warmed(worker)
        worker.member.give(record(1), record(2), record(3))
        first, second, third = consumer.take(3)
        third.ack()
        second.nack()
        assert worker.member.acknowledged == []
        first.ack()
        wait_until(lambda: worker.member.acknowledged == [(1, ACCEPT), (2, RELEASE), (3, ACCEPT)])
        worker.member.give(record(2, deliveries=2))
        (again,) = consumer.take()
        assert (again.message.body, again.attempt) == (b"2", 2)
        again.ack()

    def test_a_delay_is_waited_for_on_the_retry_topic(self, join: Join) -> None:
        """The record ends when its message has arrived there; where it does not arrive it is released."""
        worker = join()
        consumer = warmed(worker)
        worker.member.give(record(1, attempts=2), record(2))
        first, second = consumer.take(2)
        worker.publisher.is_held = True
        first.nack(delay_s=60)
        second.nack(delay_s=60)
        assert worker.member.locked_count == 2
        worker.publisher.errors.append(SILENCE)
        worker.publisher.confirm()
        wait_until(lambda: worker.member.acknowledged == [(1, RELEASE), (2, ACCEPT)])
        ((topic, message, notes),) = worker.publisher.sent
        assert (topic, message.body, notes[ATTEMPTS_NOTE]) == (RETRIES, b"2", 1)

    def test_long_work_is_parked_before_its_lock_ends(self, join: Join) -> None:
        """Its poll is acknowledged, the lane fetches on, and its ack goes to the lease."""
        worker = join()
        consumer = warmed(worker)
        worker.member.give(record(1))
        (held,) = consumer.take()
        wait_until(lambda: worker.member.acknowledged == [(1, ACCEPT)])
        assert worker.publisher.bodies(RETRIES) == [b"1"]
        worker.member.give(record(2))
        assert bodies(consumer.take()) == [b"2"]
        held.ack()
        assert worker.publisher.sent[-1][2][SAYS_NOTE] == DONE

    def test_what_cannot_be_parked_keeps_no_lane_from_fetching(self, join: Join) -> None:
        """Parking is tried again; whatever its holder says meanwhile ends the record."""
        worker = join()
        consumer = warmed(worker)
        worker.publisher.errors.extend([SILENCE] * 1_000)
        worker.member.give(record(1), record(2))
        first, second = consumer.take(2)
        wait_until(lambda: len(worker.publisher.errors) < 990)
        first.ack()
        second.nack()
        wait_until(lambda: worker.member.acknowledged == [(1, ACCEPT), (2, RELEASE)])
        worker.publisher.errors.clear()
        worker.member.give(record(3))
        assert bodies(consumer.take()) == [b"3"]

    def test_a_nack_while_it_cannot_be_parked_releases_it(self, join: Join) -> None:
        """The lease that the nack ended is nowhere."""
        worker = join()
        consumer = warmed(worker)
        worker.publisher.is_held = True
        worker.member.give(record(1))
        (held,) = consumer.take()
        wait_until(lambda: worker.publisher.held_count)
        held.nack(delay_s=5)
        worker.publisher.errors.append(SILENCE)
        worker.publisher.confirm()
        wait_until(lambda: worker.member.acknowledged == [(1, RELEASE)])


class TestGivingOn:
    """What this worker cannot use is another's, and is never lost on the way."""

    def test_what_does_not_fit_goes_back(self, join: Join) -> None:
        """To the end of its topic, as if it had not been delivered here."""
        worker = join(limits=Limits(max_in_flight=2))
        consumer = warmed(worker)
        worker.member.give(*(record(number, attempts=1) for number in range(1, 5)))
        held = consumer.take(2)
        wait_until(lambda: worker.publisher.bodies("requests") == [b"3", b"4"])
        assert {notes[ATTEMPTS_NOTE] for topic, _, notes in worker.publisher.sent if topic == "requests"} == {1}
        for delivery in held:
            delivery.ack()
        wait_until(lambda: worker.member.acknowledged == [(number, ACCEPT) for number in range(1, 5)])

    def test_what_fits_a_moment_later_is_delivered(self, join: Join) -> None:
        """There is room as soon as something is settled."""
        worker = join(limits=Limits(max_images=4))
        consumer = warmed(worker)
        worker.member.give(record(1, images=3), record(2, images=3))
        (first,) = consumer.take()
        first.ack()
        assert bodies(consumer.take()) == [b"2"]
        assert worker.publisher.bodies("requests") == []

    def test_the_fourth_delivery_of_a_record_is_a_new_start(self, join: Join) -> None:
        """Brokers drop a record after the fifth without a word; the message's attempts go on counting."""
        worker = join()
        consumer = warmed(worker)
        worker.member.give(record(1, deliveries=4, attempts=1))
        wait_until(lambda: worker.member.acknowledged == [(1, ACCEPT)])
        ((topic, message, notes),) = worker.publisher.sent
        assert (topic, message.body, notes) == ("requests", b"1", {ATTEMPTS_NOTE: 4})
        worker.member.give(record(2, attempts=4))
        (delivery,) = consumer.take()
        assert delivery.attempt == 5

    def test_one_delivered_too_often_is_a_dead_letter(self, join: Join) -> None:
        """With what was in it, and how often it was delivered."""
        worker = join()
        warmed(worker)
        worker.member.give(record(1, deliveries=2, attempts=5))
        wait_until(lambda: worker.member.acknowledged == [(1, ACCEPT)])
        ((topic, letter, _),) = worker.publisher.sent
        assert (topic, letter.body, burial_of(letter).attempts) == ("dead-letters", b"1", 6)

    def test_a_dead_letter_that_cannot_be_published_is_tried_again_later(self, join: Join) -> None:
        """By way of the retry topic: released again and again it would be dropped by the brokers."""
        worker = join()
        warmed(worker)
        worker.publisher.errors.append(SettingsInvalid("No such topic."))
        worker.member.give(record(1, deliveries=2, attempts=5))
        wait_until(lambda: worker.member.acknowledged == [(1, ACCEPT)])
        ((topic, message, notes),) = worker.publisher.sent
        assert (topic, message.body, notes[ATTEMPTS_NOTE]) == (RETRIES, b"1", 6)

    def test_where_nothing_can_be_published_it_is_released(self, join: Join) -> None:
        """It is the group's again."""
        worker = join()
        warmed(worker)
        worker.publisher.errors.extend([SILENCE] * 2)
        worker.member.give(record(1, deliveries=2, attempts=5))
        wait_until(lambda: worker.member.acknowledged == [(1, RELEASE)])


class TestEnd:
    """Leaving, on purpose or not."""

    def test_a_leaving_worker_leaves_nothing_locked(self, join: Join) -> None:
        """What was not yielded goes back uncounted; what was yielded is leased, and can still be acked."""
        worker = join(limits=Limits(max_in_flight=8))
        deliveries = iter(worker.subscription)
        worker.member.give(record(999))
        next(deliveries).ack()
        worker.member.give(record(1), record(2), record(3))
        yielded = next(deliveries)
        worker.subscription.close()
        worker.lane.thread.join()
        assert sorted(worker.publisher.bodies("requests")) == [b"2", b"3"]
        assert {notes[ATTEMPTS_NOTE] for topic, _, notes in worker.publisher.sent if topic == "requests"} == {0}
        assert worker.publisher.bodies(RETRIES) == [b"1"]
        assert worker.member.acknowledged[1:] == [(1, ACCEPT), (2, ACCEPT), (3, ACCEPT)]
        assert worker.member.commits[-1] == "synchronous"
        assert worker.member.is_closed
        yielded.ack()
        assert worker.publisher.sent[-1][2][SAYS_NOTE] == DONE

    def test_what_was_not_yielded_goes_back_uncounted_when_all_ends_at_once(self, join: Join) -> None:
        """A broker that is closed without a word to its subscription; what was yielded is released."""
        worker = join(limits=Limits(max_in_flight=8))
        deliveries = iter(worker.subscription)
        worker.member.give(record(999))
        next(deliveries).ack()
        worker.member.give(record(1), record(2))
        next(deliveries)
        wait_until(lambda: worker.holdings.count == 2)
        worker.subscription.finish()
        assert worker.publisher.bodies("requests") == [b"2"]
        assert worker.member.acknowledged[1:] == [(1, RELEASE), (2, ACCEPT)]

    def test_what_goes_back_is_published_side_by_side(self, join: Join) -> None:
        """A silent cluster answers for none of them: one wait is enough for all."""
        worker = join()
        worker.member.give(record(999))
        worker.holdings.next()
        worker.member.give(*(record(number) for number in range(1, 11)))
        worker.publisher.is_held = True
        worker.subscription.close()
        wait_until(lambda: worker.publisher.held_count >= worker.member.locked_count - 1)
        worker.publisher.errors.extend([SILENCE] * 20)
        worker.publisher.confirm()
        worker.lane.thread.join()
        assert worker.member.locked_count == 0

    def test_a_delay_that_is_on_its_way_is_waited_for(self, join: Join) -> None:
        """Released beside it, the message would come twice."""
        worker = join()
        consumer = warmed(worker)
        worker.member.give(record(1))
        (delivery,) = consumer.take()
        worker.publisher.is_held = True
        delivery.nack(delay_s=60)
        worker.subscription.close()
        assert worker.member.acknowledged == []
        worker.publisher.confirm()
        worker.lane.thread.join()
        assert worker.member.acknowledged == [(1, ACCEPT)]

    def test_a_member_that_fails_is_replaced(self, join: Join) -> None:
        """What came with the failure comes again to whoever, so that nothing of it is yielded or published here."""
        worker = join()
        consumer = warmed(worker)
        first = worker.member
        failure = FakeRecord(None, error=KafkaError(KafkaError._TRANSPORT, "scripted"))
        first.give(record(1), record(2, deliveries=4), failure, record(3))
        wait_until(lambda: len(worker.members) == 2)
        assert first.is_closed
        worker.member.give(record(4))
        assert bodies(consumer.take()) == [b"4"]
        assert worker.publisher.sent == []

    def test_failures_far_apart_are_no_outage(self, join: Join, monkeypatch: pytest.MonkeyPatch) -> None:
        """Of a worker for whom nothing came in between, either."""
        monkeypatch.setattr("handoff.brokers.kafka.lane.OUTAGE_S", 0.3)
        monkeypatch.setattr("handoff.brokers.kafka.share_lane.CHECK_PERIOD_S", 0.2)
        worker = join()
        for count in (2, 3):
            worker.member.give(KafkaError(KafkaError._TRANSPORT, "scripted"))
            wait_until(lambda count=count: len(worker.members) == count)
            polled_by = time.monotonic() + 0.4
            wait_until(lambda by=polled_by: time.monotonic() > by)
        worker.member.give(record(1))
        assert bodies(Consumer(worker.subscription).take()) == [b"1"]

    def test_a_member_that_cannot_connect_is_told(self, join: Join) -> None:
        """Its thread ended without a word."""
        worker = join()
        worker.errors.append(SettingsInvalid("No such property."))
        worker.member.give(KafkaError(KafkaError._TRANSPORT, "scripted"))
        with pytest.raises(SettingsInvalid, match="No such property"):
            worker.holdings.next()

    def test_a_cluster_without_share_groups_says_what_to_do(self, join: Join) -> None:
        """At once."""
        worker = join()
        worker.member.give(KafkaError(KafkaError.UNSUPPORTED_VERSION, "scripted"))
        with pytest.raises(SettingsInvalid, match="leave mode=share-group out"):
            worker.holdings.next()

    def test_a_lasting_failure_is_told(self, join: Join, monkeypatch: pytest.MonkeyPatch) -> None:
        """After its time."""
        monkeypatch.setattr("handoff.brokers.kafka.lane.OUTAGE_S", 0.0)
        worker = join()
        began = time.monotonic()
        worker.member.give(KafkaError(KafkaError._TRANSPORT, "scripted"))
        with pytest.raises(BrokerUnavailable, match="Cannot read read; Kafka does not answer: scripted"):
            worker.holdings.next()
        assert time.monotonic() - began < 10
