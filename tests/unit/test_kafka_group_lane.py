"""A worker's part of a consumer group, on a cluster that does what no healthy one does."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator

import pytest

from handoff.brokers.kafka.delivery import Holdings
from handoff.brokers.kafka.group_lane import GroupLane
from handoff.brokers.kafka.handover import Handover
from handoff.brokers.kafka.ledger import Ledger
from handoff.brokers.kafka.membership import Membership
from handoff.brokers.kafka.parking import Parking
from handoff.brokers.kafka.subscription import KafkaSubscription
from handoff.contracts.protocols import Limits, Message
from handoff.contracts.topology import SubscriptionSpec
from tests.conformance.consumer import Consumer, bodies
from tests.kafka_fakes import FakeClients, FakeCluster, FakePublisher, wait_until

SPEC = SubscriptionSpec(
    name="read", topic="requests", ack_deadline_s=3.0, max_attempts=3, dead_letter_topic="dead-letters"
)
RETRIES = "read-retry"


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


@pytest.fixture
def join(cluster: FakeCluster) -> Iterator[Join]:
    """Subscribers, finished at the end."""
    joined: list[Worker] = []

    def start(*, limits: Limits = Limits(), spec: SubscriptionSpec = SPEC) -> Worker:  # noqa: B008 - it is frozen
        joined.append(Worker(cluster, limits=limits, spec=spec))
        return joined[-1]

    yield start
    cluster.is_silent = False
    cluster.may_commit.set()
    for worker in joined:
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
