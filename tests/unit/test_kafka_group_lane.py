"""A worker's part of a consumer group, on a cluster that does what no healthy one does."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator

import pytest
from confluent_kafka import KafkaError
from msgspec.structs import replace

from handoff.brokers.dead_letters import burial_of
from handoff.brokers.kafka.delivery import Holdings
from handoff.brokers.kafka.group_lane import GroupLane
from handoff.brokers.kafka.handover import Handover
from handoff.brokers.kafka.ledger import Ledger
from handoff.brokers.kafka.membership import Membership
from handoff.brokers.kafka.parking import DONE, SAYS_NOTE, Parking
from handoff.brokers.kafka.records import ATTEMPTS_NOTE
from handoff.brokers.kafka.subscription import KafkaSubscription
from handoff.contracts.envelope import IMAGE_COUNT_ATTRIBUTE
from handoff.contracts.errors import BrokerUnavailable, SettingsInvalid
from handoff.contracts.protocols import Limits, Message
from handoff.contracts.topology import SubscriptionSpec
from tests.conformance.consumer import Consumer, bodies
from tests.kafka_fakes import FakeClients, FakeCluster, FakePublisher, wait_until

SPEC = SubscriptionSpec(
    name="read", topic="requests", ack_deadline_s=1.2, max_attempts=3, dead_letter_topic="dead-letters"
)
RETRIES = "read-retry"
LIMITS = Limits()


class Worker:
    """One subscriber of a cluster in memory."""

    def __init__(self, cluster: FakeCluster, *, limits: Limits, spec: SubscriptionSpec) -> None:
        self.clients = FakeClients(cluster)
        self.publisher = FakePublisher(cluster)
        self.holdings = Holdings(limits)
        parking = None
        if not spec.temporary:
            parking = Parking(self.publisher, topic=RETRIES, ack_deadline_s=spec.ack_deadline_s)  # type: ignore[arg-type]
        handover = Handover(spec, holdings=self.holdings, publisher=self.publisher, parking=parking)  # type: ignore[arg-type]
        self.subscription = KafkaSubscription(self.holdings, parking=parking, retries=None, discard=None)
        self.lane = GroupLane(
            spec,
            membership=Membership(self.clients, spec=spec),  # type: ignore[arg-type]
            holdings=self.holdings,
            handover=handover,
            settle=self.subscription.settle,
        )
        self.subscription.start([self.lane.thread])

    def tell(self, what: str, *numbers: int) -> None:
        """Have something happen in the group, and wait until it has."""
        consumer = self.clients.consumers[-1]
        consumer.tell(what, numbers)
        wait_until(lambda: not consumer._news and set(numbers).isdisjoint(consumer.positions) is (what != "on_assign"))


@pytest.fixture
def cluster() -> FakeCluster:
    """One topic of two partitions, with its retry topic and the dead letters."""
    return FakeCluster({"requests": 2, RETRIES: 1, "dead-letters": 1})


Join = Callable[..., Worker]


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker without room is noticed soon."""
    monkeypatch.setattr("handoff.brokers.kafka.group_lane.PAUSE_AFTER_S", 0.2)


@pytest.fixture
def join(cluster: FakeCluster) -> Iterator[Join]:
    """Subscribers, finished at the end."""
    workers: list[Worker] = []

    def start(*, limits: Limits = LIMITS, spec: SubscriptionSpec = SPEC) -> Worker:
        workers.append(Worker(cluster, limits=limits, spec=spec))
        return workers[-1]

    yield start
    cluster.is_silent = False
    cluster.may_commit.set()
    for worker in workers:
        worker.publisher.confirm()
        worker.subscription.finish()


def publish(cluster: FakeCluster, *texts: bytes, partition: int = 0) -> None:
    """Have these in a partition."""
    for text in texts:
        cluster.append("requests", Message(body=text), partition=partition)


def committed(cluster: FakeCluster, partition: int = 0) -> tuple[int, str]:
    """What the group has committed."""
    return cluster.committed.get((SPEC.name, "requests", partition), (-1, ""))


class TestCommits:
    """A ledger is committed before what it counts is yielded, and acks are committed afterwards."""

    def test_an_attempt_is_counted_before_its_delivery_is_yielded(self, cluster: FakeCluster, join: Join) -> None:
        """While the commit is under way nobody sees the message."""
        worker = join()
        cluster.may_commit.clear()
        publish(cluster, b"a")
        consumer = Consumer(worker.subscription)
        assert cluster.committing.acquire(timeout=20)
        assert consumer.take_up_to(1, within_s=0.1) == []
        cluster.may_commit.set()
        assert consumer.take()[0].attempt == 1
        assert committed(cluster) == (0, "1 1 0:1")

    def test_an_ack_does_not_wait_for_a_commit(self, cluster: FakeCluster, join: Join) -> None:
        """A broker that takes its time over one message keeps nobody from settling another."""
        worker = join(limits=Limits(max_in_flight=8))
        consumer = Consumer(worker.subscription)
        publish(cluster, b"a")
        (first,) = consumer.take()
        while cluster.committing.acquire(blocking=False):
            pass
        cluster.may_commit.clear()
        publish(cluster, b"b")
        assert cluster.committing.acquire(timeout=20)
        acking = threading.Thread(target=first.ack)
        acking.start()
        acking.join(10)
        assert not acking.is_alive()
        cluster.may_commit.set()
        assert bodies(consumer.take()) == [b"b"]
        wait_until(lambda: committed(cluster) == (1, "1 1 0:1"))

    def test_an_ack_whose_commit_was_lost_is_committed_again(
        self, cluster: FakeCluster, join: Join, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """An asynchronous commit may fail without a word; the backlog would show the message for ever."""
        monkeypatch.setattr("handoff.brokers.kafka.offsets.COMMIT_AGAIN_AFTER_S", 0.2)
        worker = join()
        publish(cluster, b"a")
        (delivery,) = Consumer(worker.subscription).take()
        cluster.lost_commits = 1
        delivery.ack()
        wait_until(lambda: cluster.lost_commits == 0)
        wait_until(lambda: committed(cluster) == (1, "1 0 "))

    @pytest.mark.parametrize(
        "code", [KafkaError.REBALANCE_IN_PROGRESS, KafkaError.STALE_MEMBER_EPOCH, KafkaError.COORDINATOR_NOT_AVAILABLE]
    )
    def test_a_refused_commit_is_no_attempt(self, cluster: FakeCluster, join: Join, code: int) -> None:
        """During a rebalance, or while the group's coordinator moves: the same member delivers it a moment later."""
        worker = join()
        cluster.commit_errors.extend([KafkaError(code)] * 2)
        publish(cluster, b"a")
        (delivery,) = Consumer(worker.subscription).take()
        assert (delivery.message.body, delivery.attempt) == (b"a", 1)
        assert not cluster.commit_errors
        assert len(worker.clients.consumers) == 1

    def test_a_partition_that_goes_with_a_refused_commit_is_anothers(self, cluster: FakeCluster, join: Join) -> None:
        """Nobody here sees its message, and the other one finds its first attempt."""
        worker = join()
        consumer = Consumer(worker.subscription)
        cluster.may_commit.clear()
        cluster.commit_errors.append(KafkaError(KafkaError.REBALANCE_IN_PROGRESS))
        publish(cluster, b"a")
        assert cluster.committing.acquire(timeout=20)
        worker.clients.consumers[0].tell("on_revoke", [0])
        cluster.may_commit.set()
        wait_until(lambda: 0 not in worker.clients.consumers[0].positions)
        assert consumer.take_up_to(1, within_s=0.1) == []
        other = join()
        wait_until(lambda: other.clients.consumers)
        assert Consumer(other.subscription).take()[0].attempt == 1


class TestRebalances:
    """Partitions go to others and come back."""

    def test_what_was_not_yielded_goes_with_its_partition(self, cluster: FakeCluster, join: Join) -> None:
        """Uncounted; what was yielded is parked first, and settled there."""
        worker = join(limits=Limits(max_in_flight=4))
        deliveries = iter(worker.subscription)
        publish(cluster, b"a")
        next(deliveries).ack()
        publish(cluster, b"b", b"c", b"d")
        yielded = next(deliveries)
        worker.tell("on_revoke", 0)
        assert committed(cluster)[0] == 2
        assert not Ledger(*committed(cluster)).is_done(2)
        assert Ledger(*committed(cluster)).begin(2) == 1
        assert worker.publisher.bodies(RETRIES) == [b"b"]
        yielded.ack()
        assert worker.publisher.sent[-1][2][SAYS_NOTE] == DONE
        assert worker.holdings.count == 0

    def test_what_was_not_yielded_is_not_counted_by_a_broker_that_is_closed_at_once(
        self, cluster: FakeCluster, join: Join
    ) -> None:
        """What was yielded is: it is nobody's now."""
        worker = join(limits=Limits(max_in_flight=4))
        deliveries = iter(worker.subscription)
        publish(cluster, b"a")
        next(deliveries).ack()
        publish(cluster, b"b", b"c", b"d")
        next(deliveries)
        wait_until(lambda: worker.holdings.count == 3)
        worker.subscription.finish()
        ledger = Ledger(*committed(cluster))
        assert [ledger.begin(offset) for offset in (1, 2, 3)] == [2, 1, 1]

    def test_an_ack_in_time_saves_the_detour(self, cluster: FakeCluster, join: Join) -> None:
        """A partition waits a moment for what was yielded of it."""
        worker = join()
        publish(cluster, b"a")
        (delivery,) = Consumer(worker.subscription).take()
        worker.clients.consumers[0].tell("on_revoke", [0, 1])
        wait_until(lambda: not worker.clients.consumers[0]._news)
        delivery.ack()
        wait_until(lambda: not worker.clients.consumers[0].positions)
        assert worker.publisher.sent == []
        assert committed(cluster) == (1, "1 0 ")

    def test_lost_partitions_are_given_up_at_once(self, cluster: FakeCluster, join: Join) -> None:
        """Others have them already: nothing is committed, parked or published for them any more."""
        worker = join(limits=Limits(max_in_flight=2))
        deliveries = iter(worker.subscription)
        publish(cluster, b"a", b"b")
        first = next(deliveries)
        before = committed(cluster)
        worker.tell("on_lost", 0, 1)
        first.nack(delay_s=5)
        assert worker.publisher.sent == []
        assert committed(cluster) == before
        # Alone again, this one goes on where the group was.
        worker.clients.consumers[0].tell("on_assign", [0, 1])
        found = [next(deliveries), next(deliveries)]
        assert bodies(found) == [b"a", b"b"]
        assert found[0].attempt == 2

    def test_partitions_whose_ledgers_cannot_be_read_are_asked_for_again(
        self, cluster: FakeCluster, join: Join, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """By another consumer: the library has taken them from this one's first record on."""
        monkeypatch.setattr("handoff.brokers.outage.random.uniform", lambda *_: 0.01)
        monkeypatch.setattr("handoff.brokers.kafka.subscription.JOIN_WITHIN_S", 0.1)
        cluster.is_silent = True
        worker = join()
        wait_until(lambda: len(worker.clients.consumers) > 1)
        publish(cluster, b"a")
        cluster.is_silent = False
        assert bodies(Consumer(worker.subscription).take()) == [b"a"]
        assert all(consumer.is_closed for consumer in worker.clients.consumers[:-1])

    def test_a_worker_whose_work_stands_still_leaves(self, cluster: FakeCluster, join: Join) -> None:
        """Its partitions go to others who have room; with room again it comes back, and loses nothing it holds."""
        worker = join(limits=Limits(max_in_flight=1))
        publish(cluster, b"a", b"b")
        consumer = Consumer(worker.subscription)
        (held,) = consumer.take()
        member = worker.clients.consumers[0]
        wait_until(lambda: member.paused == {0, 1})
        wait_until(lambda: not member.positions)
        assert worker.publisher.bodies(RETRIES) == [b"a"]
        assert committed(cluster) == (1, "1 0 ")
        held.ack()
        assert bodies(consumer.take()) == [b"b"]
        assert len(member.subscriptions) == 2

    def test_a_partition_that_comes_while_others_are_paused_leaves_none_so(
        self, cluster: FakeCluster, join: Join
    ) -> None:
        """With room again both are read, the one that was paused and the one that came to it."""
        worker = join(limits=Limits(max_in_flight=1), spec=replace(SPEC, ack_deadline_s=600.0))
        consumer = Consumer(worker.subscription)
        worker.tell("on_revoke", 1)
        publish(cluster, b"a")
        (held,) = consumer.take()
        wait_until(lambda: worker.clients.consumers[0].paused == {0})
        worker.tell("on_assign", 1)
        held.ack()
        publish(cluster, b"b")
        publish(cluster, b"c", partition=1)
        (one,) = consumer.take()
        one.ack()
        (other,) = consumer.take()
        assert bodies([one, other]) == [b"b", b"c"]

    def test_what_was_settled_while_it_waited_again_is_not_delivered_again(
        self, cluster: FakeCluster, join: Join
    ) -> None:
        """As of a worker that was asleep for longer than its session, and alone gets its partitions back."""
        worker = join(limits=Limits(max_images=8))
        consumer = Consumer(worker.subscription)
        for number in range(8):  # so that there is room for more of that size
            publish(cluster, b"%d" % number)
            consumer.take()[0].ack()
        cluster.append("requests", Message(body=b"large", attributes={IMAGE_COUNT_ATTRIBUTE: "5"}))
        (held,) = consumer.take()
        worker.tell("on_lost", 0, 1)
        worker.tell("on_assign", 0, 1)
        wait_until(lambda: worker.lane._partitions._fetched)  # and does not fit beside itself
        held.ack()
        publish(cluster, b"next")
        assert bodies(consumer.take()) == [b"next"]

    def test_a_busy_worker_answers_its_group(self, cluster: FakeCluster, join: Join) -> None:
        """Also one that settles something all the time without ever having enough room to fetch more."""
        worker = join(limits=Limits(max_in_flight=100))
        consumer = Consumer(worker.subscription)
        publish(cluster, b"first")
        consumer.take()[0].ack()
        publish(cluster, *(b"%d" % number for number in range(99)))
        publish(cluster, b"one more", partition=1)
        held = consumer.take(80)
        wait_until(lambda: worker.holdings.room(0.0) == 0)
        settled = 0
        while not worker.clients.consumers[0].paused:
            assert settled < 15  # three quarters are held all along
            held[settled].ack()
            settled += 1
            threading.Event().wait(0.05)
        held[-1].ack()


class TestOutages:
    """A cluster that does not answer, for a while or for good."""

    @pytest.fixture(autouse=True)
    def _short(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Silence is noticed soon."""
        monkeypatch.setattr("handoff.brokers.kafka.membership.CHECK_PERIOD_S", 0.1)
        monkeypatch.setattr("handoff.brokers.outage.random.uniform", lambda *_: 0.01)

    def test_what_is_held_through_an_outage_stays_held(self, cluster: FakeCluster, join: Join) -> None:
        """The member is the same before and after, so that nothing is delivered twice, and acks count."""
        worker = join()
        consumer = Consumer(worker.subscription)
        publish(cluster, b"held")
        (held,) = consumer.take()
        cluster.is_silent = True
        asked = len(cluster.unanswered)
        wait_until(lambda: len(cluster.unanswered) > asked + 3)
        cluster.is_silent = False
        publish(cluster, b"after")
        assert bodies(consumer.take()) == [b"after"]
        held.ack()
        wait_until(lambda: Ledger(*committed(cluster)).is_done(0))
        assert len(worker.clients.consumers) == 1
        assert worker.publisher.sent == []

    def test_an_outage_without_end_is_told(
        self, cluster: FakeCluster, join: Join, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """To whoever waits for a message."""
        monkeypatch.setattr("handoff.brokers.kafka.lane.OUTAGE_S", 0.3)
        worker = join()
        cluster.is_silent = True
        with pytest.raises(BrokerUnavailable, match="Cannot read read"):
            worker.holdings.next()

    def test_two_short_outages_are_not_a_long_one(
        self, cluster: FakeCluster, join: Join, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A worker that has had no message between them is still sure of its cluster."""
        monkeypatch.setattr("handoff.brokers.kafka.lane.OUTAGE_S", 0.5)
        worker = join()
        began = time.monotonic()
        while time.monotonic() - began < 1.0:
            cluster.is_silent = True
            asked = len(cluster.unanswered)
            wait_until(lambda: len(cluster.unanswered) > asked)  # noqa: B023 - called at once
            cluster.is_silent = False
            answered = cluster.answer_count
            wait_until(lambda: cluster.answer_count > answered)  # noqa: B023 - called at once
        assert worker.holdings.failure is None

    def test_a_consumer_that_fails_gives_up_what_it_holds(self, cluster: FakeCluster, join: Join) -> None:
        """To a lease on the retry topic, so that its successor does not deliver it beside it."""
        worker = join()
        consumer = Consumer(worker.subscription)
        publish(cluster, b"held", b"other")
        held, other = consumer.take(2)
        worker.clients.consumers[0].errors.append(KafkaError(KafkaError.TOPIC_AUTHORIZATION_FAILED, "scripted"))
        wait_until(lambda: len(worker.clients.consumers) == 2)
        publish(cluster, b"after")
        assert bodies(consumer.take()) == [b"after"]
        assert consumer.take_up_to(1, within_s=0.1) == []
        assert sorted(worker.publisher.bodies(RETRIES)) == [b"held", b"other"]
        for delivery in (held, other):
            delivery.ack()

    def test_closing_during_an_outage_does_not_wait_for_a_commit(self, cluster: FakeCluster, join: Join) -> None:
        """It would, for as long as a minute; the cluster is asked first."""
        worker = join()
        consumer = Consumer(worker.subscription)
        publish(cluster, b"a")
        consumer.take()[0].ack()
        wait_until(lambda: committed(cluster)[0] == 1)
        cluster.is_silent = True
        cluster.may_commit.clear()
        began = time.monotonic()
        worker.subscription.finish()
        assert time.monotonic() - began < 10
        assert consumer.ends()
        assert worker.clients.consumers[0].is_closed


class TestDeadLetters:
    """A message that was delivered too often is given up here."""

    def test_the_one_after_the_last_attempt_is_not_yielded(self, cluster: FakeCluster, join: Join) -> None:
        """Attempts of earlier records of the message count."""
        worker = join()
        cluster.append("requests", Message(body=b"poison", attributes={"a": "b"}), notes={ATTEMPTS_NOTE: 3})
        publish(cluster, b"harmless")
        assert bodies(Consumer(worker.subscription).take()) == [b"harmless"]
        ((topic, letter, notes),) = worker.publisher.sent
        assert (topic, letter.body, notes) == ("dead-letters", b"poison", {})
        assert burial_of(letter).attempts == 3
        assert letter.attributes["a"] == "b"

    def test_one_that_cannot_be_published_keeps_nobody_waiting(
        self, cluster: FakeCluster, join: Join, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """It is tried again; what comes behind it is delivered meanwhile, and it is not done before."""
        monkeypatch.setattr("handoff.brokers.kafka.group_lane.BURY_AGAIN_AFTER_S", 0.1)
        worker = join()
        worker.publisher.is_held = True
        cluster.append("requests", Message(body=b"poison"), notes={ATTEMPTS_NOTE: 3})
        consumer = Consumer(worker.subscription)
        wait_until(lambda: worker.publisher.held_count)
        publish(cluster, b"harmless")
        consumer.take()[0].ack()
        wait_until(lambda: committed(cluster)[1].startswith("1 2 0:"))
        worker.publisher.errors.extend([BrokerUnavailable("no answer")] * 2)
        worker.publisher.confirm()
        wait_until(lambda: committed(cluster) == (2, "1 0 "))
        assert worker.publisher.bodies("dead-letters") == [b"poison"]


class TestFallback:
    """Clusters before Kafka 4.0 know one protocol of consumer groups."""

    ERROR = KafkaError(
        KafkaError.UNSUPPORTED_VERSION, "ConsumerGroupHeartbeat API v1 is not supported by the broker: Kafka 3.9"
    )

    def test_the_classic_protocol_is_used_where_there_is_no_other(self, cluster: FakeCluster, join: Join) -> None:
        """At once, and for good."""
        worker = join()
        worker.clients.consumers[0].errors.append(self.ERROR)
        publish(cluster, b"a")
        assert bodies(Consumer(worker.subscription).take()) == [b"a"]
        wait_until(lambda: worker.clients.protocols == ["consumer", "classic"])

    def test_the_same_from_the_classic_protocol_is_an_error(
        self, cluster: FakeCluster, join: Join, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """There is nothing to fall back to."""
        del cluster
        monkeypatch.setattr("handoff.brokers.kafka.lane.OUTAGE_S", 0.0)
        worker = join()
        worker.clients.consumers[0].errors.append(self.ERROR)
        wait_until(lambda: len(worker.clients.consumers) == 2)
        worker.clients.consumers[1].errors.append(self.ERROR)
        with pytest.raises(SettingsInvalid, match="Kafka refuses"):
            worker.holdings.next()


class TestTemporary:
    """A client's own subscription: one reader of all partitions, which passes over what is for others."""

    SPEC = SubscriptionSpec(name="read", topic="requests", only_client_id="c-1", temporary=True)

    def test_what_is_for_others_is_passed_over(self, cluster: FakeCluster, join: Join) -> None:
        """It is done unseen, and what was not fetched before is fetched by nobody else."""
        worker = join(spec=self.SPEC)
        for client in (b"c-2", b"c-1", b"c-2", b"c-3"):
            cluster.append("requests", Message(body=client, attributes={"client_id": client.decode()}))
        publish(cluster, b"nobody's")
        (delivery,) = Consumer(worker.subscription).take()
        assert delivery.message.body == b"c-1"
        delivery.ack()
        wait_until(lambda: committed(cluster) == (5, "1 0 "))
        assert worker.clients.protocols == ["classic"]

    def test_a_broker_that_has_not_heard_of_the_topic_is_asked_again(self, cluster: FakeCluster, join: Join) -> None:
        """It says that there are no partitions, of which nothing would ever come."""
        cluster.unaware_count = 1
        worker = join(spec=self.SPEC)
        cluster.append("requests", Message(body=b"mine", attributes={"client_id": "c-1"}))
        assert bodies(Consumer(worker.subscription).take()) == [b"mine"]

    def test_what_waits_for_room_is_not_done_with_what_is_behind_it(self, cluster: FakeCluster, join: Join) -> None:
        """A message that does not fit yet, then one for others: whoever dies then finds the first one again."""
        worker = join(limits=Limits(max_images=4), spec=self.SPEC)
        consumer = Consumer(worker.subscription)
        small, large = ({"client_id": "c-1", "ce-imagecount": count} for count in "19")
        cluster.append("requests", Message(body=b"first", attributes=small))
        consumer.take()[0].ack()
        with cluster.changed:  # all of them come with one fetch
            for body, attributes in ((b"held", small), (b"waits", large), (b"other", {"client_id": "c-2"})):
                cluster.append("requests", Message(body=body, attributes=attributes))
        (held,) = consumer.take()
        wait_until(lambda: worker.clients.consumers[-1].positions[0] == 4)
        wait_until(lambda: Ledger(*committed(cluster)).next_offset == 4)
        known = Ledger(*committed(cluster))
        assert [known.is_done(offset) for offset in range(4)] == [True, False, False, True]
        held.ack()
        assert bodies(consumer.take()) == [b"waits"]


class TestTopicsMadeAnew:
    """An operator deletes a topic and declares it again: its offsets begin anew, what groups committed stays."""

    def test_what_is_published_then_is_delivered(self, cluster: FakeCluster, join: Join) -> None:
        """To a worker that went on all the time; what it still holds of the old one harms nothing."""
        worker = join()
        consumer = Consumer(worker.subscription)
        for number in range(4):
            publish(cluster, b"old %d" % number)
            (held,) = consumer.take()
            if number < 3:
                held.ack()
        with cluster.changed:
            cluster.logs["requests", 0] = []
            publish(cluster, b"new 0", b"new 1")
            worker.clients.consumers[-1].positions[0] = 0  # `auto.offset.reset`
        found = consumer.take(2)
        assert bodies(found) == [b"new 0", b"new 1"]
        held.nack()
        found[0].ack()
        publish(cluster, *(b"new %d" % number for number in range(2, 6)))
        assert bodies(consumer.take(4)) == [b"new 2", b"new 3", b"new 4", b"new 5"]
        assert consumer.take_up_to(1, within_s=0.1) == []

    def test_a_worker_that_comes_later_sees_it_from_its_beginning(self, cluster: FakeCluster, join: Join) -> None:
        """What was committed lies behind the topic's end."""
        cluster.committed["read", "requests", 0] = 20, "1 5 0:1"
        publish(cluster, b"new 0", b"new 1")
        worker = join()
        found = Consumer(worker.subscription).take(2)
        assert bodies(found) == [b"new 0", b"new 1"]
        assert {delivery.attempt for delivery in found} == {1}
