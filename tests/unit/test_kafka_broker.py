"""The Kafka broker over a cluster in memory: what its subscribers do together."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from handoff.brokers.kafka.address import Address
from handoff.brokers.kafka.broker import KafkaBroker
from handoff.brokers.kafka.lane import LaneThread
from handoff.contracts.errors import SettingsInvalid
from handoff.contracts.protocols import Limits
from handoff.contracts.topology import SubscriptionSpec
from tests.kafka_fakes import FakeClients, FakeCluster, FakePublisher, wait_until

SPECS = [SubscriptionSpec(name=f"read-{topic}", topic=topic) for topic in ("requests", "responses")]


@pytest.mark.parametrize("lasts", [True, False])
def test_what_init_makes_is_named_where_it_is_missing(*, lasts: bool) -> None:
    """A client's own subscription is none that `fashion init` would make; the topic is."""
    missing = "subscription read-responses" if lasts else "topic responses"
    absent: Any = SimpleNamespace(has=lambda _: False)
    spec = SubscriptionSpec(name="read-responses", topic="responses", temporary=not lasts)
    broker = KafkaBroker(Address("localhost"), clients=absent, admin=absent, topics=absent, publisher=absent)
    with pytest.raises(SettingsInvalid, match=f"There is no {missing} on this Kafka cluster; run `fashion init`"):
        broker.subscribe(spec, Limits())


def test_a_log_advises_share_groups_for_what_workers_share(caplog: pytest.LogCaptureFixture) -> None:
    """Not for a retry topic, which has one partition in every mode."""
    cluster = FakeCluster({name: 1 for spec in SPECS for name in (spec.topic, f"{spec.name}-retry")})
    anything: Any = SimpleNamespace(has=lambda _: True, close=lambda: None)
    clients: Any = FakeClients(cluster)
    publisher: Any = FakePublisher(cluster)
    publisher.close = lambda: None
    broker = KafkaBroker(Address("localhost"), clients=clients, admin=anything, topics=anything, publisher=publisher)
    with caplog.at_level("INFO"):
        broker.subscribe(SPECS[0], Limits())
        wait_until(lambda: len(caplog.messages) == 2)
    broker.close()
    shared, waiting = sorted(caplog.messages)
    assert shared.startswith("read-requests is read as a consumer group (KIP-848): more workers than partitions need")
    assert waiting == "read-requests-retry is read as a consumer group (KIP-848)"


def test_subscribers_leave_together(monkeypatch: pytest.MonkeyPatch) -> None:
    """In a silence of the cluster each takes its half a minute, and a client has two or three of them."""
    told: set[LaneThread] = set()
    told_before: list[int] = []
    close, join = LaneThread.close, LaneThread.join

    def tell(thread: LaneThread) -> None:
        told.add(thread)
        close(thread)

    def wait(thread: LaneThread) -> None:
        told_before.append(len(told))
        join(thread)

    monkeypatch.setattr(LaneThread, "close", tell)
    monkeypatch.setattr(LaneThread, "join", wait)
    cluster = FakeCluster({name: 1 for spec in SPECS for name in (spec.topic, f"{spec.name}-retry")})
    clients: Any = FakeClients(cluster)
    anything: Any = SimpleNamespace(has=lambda _: True, close=lambda: None)
    publisher: Any = FakePublisher(cluster)
    publisher.close = lambda: None
    broker = KafkaBroker(Address("localhost"), clients=clients, admin=anything, topics=anything, publisher=publisher)
    for spec in SPECS:
        broker.subscribe(spec, Limits())
    broker.close()
    assert told_before == [4] * 4  # a lane and the reader of the retry topic, of each
    assert all(consumer.is_closed for consumer in clients.consumers)
