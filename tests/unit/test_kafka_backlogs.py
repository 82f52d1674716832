"""The backlog of a consumer group, read beside its workers from what it committed."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from handoff.brokers.kafka.backlogs import Backlogs
from handoff.contracts.errors import BrokerUnavailable
from handoff.contracts.protocols import Backlog, Message
from handoff.contracts.topology import SubscriptionSpec
from tests.kafka_fakes import FakeClients, FakeCluster

SPEC = SubscriptionSpec(name="read", topic="requests")
RETRIES = "read-retry"


@pytest.fixture
def cluster() -> FakeCluster:
    """Two partitions, the first with five messages, dated the first seconds of 1970."""
    cluster = FakeCluster({"requests": 2, RETRIES: 1})
    for _ in range(5):
        cluster.append("requests", Message(body=b"x"))
    return cluster


@pytest.fixture
def backlogs(cluster: FakeCluster) -> Iterator[Backlogs]:
    """Reads that cluster."""
    backlogs = Backlogs(FakeClients(cluster))  # type: ignore[arg-type]
    yield backlogs
    backlogs.close()


def read(backlogs: Backlogs) -> Backlog:
    """What is behind."""
    return backlogs.read(SPEC, retry_topic=RETRIES)


def count(backlogs: Backlogs) -> int | None:
    """How much that is."""
    return read(backlogs).count


def test_a_group_that_never_committed_has_everything_before_it(cluster: FakeCluster, backlogs: Backlogs) -> None:
    """But for what retention has removed."""
    assert count(backlogs) == 5
    cluster.removed_below["requests", 0] = 2
    assert count(backlogs) == 3


def test_what_is_open_counts_and_what_is_done_does_not(cluster: FakeCluster, backlogs: Backlogs) -> None:
    """One open message before three that are done, and one that was never delivered."""
    cluster.committed["read", "requests", 0] = 0, "1 4 0:2"
    assert count(backlogs) == 2
    cluster.committed["read", "requests", 0] = 5, "1 0 "
    assert read(backlogs) == Backlog(count=0, oldest_unacked_age_s=None)


def test_what_retention_has_removed_waits_no_more(cluster: FakeCluster, backlogs: Backlogs) -> None:
    """Also where it was open and nothing has come since."""
    cluster.committed["read", "requests", 0] = 1, "1 4 0:2,2:1"
    assert count(backlogs) == 2
    cluster.removed_below["requests", 0] = 5
    assert read(backlogs) == Backlog(count=0, oldest_unacked_age_s=None)


def test_the_age_is_that_of_the_oldest_that_is_not_done(cluster: FakeCluster, backlogs: Backlogs) -> None:
    """By the date that its publisher gave it."""
    cluster.committed["read", "requests", 0] = 3, "1 1 0:1"
    assert read(backlogs).oldest_unacked_age_s == pytest.approx(time.time() - 4, abs=60)


def test_what_waits_for_another_attempt_counts(cluster: FakeCluster, backlogs: Backlogs) -> None:
    """It is not acked; its age says nothing, for it waits on purpose."""
    cluster.committed["read", "requests", 0] = 5, "1 0 "
    cluster.append(RETRIES, Message(body=b"x"))
    assert read(backlogs) == Backlog(count=1, oldest_unacked_age_s=0.0)


def test_a_topic_that_was_made_anew_waits_as_a_whole(cluster: FakeCluster, backlogs: Backlogs) -> None:
    """What the group committed of the old one lies behind the end of the new one."""
    cluster.committed["read", "requests", 0] = 20, "1 0 "
    assert count(backlogs) == 5


def test_a_cluster_that_does_not_answer_is_told(cluster: FakeCluster, backlogs: Backlogs) -> None:
    """As an error of ours."""
    cluster.is_silent = True
    with pytest.raises(BrokerUnavailable, match="read the backlog of read"):
        read(backlogs)
