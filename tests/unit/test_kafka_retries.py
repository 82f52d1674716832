"""Who reads a retry topic: each message goes back when it is due, or when nobody prolongs its lease any more."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

import pytest
from confluent_kafka import KafkaError

from handoff.brokers.kafka.delivery import Holdings
from handoff.brokers.kafka.ledger import Ledger
from handoff.brokers.kafka.membership import Membership
from handoff.brokers.kafka.parking import DELAY_NOTE, DONE, DUE, DUE_NOTE, HELD, LEASE_NOTE, SAYS_NOTE
from handoff.brokers.kafka.records import ATTEMPTS_NOTE
from handoff.brokers.kafka.retries import Retries
from handoff.contracts.errors import BrokerUnavailable, SettingsInvalid
from handoff.contracts.protocols import Limits, Message
from handoff.contracts.topology import SubscriptionSpec
from tests.kafka_fakes import FakeClients, FakeCluster, FakePublisher, wait_until

RETRIES = "read-retry"
SPEC = SubscriptionSpec(name=RETRIES, topic=RETRIES, ack_deadline_s=30.0)
# Longer than any test takes.
LATER_S = 600.0


class Reader:
    """One process that reads the retry topic of a cluster in memory."""

    def __init__(self, cluster: FakeCluster) -> None:
        self.clients = FakeClients(cluster)
        self.publisher = FakePublisher(cluster)
        self.holdings = Holdings(Limits())
        self.retries = Retries(
            Membership(self.clients, spec=SPEC, tells_end=True),  # type: ignore[arg-type]
            retry_topic=RETRIES,
            topic="requests",
            publisher=self.publisher,  # type: ignore[arg-type]
            holdings=self.holdings,
        )

    @property
    def forwarded(self) -> list[bytes]:
        """What went back to its topic."""
        return self.publisher.bodies("requests")

    def wait_read(self, count: int) -> None:
        """Wait until it has read so many records, and one look more."""
        wait_until(lambda: self.clients.consumers and self.clients.consumers[-1].positions.get(0) == count)
        steps = self.clients.consumers[-1].polls
        wait_until(lambda: self.clients.consumers[-1].polls > steps + 2)

    def stop(self) -> None:
        """Leave, and wait until that is done."""
        self.retries.close()
        self.retries.join()

    def lapse(self) -> float:
        """Have the time of everything that waits be over; how long it would have been, at most."""
        with self.retries._changed:
            waiting = self.retries._waiting.values()
            left_s = max(each.due_at for each in waiting) - time.monotonic()
            for each in waiting:
                each.due_at = 0.0
        return left_s


class Topic:
    """The retry topic, as whoever parks and delays writes it."""

    def __init__(self, cluster: FakeCluster) -> None:
        self.cluster = cluster

    def write(
        self,
        body: bytes = b"",
        *,
        delay_s: float,
        lease: str | None = None,
        says: str | None = None,
        written_s_ago: float = 0.0,
        attempts: int = 1,
    ) -> None:
        """Write a message or, without one, what is said of a lease."""
        due_ms = round((time.time() - written_s_ago + delay_s) * 1000)
        notes: dict[str, object] = {DUE_NOTE: due_ms, DELAY_NOTE: round(delay_s * 1000)}
        if says is None:
            notes[ATTEMPTS_NOTE] = attempts
        else:
            notes[SAYS_NOTE] = says
        if lease is not None:
            notes[LEASE_NOTE] = lease
        self.cluster.append(RETRIES, Message(body=body, attributes={"a": "b"} if body else {}), notes=notes)


@pytest.fixture
def cluster() -> FakeCluster:
    """A topic and its retry topic."""
    return FakeCluster({"requests": 1, RETRIES: 1})


@pytest.fixture
def topic(cluster: FakeCluster) -> Topic:
    """Where messages wait."""
    return Topic(cluster)


Start = Callable[[], Reader]


@pytest.fixture
def start(cluster: FakeCluster, monkeypatch: pytest.MonkeyPatch) -> Iterator[Start]:
    """Start readers, which look often; stopped at the end."""
    monkeypatch.setattr("handoff.brokers.kafka.retries._LOOK_S", 0.01)
    monkeypatch.setattr("handoff.brokers.outage.random.uniform", lambda *_: 0.01)
    readers: list[Reader] = []

    def begin() -> Reader:
        readers.append(Reader(cluster))
        readers[-1].retries.start()
        return readers[-1]

    yield begin
    cluster.is_silent = False
    for reader in readers:
        reader.publisher.confirm()
        reader.stop()


def committed(cluster: FakeCluster) -> Ledger:
    """What the group has committed."""
    return Ledger(*cluster.committed.get((RETRIES, RETRIES, 0), (0, "")))


class TestDelays:
    """A nack with a delay."""

    def test_a_message_goes_back_when_it_is_due(self, cluster: FakeCluster, topic: Topic, start: Start) -> None:
        """No sooner, with its attributes and its attempts; then the retry topic is done with it."""
        reader = start()
        reader.wait_read(0)
        began = time.monotonic()
        topic.write(b"soon", delay_s=0.3, attempts=2)
        topic.write(b"later", delay_s=LATER_S)
        wait_until(lambda: reader.forwarded)
        assert time.monotonic() - began >= 0.3
        assert reader.forwarded == [b"soon"]
        ((_, message, notes),) = reader.publisher.sent
        assert (message.attributes, notes) == ({"a": "b"}, {ATTEMPTS_NOTE: 2})
        wait_until(lambda: committed(cluster).is_done(0))
        assert not committed(cluster).is_done(1)

    @pytest.mark.parametrize("ahead_s", [-3600.0, 3600.0])
    def test_clocks_that_differ_shorten_no_delay(self, topic: Topic, start: Start, ahead_s: float) -> None:
        """Nor lengthen one: what is read as it comes is due so much later, whatever the two machines' clocks say."""
        reader = start()
        reader.wait_read(0)
        began = time.monotonic()
        topic.write(b"soon", delay_s=0.3, written_s_ago=ahead_s)
        wait_until(lambda: reader.forwarded)
        assert 0.3 <= time.monotonic() - began < 5

    def test_what_waited_in_the_topic_is_due_by_the_clocks(self, topic: Topic, start: Start) -> None:
        """Nobody read it meanwhile."""
        topic.write(b"due", delay_s=LATER_S, written_s_ago=LATER_S + 1)
        topic.write(b"not yet", delay_s=LATER_S, written_s_ago=60)
        reader = start()
        reader.wait_read(2)
        assert reader.forwarded == [b"due"]

    def test_a_clock_that_was_far_ahead_delays_nothing_for_ever(self, topic: Topic, start: Start) -> None:
        """No longer than was asked for, from when it is read."""
        topic.write(b"waited", delay_s=0.2, written_s_ago=-LATER_S)
        reader = start()
        wait_until(lambda: reader.forwarded == [b"waited"])

    @pytest.mark.parametrize("text", ["", "soon", "-5", "9" * 5_000, "1" * 17])
    def test_a_strangers_record_goes_back_at_once(self, cluster: FakeCluster, start: Start, text: str) -> None:
        """Whatever it says of when."""
        cluster.append(RETRIES, Message(body=b"odd"), notes={DUE_NOTE: text, DELAY_NOTE: text})
        reader = start()
        wait_until(lambda: reader.forwarded == [b"odd"])

    def test_what_cannot_be_forwarded_stays_and_is_tried_again(
        self, cluster: FakeCluster, topic: Topic, start: Start, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """It is not done before it has arrived."""
        monkeypatch.setattr("handoff.brokers.kafka.retries.FORWARD_AGAIN_AFTER_S", 0.1)
        reader = start()
        reader.publisher.is_held = True
        topic.write(b"a", delay_s=0)
        wait_until(lambda: reader.publisher.held_count)
        assert not committed(cluster).is_done(0)
        reader.publisher.errors.extend([BrokerUnavailable("no answer")] * 2)
        reader.publisher.confirm()
        wait_until(lambda: reader.forwarded == [b"a"])
        wait_until(lambda: committed(cluster).is_done(0))

    @pytest.mark.parametrize(("name", "value"), [("MOST_WAITING", 3), ("MOST_WAITING_BYTES", 20)])
    def test_what_is_read_ahead_is_bounded(
        self, topic: Topic, start: Start, monkeypatch: pytest.MonkeyPatch, name: str, value: int
    ) -> None:
        """In messages and in bytes; what is due goes back all the same, and makes room."""
        monkeypatch.setattr(f"handoff.brokers.kafka.retries.{name}", value)
        monkeypatch.setattr("handoff.brokers.kafka.retries._RECORDS_AT_ONCE", 1)
        for number in range(4):
            topic.write(b"seven %d" % number, delay_s=LATER_S)
        topic.write(b"due", delay_s=0)
        reader = start()
        wait_until(lambda: reader.clients.consumers and reader.clients.consumers[-1].paused)
        assert len(reader.retries._waiting) < 5
        assert reader.forwarded == []
        reader.lapse()
        wait_until(lambda: len(reader.forwarded) == 5)


class TestLeases:
    """What is still at work, its record given up where it was fetched."""

    def test_a_lease_that_nobody_prolongs_lapses(self, topic: Topic, start: Start) -> None:
        """Its holder is dead: the attempt counts, and the message goes to another."""
        reader = start()
        reader.wait_read(0)
        topic.write(b"held", delay_s=0.3, lease="x", attempts=2)
        wait_until(lambda: reader.forwarded == [b"held"])
        assert reader.publisher.sent[0][2] == {ATTEMPTS_NOTE: 2}

    def test_one_that_is_prolonged_does_not(self, topic: Topic, start: Start) -> None:
        """For as long as its holder says so."""
        reader = start()
        reader.wait_read(0)
        topic.write(b"held", delay_s=0.3, lease="x")
        topic.write(delay_s=LATER_S, lease="x", says=HELD)
        reader.wait_read(2)
        assert reader.lapse() > LATER_S - 60
        topic.write(delay_s=0.1, lease="x", says=HELD)
        wait_until(lambda: reader.forwarded == [b"held"])

    def test_what_is_done_never_comes_back(self, cluster: FakeCluster, topic: Topic, start: Start) -> None:
        """And nothing of it stays."""
        reader = start()
        topic.write(b"held", delay_s=0.2, lease="x")
        topic.write(delay_s=0, lease="x", says=DONE)
        wait_until(lambda: committed(cluster).committed_offset == 2)
        reader.wait_read(2)
        assert reader.forwarded == []
        assert (reader.retries._waiting, reader.retries._leases) == ({}, {})

    def test_what_is_given_back_comes_when_it_is_due(self, topic: Topic, start: Start) -> None:
        """Long before its lease would have lapsed."""
        reader = start()
        topic.write(b"held", delay_s=LATER_S, lease="x")
        topic.write(delay_s=0.1, lease="x", says=DUE)
        wait_until(lambda: reader.forwarded == [b"held"])

    def test_nothing_lapses_before_the_end_was_read(
        self, topic: Topic, start: Start, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A reader that comes late sees leases long lapsed, then that they were prolonged, or done."""
        monkeypatch.setattr("handoff.brokers.kafka.retries._RECORDS_AT_ONCE", 0)
        for name in ("prolonged", "done"):
            topic.write(name.encode(), delay_s=30, lease=name, written_s_ago=300)
        for number in range(50):
            topic.write(delay_s=30, lease="prolonged", says=HELD, written_s_ago=280 - 5.5 * number)
        topic.write(delay_s=0, lease="done", says=DONE)
        reader = start()
        reader.wait_read(53)
        assert reader.forwarded == []

    def test_what_the_reader_before_heard_is_heard_again(
        self, cluster: FakeCluster, topic: Topic, start: Start
    ) -> None:
        """A lease that was prolonged many times, under one reader, lapses under none of those after it."""
        topic.write(b"held", delay_s=30, lease="x", written_s_ago=300)
        for number in range(30):
            topic.write(delay_s=30, lease="x", says=HELD, written_s_ago=290 - 10 * number)
        for _ in range(2):
            reader = start()
            reader.wait_read(31)
            reader.stop()
            assert reader.forwarded == []
            assert committed(cluster).open_count(0) == 1

    def test_a_reader_that_was_asleep_reads_on_first(self, cluster: FakeCluster, topic: Topic, start: Start) -> None:
        """All leases have lapsed by its own clock, and what prolongs them waits to be fetched."""
        reader = start()
        reader.wait_read(0)
        topic.write(b"held", delay_s=LATER_S, lease="x")
        reader.wait_read(1)
        reader.clients.consumers[-1].paused = {0}
        topic.write(delay_s=LATER_S, lease="x", says=HELD)
        reader.lapse()
        steps = reader.clients.consumers[-1].polls
        wait_until(lambda: reader.clients.consumers[-1].polls > steps + 3)
        assert reader.forwarded == []
        with cluster.changed:
            reader.clients.consumers[-1].paused = set()
            cluster.changed.notify_all()
        reader.wait_read(2)
        assert reader.forwarded == []

    def test_nothing_lapses_while_the_cluster_is_silent(self, cluster: FakeCluster, topic: Topic, start: Start) -> None:
        """Its holder cannot say anything either: it has its whole time once there is an answer again."""
        reader = start()
        reader.wait_read(0)
        topic.write(b"held", delay_s=30, lease="x")
        reader.wait_read(1)
        cluster.is_silent = True
        reader.lapse()
        wait_until(lambda: cluster.unanswered)
        cluster.is_silent = False
        topic.write(delay_s=LATER_S, lease="x", says=HELD)
        reader.wait_read(2)
        assert reader.forwarded == []

    def test_a_lease_that_could_not_be_forwarded_is_still_heard_of(
        self, cluster: FakeCluster, topic: Topic, start: Start
    ) -> None:
        """Its holder was only late."""
        reader = start()
        reader.publisher.is_held = True
        topic.write(b"held", delay_s=0.1, lease="x")
        wait_until(lambda: reader.publisher.held_count)
        reader.publisher.errors.append(BrokerUnavailable("no answer"))
        reader.publisher.confirm()
        topic.write(delay_s=0, lease="x", says=DONE)
        wait_until(lambda: committed(cluster).committed_offset == 2)
        assert reader.forwarded == []


class TestReaders:
    """One at a time reads; the next one goes on where it ended."""

    def test_what_is_on_its_way_is_waited_for(self, cluster: FakeCluster, topic: Topic, start: Start) -> None:
        """Or the next reader would forward it again."""
        reader = start()
        reader.publisher.is_held = True
        topic.write(b"a", delay_s=0)
        wait_until(lambda: reader.publisher.held_count)
        reader.clients.consumers[-1].tell("on_revoke", [0])
        wait_until(lambda: not reader.clients.consumers[-1]._news)
        reader.publisher.confirm()
        wait_until(lambda: not reader.clients.consumers[-1].positions)
        assert committed(cluster).committed_offset == 1
        assert reader.forwarded == [b"a"]

    def test_a_commit_that_fails_as_the_partition_goes_ends_nothing(
        self, cluster: FakeCluster, topic: Topic, start: Start
    ) -> None:
        """Also within a close, whose callback raised it: nobody would bring anything back from then on."""
        reader = start()
        reader.wait_read(0)
        cluster.commit_errors.append(KafkaError(KafkaError._TRANSPORT))
        reader.clients.consumers[-1].errors.append(KafkaError(KafkaError._TRANSPORT))
        wait_until(lambda: len(reader.clients.consumers) == 2)
        assert reader.clients.consumers[0].is_closed
        assert not cluster.commit_errors
        topic.write(b"a", delay_s=0)
        wait_until(lambda: reader.forwarded == [b"a"])

    def test_a_partition_that_was_lost_is_no_business_of_this_one(
        self, cluster: FakeCluster, topic: Topic, start: Start
    ) -> None:
        """What waited here waits there."""
        reader = start()
        topic.write(b"a", delay_s=LATER_S)
        reader.wait_read(1)
        before = committed(cluster).metadata()
        reader.clients.consumers[-1].tell("on_lost", [0])
        wait_until(lambda: not reader.clients.consumers[-1].positions)
        assert (reader.retries._waiting, reader.retries._ledgers) == ({}, {})
        assert committed(cluster).metadata() == before

    def test_stopping_during_an_outage_does_not_wait_for_a_commit(
        self, cluster: FakeCluster, topic: Topic, start: Start
    ) -> None:
        """It would, for as long as a minute."""
        reader = start()
        topic.write(b"a", delay_s=LATER_S)
        reader.wait_read(1)
        cluster.is_silent = True
        cluster.may_commit.clear()
        reader.stop()
        assert reader.clients.consumers[0].is_closed

    def test_a_topic_that_was_made_anew_is_read_from_its_beginning(
        self, cluster: FakeCluster, topic: Topic, start: Start
    ) -> None:
        """What the group committed of the old one lies behind its end."""
        cluster.committed[RETRIES, RETRIES, 0] = 20, "1 0 "
        topic.write(b"new", delay_s=0)
        reader = start()
        wait_until(lambda: reader.forwarded == [b"new"])

    def test_who_may_not_read_it_hears_of_it(self, start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
        """Instead of waiting for what never comes back."""
        monkeypatch.setattr("handoff.brokers.kafka.lane.OUTAGE_S", 0.0)
        reader = start()
        wait_until(lambda: reader.clients.consumers)
        reader.clients.consumers[0].errors.append(KafkaError(KafkaError.TOPIC_AUTHORIZATION_FAILED, "scripted"))
        with pytest.raises(SettingsInvalid, match="read read-retry; Kafka refuses: scripted"):
            reader.holdings.next()

    def test_a_topic_of_several_partitions_is_refused(self, cluster: FakeCluster, start: Start) -> None:
        """Two messages at the same offset would be one here, and what is said of a lease would be read before it."""
        cluster.logs[RETRIES, 1] = []
        reader = start()
        with pytest.raises(SettingsInvalid, match="Topic read-retry has several partitions; run `fashion init`"):
            reader.holdings.next()

    def test_an_outage_without_end_is_told(
        self, cluster: FakeCluster, start: Start, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """To whoever waits for messages of a share group, too: its consumers say nothing of it."""
        monkeypatch.setattr("handoff.brokers.kafka.membership.CHECK_PERIOD_S", 0.1)
        monkeypatch.setattr("handoff.brokers.kafka.lane.OUTAGE_S", 0.2)
        reader = start()
        reader.wait_read(0)
        cluster.is_silent = True
        with pytest.raises(BrokerUnavailable, match="Cannot read read-retry"):
            reader.holdings.next()
