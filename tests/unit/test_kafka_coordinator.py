"""Groups whose coordinator is starting or moves: who asks it waits, instead of failing at once."""

from __future__ import annotations

from typing import cast

import pytest
from confluent_kafka import KafkaError, KafkaException, TopicPartition

from handoff.brokers.kafka import calls
from handoff.brokers.kafka.clients import Clients
from handoff.brokers.kafka.offsets import committed_ledgers
from handoff.brokers.kafka.temporary import begin_at_end
from handoff.contracts.errors import BrokerUnavailable
from handoff.contracts.protocols import Message
from handoff.contracts.topology import Topology
from tests.kafka_fakes import FakeClients, FakeCluster, FakeConsumer

AWAY = (
    KafkaError.COORDINATOR_LOAD_IN_PROGRESS,
    KafkaError.COORDINATOR_NOT_AVAILABLE,
    KafkaError.NOT_COORDINATOR,
)
SPEC = Topology().responses_for("alice")


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ask again at once."""
    monkeypatch.setattr(calls, "_ASK_AGAIN_AFTER_S", 0.0)


def cluster_with_responses() -> FakeCluster:
    """Two partitions of responses, of which one holds a record."""
    cluster = FakeCluster({SPEC.topic: 2})
    cluster.append(SPEC.topic, Message(b"earlier"), partition=1)
    return cluster


def test_a_client_opens_although_its_coordinator_is_on_its_way() -> None:
    """As on a cluster whose first group it is, or while a broker starts again; it begins at the end all the same."""
    cluster = cluster_with_responses()
    cluster.committed_errors.extend(map(KafkaError, AWAY))
    cluster.commit_errors.extend(map(KafkaError, AWAY))
    begin_at_end(cast("Clients", FakeClients(cluster)), SPEC)
    assert [cluster.committed[SPEC.name, SPEC.topic, number][0] for number in (0, 1)] == [0, 1]


def test_a_client_waits_for_a_broker_that_has_not_heard_of_its_topic() -> None:
    """As of several, just after `fashion init`: with no partitions at all it would wait for its responses for ever."""
    cluster = cluster_with_responses()
    cluster.unaware_count = 2
    begin_at_end(cast("Clients", FakeClients(cluster)), SPEC)
    assert cluster.committed[SPEC.name, SPEC.topic, 1][0] == 1


def test_a_partition_that_was_added_since_is_read_from_its_beginning() -> None:
    """By a client that comes back: what is in it was published after it first came."""
    cluster = cluster_with_responses()
    cluster.committed[SPEC.name, SPEC.topic, 0] = 0, ""
    clients = FakeClients(cluster)
    begin_at_end(cast("Clients", clients), SPEC)
    places = [TopicPartition(SPEC.topic, 0), TopicPartition(SPEC.topic, 1)]
    found = committed_ledgers(FakeConsumer(cluster, SPEC.name), places, timeout_s=1.0)  # type: ignore[arg-type]
    assert [ledger.next_offset for ledger in found.values()] == [0, 0]


def test_ledgers_are_read_when_the_coordinator_is_there() -> None:
    """A worker and who looks at the backlog need them before anything else."""
    cluster = cluster_with_responses()
    cluster.committed_errors.extend(map(KafkaError, AWAY))
    places = [TopicPartition(SPEC.topic, 0), TopicPartition(SPEC.topic, 1)]
    found = committed_ledgers(FakeConsumer(cluster, "workers"), places, timeout_s=1.0)  # type: ignore[arg-type]
    assert [ledger.next_offset for ledger in found.values()] == [0, 0]


def test_a_coordinator_that_does_not_come_is_not_waited_for_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    """The sentence says what could not be done."""
    monkeypatch.setattr(calls, "ANSWER_WITHIN_S", 0.0)
    cluster = cluster_with_responses()
    cluster.committed_errors.extend(KafkaError(KafkaError.NOT_COORDINATOR) for _ in range(1_000_000))
    with pytest.raises(BrokerUnavailable, match="Cannot subscribe to"):
        begin_at_end(cast("Clients", FakeClients(cluster)), SPEC)


def test_what_is_no_coordinators_absence_fails_at_once() -> None:
    """A group that is not allowed never will be."""
    cluster = cluster_with_responses()
    cluster.committed_errors.append(KafkaError(KafkaError.GROUP_AUTHORIZATION_FAILED))
    with pytest.raises(KafkaException):
        committed_ledgers(FakeConsumer(cluster, "workers"), [TopicPartition(SPEC.topic, 0)], timeout_s=1.0)  # type: ignore[arg-type]
