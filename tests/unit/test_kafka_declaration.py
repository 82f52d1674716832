"""What `fashion init` makes of a Kafka cluster, and what it says of it, against clusters of several ages."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Future
from types import SimpleNamespace
from typing import Any, TypeVar

import pytest
from confluent_kafka import KafkaError, KafkaException, TopicCollection
from confluent_kafka.admin import ConfigResource, ConfigSource, NewTopic, ResourceType
from msgspec.structs import replace

from handoff.brokers.kafka.address import Address
from handoff.brokers.kafka.declaration import Declaration, group_of, retry_topic_of
from handoff.brokers.kafka.topics import Topics
from handoff.contracts.errors import BrokerUnavailable, SettingsInvalid
from handoff.contracts.topology import DAY_S, Topology
from tests.kafka_fakes import SILENCE

TOPOLOGY = Topology()
TOPICS = ["image-analysis-dead-letters", "image-analysis-requests", "image-analysis-outputs"]
RETRIES = ["read-analysis-dead-letters-retry", "read-analysis-requests-retry", "read-analysis-outputs-retry"]

# What brokers of Kafka 4.2 allow, unconfigured.
GROUPS = {
    "group.consumer.min.session.timeout.ms": "45000",
    "group.consumer.max.session.timeout.ms": "60000",
    "group.consumer.min.heartbeat.interval.ms": "5000",
    "group.consumer.max.heartbeat.interval.ms": "15000",
}
SHARES = {name.replace("consumer", "share"): value for name, value in GROUPS.items()} | {
    "group.share.min.record.lock.duration.ms": "15000",
    "group.share.max.record.lock.duration.ms": "60000",
}

T = TypeVar("T")


def answered(value: T) -> Future[T]:
    """A future that ended well."""
    future: Future[T] = Future()
    future.set_result(value)
    return future


def failed(code: int) -> Future[None]:
    """A future that ended with an error of a broker."""
    future: Future[None] = Future()
    future.set_exception(KafkaException(KafkaError(code)))
    return future


class FakeAdmin:
    """The administrator's client of a cluster in memory."""

    def __init__(self, broker_settings: dict[str, str]) -> None:
        self.topics: dict[str, NewTopic] = {}
        self.groups: dict[str, dict[str, str]] = {}
        self.refusals: dict[str, int] = {}
        """The code with which a call, or the creation of a topic, is refused."""
        self.altered = 0
        self._broker_settings = broker_settings

    def poll(self, timeout: float) -> None:
        """Bring news of the connection: there is none."""

    def describe_topics(self, wanted: TopicCollection, *, request_timeout: float) -> dict[str, Future[Any]]:
        """Which of these there are."""
        del request_timeout
        if code := self.refusals.get("describe_topics"):
            return {name: failed(code) for name in wanted.topic_names}
        return {
            name: answered(_described(self.topics[name]))
            if name in self.topics
            else failed(KafkaError.UNKNOWN_TOPIC_OR_PART)
            for name in wanted.topic_names
        }

    def create_topics(self, wanted: list[NewTopic], *, operation_timeout: float) -> dict[str, Future[None]]:
        """Make these."""
        del operation_timeout
        (topic,) = wanted
        if code := self.refusals.get(topic.topic):
            if code == KafkaError.TOPIC_ALREADY_EXISTS:
                self.topics[topic.topic] = topic
            return {topic.topic: failed(code)}
        self.topics[topic.topic] = topic
        return {topic.topic: answered(None)}

    def describe_cluster(self, *, request_timeout: float) -> Future[SimpleNamespace]:
        """Its brokers."""
        del request_timeout
        return answered(SimpleNamespace(nodes=[SimpleNamespace(id=1)]))

    def describe_configs(
        self, resources: Sequence[ConfigResource], *, request_timeout: float
    ) -> dict[ConfigResource, Future[dict[str, SimpleNamespace]]]:
        """The settings of a broker or of a group; of a group also those it has from its brokers."""
        del request_timeout
        (resource,) = resources
        if resource.restype == ResourceType.BROKER:
            found = {**self._broker_settings, "ssl.keystore.password": None}
            return {resource: answered({name: SimpleNamespace(value=value) for name, value in found.items()})}
        entries = {
            "consumer.session.timeout.ms": SimpleNamespace(value="45000", source=ConfigSource.DEFAULT_CONFIG.value)
        }
        for name, value in self.groups.get(resource.name, {}).items():
            entries[name] = SimpleNamespace(value=value, source=ConfigSource.GROUP_CONFIG.value)
        return {resource: answered(entries)}

    def incremental_alter_configs(
        self, resources: Sequence[ConfigResource], *, request_timeout: float
    ) -> dict[ConfigResource, Future[None]]:
        """Set what is said of a group."""
        del request_timeout
        (resource,) = resources
        if code := self.refusals.get("incremental_alter_configs"):
            return {resource: failed(code)}
        self.altered += 1
        settings = self.groups.setdefault(resource.name, {})
        settings.update({entry.name: entry.value for entry in resource.incremental_configs})
        return {resource: answered(None)}


def _described(topic: NewTopic) -> SimpleNamespace:
    return SimpleNamespace(partitions=[None] * topic.num_partitions)


def declare(admin: FakeAdmin, topology: Topology = TOPOLOGY, **options: object) -> list[str]:
    """What a program does that was started with such a URL."""
    topics = Topics(admin, trouble=lambda: SILENCE)  # type: ignore[arg-type]
    address = Address("a:9092", **options)  # type: ignore[arg-type]
    return Declaration(address, admin=admin, topics=topics).declare(topology)  # type: ignore[arg-type]


class TestTopics:
    """Those of the deployment, and one for each subscription's retries."""

    def test_what_is_missing_is_made(self) -> None:
        """As many partitions as the URL says for what is shared out, one where order or a single reader wants it."""
        admin = FakeAdmin({})
        declare(admin, partitions=12, replication=3)
        counts = {name: topic.num_partitions for name, topic in admin.topics.items()}
        assert counts == dict.fromkeys([TOPICS[0], *RETRIES], 1) | dict.fromkeys(TOPICS[1:], 12)
        assert {topic.replication_factor for topic in admin.topics.values()} == {3}

    def test_each_is_told_in_a_sentence(self) -> None:
        """With as many partitions as it has, in the order they are made."""
        assert declare(FakeAdmin({}))[:4] == [
            "Created topic image-analysis-dead-letters with 1 partition.",
            "Created topic image-analysis-requests with 8 partitions.",
            "Created topic image-analysis-outputs with 8 partitions.",
            "Created topic read-analysis-dead-letters-retry with 1 partition.",
        ]

    def test_the_cluster_chooses_its_replicas_where_nothing_is_said(self) -> None:
        """By its own default."""
        admin = FakeAdmin({})
        declare(admin)
        assert {topic.replication_factor for topic in admin.topics.values()} == {-1}

    @pytest.mark.parametrize(("retention_s", "segment_s"), [(7 * DAY_S, DAY_S), (600.0, 600.0)])
    def test_messages_are_kept_as_long_as_was_asked_for(self, retention_s: float, segment_s: float) -> None:
        """Segments are shorter, for they are removed as a whole."""
        admin = FakeAdmin({})
        declare(admin, replace(TOPOLOGY, retention_s=retention_s))
        for topic in admin.topics.values():
            assert topic.config["retention.ms"] == str(round(retention_s * 1000))
            assert topic.config["segment.ms"] == str(round(segment_s * 1000))

    def test_what_was_published_is_not_too_large_to_be_set_aside(self) -> None:
        """A dead letter says why it is one, and the retry topic when it is due; other topics are as large as any."""
        admin = FakeAdmin({})
        declare(admin)
        limits = {name: int(topic.config.get("max.message.bytes", 1_048_588)) for name, topic in admin.topics.items()}
        assert limits[TOPICS[1]] == limits[TOPICS[2]] == 1_048_588
        assert 1_060_000 < limits[TOPICS[0]] < min(limits[name] for name in RETRIES) - 10_000

    def test_one_that_somebody_else_just_made_is_not_told(self) -> None:
        """Two operators may run `fashion init` at once."""
        admin = FakeAdmin({})
        admin.refusals["image-analysis-requests"] = KafkaError.TOPIC_ALREADY_EXISTS
        assert not any("image-analysis-requests " in sentence for sentence in declare(admin))

    @pytest.mark.parametrize(
        ("code", "kind"),
        [
            (KafkaError.TOPIC_AUTHORIZATION_FAILED, SettingsInvalid),
            (KafkaError.INVALID_REPLICATION_FACTOR, SettingsInvalid),
            (KafkaError.POLICY_VIOLATION, SettingsInvalid),
            (KafkaError._TIMED_OUT, BrokerUnavailable),
        ],
    )
    def test_one_that_cannot_be_made_is_named(self, code: int, kind: type[Exception]) -> None:
        """What was made before stays, and is not made again."""
        admin = FakeAdmin({})
        admin.refusals["image-analysis-requests"] = code
        with pytest.raises(kind, match="Cannot create topic image-analysis-requests"):
            declare(admin)
        assert list(admin.topics) == ["image-analysis-dead-letters"]

    def test_a_cluster_that_does_not_answer_is_told(self) -> None:
        """Nothing is made on the mere suspicion that it is missing."""
        admin = FakeAdmin({})
        admin.refusals["describe_topics"] = KafkaError._TIMED_OUT
        with pytest.raises(BrokerUnavailable, match="Cannot look up"):
            declare(admin)
        assert admin.topics == {}

    def test_a_cluster_that_hung_up_says_why(self) -> None:
        """What is asked of it only ever runs out of time; the reason came another way."""
        admin = FakeAdmin({})
        admin.refusals["describe_topics"] = KafkaError._TIMED_OUT
        refusal = KafkaError(KafkaError._AUTHENTICATION, "SASL authentication failed")
        topics = Topics(admin, trouble=lambda: refusal)  # type: ignore[arg-type]
        with pytest.raises(SettingsInvalid, match="SASL authentication failed"):
            topics.describe(["requests"])

    def test_a_retry_topic_of_several_partitions_is_refused(self) -> None:
        """What is said of a lease would be read before the lease; other topics have as many as somebody gave them."""
        admin = FakeAdmin({})
        declare(admin)
        admin.topics[TOPICS[0]] = NewTopic(TOPICS[0], num_partitions=3)
        assert declare(admin) == []
        admin.topics[RETRIES[1]] = NewTopic(RETRIES[1], num_partitions=3)
        with pytest.raises(SettingsInvalid, match=f"Topic {RETRIES[1]} has 3 partitions and must have one"):
            declare(admin)


class TestGroups:
    """How soon a dead member is noticed, within what the brokers allow."""

    def test_a_cluster_of_earlier_days_has_no_settings_of_groups(self) -> None:
        """Its members say themselves when they are to be taken for dead."""
        admin = FakeAdmin({"group.min.session.timeout.ms": "6000"})
        declare(admin)
        assert (admin.groups, admin.altered) == ({}, 0)

    @pytest.mark.parametrize(
        ("ack_deadline_s", "session_ms", "heartbeat_ms"),
        [(10.0, 45_000, 5_000), (48.0, 48_000, 8_000), (600.0, 60_000, 15_000)],
    )
    def test_the_ack_deadline_is_kept_within_bounds(
        self, ack_deadline_s: float, session_ms: int, heartbeat_ms: int
    ) -> None:
        """Six heartbeats in a session, for requests as for retries."""
        admin = FakeAdmin(GROUPS)
        declare(admin, replace(TOPOLOGY, ack_deadline_s=ack_deadline_s))
        names = [spec.name for spec in TOPOLOGY.subscriptions]
        assert sorted(admin.groups) == sorted([*names, *RETRIES])
        for settings in admin.groups.values():
            assert settings == {
                "consumer.session.timeout.ms": str(session_ms),
                "consumer.heartbeat.interval.ms": str(heartbeat_ms),
            }

    def test_a_share_group_has_a_lock_and_begins_with_the_oldest(self) -> None:
        """Only for work; responses and dead letters stay consumer groups, and a group never changes its kind."""
        admin = FakeAdmin(GROUPS | SHARES)
        declare(admin, mode="share-group")
        assert admin.groups["read-analysis-requests-share"] == {
            "share.auto.offset.reset": "earliest",
            "share.session.timeout.ms": "45000",
            "share.heartbeat.interval.ms": "5000",
            "share.record.lock.duration.ms": "30000",
        }
        assert "read-analysis-requests" not in admin.groups
        assert {"read-analysis-outputs", "read-analysis-dead-letters"} < set(admin.groups)

    @pytest.mark.parametrize(("ack_deadline_s", "lock_ms"), [(1.0, 15_000), (600.0, 60_000)])
    def test_the_lock_is_kept_within_bounds(self, ack_deadline_s: float, lock_ms: int) -> None:
        """As sessions are."""
        admin = FakeAdmin(GROUPS | SHARES)
        declare(admin, replace(TOPOLOGY, ack_deadline_s=ack_deadline_s), mode="share-group")
        assert admin.groups["read-analysis-requests-share"]["share.record.lock.duration.ms"] == str(lock_ms)

    def test_a_cluster_that_drops_messages_soon_is_told_not_to(self) -> None:
        """After as many deliveries as brokers allow, where that is each group's own to say."""
        bounds = {"group.share.min.delivery.count.limit": "2", "group.share.max.delivery.count.limit": "8"}
        admin = FakeAdmin(GROUPS | SHARES | bounds | {"group.share.delivery.count.limit": "2"})
        declare(admin, mode="share-group")
        assert admin.groups["read-analysis-requests-share"]["share.delivery.count.limit"] == "8"

    @pytest.mark.parametrize(
        "settings",
        [
            {"group.share.delivery.count.limit": "4"},
            {"group.share.min.delivery.count.limit": "2", "group.share.max.delivery.count.limit": "4"},
        ],
    )
    def test_one_that_cannot_be_told_is_refused(self, settings: dict[str, str]) -> None:
        """Before anything is lost there: its brokers drop a message before it has a new start."""
        with pytest.raises(SettingsInvalid, match=r"drops what was delivered 4 times .* set that to 5 or more"):
            declare(FakeAdmin(GROUPS | SHARES | settings), mode="share-group")

    def test_a_cluster_without_share_groups_says_what_to_do(self) -> None:
        """Instead of making what no worker could use."""
        with pytest.raises(SettingsInvalid, match="leave mode=share-group out"):
            declare(FakeAdmin(GROUPS), mode="share-group")

    def test_who_may_not_set_a_group_is_told(self) -> None:
        """By the group's name."""
        admin = FakeAdmin(GROUPS)
        admin.refusals["incremental_alter_configs"] = KafkaError.CLUSTER_AUTHORIZATION_FAILED
        with pytest.raises(SettingsInvalid, match="Cannot set up group read-analysis-dead-letters"):
            declare(admin)


class TestAgain:
    """`fashion init` may be repeated."""

    @pytest.mark.parametrize("mode", ["consumer-group", "share-group"])
    def test_a_second_time_does_and_says_nothing(self, mode: str) -> None:
        """Also from another process, which has seen nothing of the first."""
        admin = FakeAdmin(GROUPS | SHARES)
        said = declare(admin, mode=mode)
        altered = admin.altered
        assert len(said) == len(set(said)) > 6
        assert declare(admin, mode=mode) == []
        assert admin.altered == altered

    def test_only_what_differs_is_set(self) -> None:
        """One sentence for each setting."""
        admin = FakeAdmin(GROUPS)
        declare(admin)
        admin.groups["read-analysis-requests"]["consumer.session.timeout.ms"] = "60000"
        assert declare(admin) == ["Set consumer.session.timeout.ms of group read-analysis-requests to 45000."]

    def test_another_mode_adds_what_it_needs(self) -> None:
        """And changes nothing of the other's, so that both can be used in turn."""
        admin = FakeAdmin(GROUPS | SHARES)
        declare(admin)
        before = {name: dict(settings) for name, settings in admin.groups.items()}
        said = declare(admin, mode="share-group")
        assert len(said) == 4
        assert all("of group read-analysis-requests-share to" in sentence for sentence in said)
        assert before.items() <= admin.groups.items()


def test_groups_and_retry_topics_have_names_of_their_own() -> None:
    """One kind of group cannot become the other, and two subscriptions of one topic wait apart."""
    names = [group_of(spec, mode) for spec in TOPOLOGY.subscriptions for mode in ("consumer-group", "share-group")]
    assert len(set(names)) == 4
    assert len({retry_topic_of(spec) for spec in TOPOLOGY.subscriptions}) == 3
