"""Creating Kafka topics, and setting what their groups need."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cached_property
from typing import NamedTuple

from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import (
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    ConfigSource,
    NewTopic,
    ResourceType,
)

from handoff.brokers.kafka.address import Address, Mode
from handoff.brokers.kafka.calls import ANSWER_WITHIN_S, error_of, translated
from handoff.brokers.kafka.clients import MESSAGE_BYTES, NOTES_BYTES
from handoff.brokers.kafka.topics import Topics
from handoff.contracts.errors import SettingsInvalid
from handoff.contracts.topology import DAY_S, SubscriptionSpec, Topology

# A record of a share group that was released that often is given a new start on the topic, because brokers drop one
# after a number of deliveries, 5 where nothing else is set, without a word.
MOST_DELIVERIES = 4
# The most that brokers allow, for that new start has to succeed in time.
_DELIVERY_LIMIT, _DELIVERIES = "share.delivery.count.limit", 10
# A closed segment is removed as a whole, so that a week's retention needs segments of less.
_SEGMENT_S = DAY_S


class _Wanted(NamedTuple):
    name: str
    partitions: int
    retention_s: float
    notes_bytes: int = 0
    """Beyond what any topic takes, so that no message is too large to be set aside."""
    is_in_order: bool = False


class _Bounded(NamedTuple):
    """A setting of a group, whose value the brokers bound."""

    name: str
    value: int
    least: str
    most: str


def retry_topic_of(spec: SubscriptionSpec) -> str:
    """Where messages of a subscription wait that come again later; its existence is the subscription's."""
    return f"{spec.name}-retry"


def group_of(spec: SubscriptionSpec, mode: Mode) -> str:
    """The group that a subscription's readers join.

    Work is what a share group is for: responses and dead letters, which one console reads, stay consumer groups. The
    two kinds have names of their own, because a group that was of one kind cannot become one of the other.
    """
    return f"{spec.name}-share" if mode == "share-group" and spec.dead_letter_topic is not None else spec.name


class Declaration:
    """Brings one cluster to what a topology says."""

    def __init__(self, address: Address, *, admin: AdminClient, topics: Topics) -> None:
        self._address = address
        self._admin = admin
        self._topics = topics

    def declare(self, topology: Topology) -> list[str]:
        """Create what is missing and correct what differs; a sentence for each.

        Raises: BrokerUnavailable; SettingsInvalid: not allowed, or share groups on a cluster that has none
        """
        done = list(self._create_topics(topology))
        for spec in topology.subscriptions:
            group = group_of(spec, self._address.mode)
            wanted = self._share_settings(spec) if group != spec.name else self._group_settings(spec)
            done += self._set_on_group(group, wanted)
            done += self._set_on_group(retry_topic_of(spec), self._group_settings(spec))
        return done

    def _create_topics(self, topology: Topology) -> Iterator[str]:
        wanted = list(_wanted_topics(topology, self._address.partitions))
        found = self._topics.describe([topic.name for topic in wanted])
        for topic in wanted:
            if topic.name in found:
                _demand_one_partition(topic, len(found[topic.name].partitions))
            elif self._create(topic):
                yield f"Created topic {topic.name} with {topic.partitions} partition{'s' * (topic.partitions > 1)}."
        if len(found) < len(wanted):
            self._topics.wait_for([topic.name for topic in wanted])

    def _create(self, topic: _Wanted) -> bool:
        """Create a topic; False when somebody else just did."""
        described = NewTopic(
            topic.name,
            num_partitions=topic.partitions,
            replication_factor=self._address.replication,
            config={
                "retention.ms": str(round(topic.retention_s * 1000)),
                "segment.ms": str(round(min(_SEGMENT_S, topic.retention_s) * 1000)),
                **({"max.message.bytes": str(MESSAGE_BYTES + topic.notes_bytes)} if topic.notes_bytes else {}),
            },
        )
        with translated(f"create topic {topic.name}"):
            try:
                self._admin.create_topics([described], operation_timeout=ANSWER_WITHIN_S)[topic.name].result()
            except KafkaException as problem:
                if error_of(problem).code() != KafkaError.TOPIC_ALREADY_EXISTS:
                    raise
                return False
        return True

    def _group_settings(self, spec: SubscriptionSpec) -> dict[str, str]:
        """How soon a dead member is noticed; nothing on clusters whose members say so themselves."""
        return self._within_bounds(_session_settings(spec, kind="consumer"))

    def _share_settings(self, spec: SubscriptionSpec) -> dict[str, str]:
        lock = _Bounded(
            "share.record.lock.duration.ms",
            round(spec.ack_deadline_s * 1000),
            "group.share.min.record.lock.duration.ms",
            "group.share.max.record.lock.duration.ms",
        )
        deliveries = _Bounded(
            _DELIVERY_LIMIT,
            _DELIVERIES,
            "group.share.min.delivery.count.limit",
            "group.share.max.delivery.count.limit",
        )
        bounded = self._within_bounds([*_session_settings(spec, kind="share"), lock, deliveries])
        if not bounded:
            raise SettingsInvalid(
                "This Kafka cluster has no share groups (4.2 or later has, with share.version=1);"
                " leave mode=share-group out of the broker's URL."
            )
        self._demand_deliveries(bounded)
        return {"share.auto.offset.reset": "earliest", **bounded}

    def _demand_deliveries(self, settings: Mapping[str, str]) -> None:
        """See that no record is dropped before it has a new start, by the group's limit or that of all groups."""
        limit = settings.get(_DELIVERY_LIMIT) or self._broker_settings.get(f"group.{_DELIVERY_LIMIT}")
        if limit is not None and int(limit) <= MOST_DELIVERIES:
            raise SettingsInvalid(
                f"This Kafka cluster drops what was delivered {limit} times (group.{_DELIVERY_LIMIT});"
                f" set that to {MOST_DELIVERIES + 1} or more, or leave mode=share-group out of the broker's URL."
            )

    def _within_bounds(self, wanted: list[_Bounded]) -> dict[str, str]:
        bounds = self._broker_settings
        return {
            each.name: str(min(max(each.value, int(bounds[each.least])), int(bounds[each.most])))
            for each in wanted
            if each.least in bounds and each.most in bounds
        }

    @cached_property
    def _broker_settings(self) -> Mapping[str, str]:
        with translated("look at the brokers' settings"):
            cluster = self._admin.describe_cluster(request_timeout=ANSWER_WITHIN_S).result()
            broker = ConfigResource(ResourceType.BROKER, str(cluster.nodes[0].id))
            found = self._admin.describe_configs([broker], request_timeout=ANSWER_WITHIN_S)[broker].result()
        return {name: entry.value for name, entry in found.items() if entry.value is not None}

    def _set_on_group(self, group: str, wanted: Mapping[str, str]) -> list[str]:
        if not wanted:
            return []
        resource = ConfigResource(ResourceType.GROUP, group)
        with translated(f"set up group {group}"):
            entries = self._admin.describe_configs([resource], request_timeout=ANSWER_WITHIN_S)[resource].result()
            own = {
                name: entry.value for name, entry in entries.items() if entry.source == ConfigSource.GROUP_CONFIG.value
            }
            differing = {name: value for name, value in wanted.items() if own.get(name) != value}
            for name, value in differing.items():
                resource.add_incremental_config(ConfigEntry(name, value, incremental_operation=AlterConfigOpType.SET))
            if differing:
                self._admin.incremental_alter_configs([resource], request_timeout=ANSWER_WITHIN_S)[resource].result()
        return [f"Set {name} of group {group} to {value}." for name, value in differing.items()]


def _session_settings(spec: SubscriptionSpec, *, kind: str) -> list[_Bounded]:
    deadline_ms = round(spec.ack_deadline_s * 1000)
    return [
        _Bounded(f"{kind}.{name}.ms", value_ms, least=f"group.{kind}.min.{name}.ms", most=f"group.{kind}.max.{name}.ms")
        for name, value_ms in (("session.timeout", deadline_ms), ("heartbeat.interval", deadline_ms // 6))
    ]


def _demand_one_partition(topic: _Wanted, found: int) -> None:
    if topic.is_in_order and found > 1:
        raise SettingsInvalid(
            f"Topic {topic.name} has {found} partitions and must have one, for what is said there counts in its order;"
            " delete it once nothing waits there, and run `fashion init` again."
        )


def _wanted_topics(topology: Topology, partitions: int) -> Iterator[_Wanted]:
    for name in topology.topics:
        # Dead letters are few, and one operator reads them.
        is_last = name == topology.dead_letters_topic
        yield _Wanted(name, 1 if is_last else partitions, topology.retention_s, NOTES_BYTES * is_last)
    for spec in topology.subscriptions:
        # One partition: who reads it sees a lease before what is said of it.
        yield _Wanted(retry_topic_of(spec), 1, topology.retention_s, 2 * NOTES_BYTES, is_in_order=True)
