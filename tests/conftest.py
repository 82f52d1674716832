"""Every broker and every store behind one set of fixtures; a new one is one more parameter here."""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path
from typing import TypeVar

import pytest

from handoff.brokers.urls import open_broker
from handoff.contracts.protocols import Broker, Store
from handoff.contracts.topology import Topology
from handoff.stores.urls import open_store
from tests import kafka_server as kafka_server_of_tests
from tests import servers

# The shortest ack deadline of each broker: Pub/Sub allows no less than 10 s, Kafka's classic groups no less than 6 s.
SHORT_DEADLINES_S = {"embedded": 1.0, "pubsub": 10.0, "kafka": 6.0, "kafka-share": 6.0}

ConnectBroker = Callable[[], Broker]
T = TypeVar("T")


@pytest.fixture(scope="session")
def pubsub_server() -> Iterator[str]:
    """The official emulator, for the whole session."""
    with serving(servers.pubsub_emulator, "PUBSUB_EMULATOR_HOST") as host:
        yield host


@pytest.fixture(scope="session")
def storage_server() -> Iterator[str]:
    """A Cloud Storage server, for the whole session."""
    with serving(servers.storage_server, "STORAGE_EMULATOR_HOST") as host:
        yield host


@pytest.fixture(scope="session")
def kafka_server() -> Iterator[str]:
    """A Kafka broker, for the whole session."""
    with started(kafka_server_of_tests.kafka_server) as address:
        yield address


@pytest.fixture(params=SHORT_DEADLINES_S)
def broker_kind(request: pytest.FixtureRequest) -> str:
    """Which broker this run of a test is about."""
    return str(request.param)


@pytest.fixture(params=["file", "gcs"])
def store_kind(request: pytest.FixtureRequest) -> str:
    """Which store this run of a test is about."""
    return str(request.param)


@pytest.fixture
def broker_url(broker_kind: str, tmp_path: Path, request: pytest.FixtureRequest) -> str:
    """The URL of a broker that is up; its server is started by the first test that needs it."""
    match broker_kind:
        case "pubsub":
            request.getfixturevalue("pubsub_server")
            return "pubsub://tests"
        case "kafka":
            return f"kafka://{request.getfixturevalue('kafka_server')}?partitions=4"
        case "kafka-share":
            return f"kafka://{request.getfixturevalue('kafka_server')}?partitions=2&mode=share-group"
        case _:
            return f"embedded://{tmp_path}/queue.db"


@pytest.fixture
def store_url(store_kind: str, tmp_path: Path, request: pytest.FixtureRequest) -> str:
    """The URL of a store that is up, with a prefix of the test's own."""
    match store_kind:
        case "gcs":
            request.getfixturevalue("storage_server")
            return f"gs://fashion-tests/{uuid.uuid4().hex}"
        case _:
            return f"file://{tmp_path}/store"


@pytest.fixture
def short_deadline_s(broker_kind: str) -> float:
    """The shortest ack deadline this broker allows."""
    return SHORT_DEADLINES_S[broker_kind]


@pytest.fixture
def topology(short_deadline_s: float) -> Topology:
    """Names that no other test uses, so that tests share a server and nothing else."""
    return unique_topology(ack_deadline_s=short_deadline_s)


@pytest.fixture
def connect_broker(broker_url: str, topology: Topology) -> Iterator[ConnectBroker]:
    """Make connections of a test's own, as several processes would; all are closed at its end."""
    with ExitStack() as stack:

        def connect() -> Broker:
            broker = open_broker(broker_url, topology)
            stack.callback(broker.close)
            return broker

        yield connect


@pytest.fixture
def broker(connect_broker: ConnectBroker, topology: Topology) -> Broker:
    """A connected broker with its topology declared."""
    broker = connect_broker()
    broker.declare(topology)
    return broker


@pytest.fixture
def store(store_url: str) -> Store:
    """A store that is ready to use."""
    store = open_store(store_url)
    store.declare()
    return store


def unique_topology(*, ack_deadline_s: float, max_attempts: int = 5) -> Topology:
    """Names that nobody else uses."""
    unique = uuid.uuid4().hex[:12]
    return Topology(
        requests_topic=f"requests-{unique}",
        responses_topic=f"responses-{unique}",
        dead_letters_topic=f"dead-letters-{unique}",
        requests_subscription=f"read-requests-{unique}",
        responses_subscription=f"read-responses-{unique}",
        dead_letters_subscription=f"read-dead-letters-{unique}",
        ack_deadline_s=ack_deadline_s,
        max_attempts=max_attempts,
    )


@contextmanager
def started(start: Callable[[], AbstractContextManager[T]]) -> Iterator[T]:
    """Start a server; without one, skip here but fail where CI promises it."""
    with ExitStack() as stack:
        try:
            server = stack.enter_context(start())
        except servers.ServerAbsent as absent:
            if os.environ.get("CI") == "true":
                pytest.fail(str(absent))
            pytest.skip(str(absent))
        yield server


@contextmanager
def serving(start: Callable[[], AbstractContextManager[str]], variable: str) -> Iterator[str]:
    """Start a server and tell the SDK where it is."""
    with started(start) as host, pytest.MonkeyPatch.context() as patch:
        patch.setenv(variable, host)
        yield host
