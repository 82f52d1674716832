"""One deployment a test run: a broker and a store that go together, and the programs told of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pytest
from msgspec.structs import replace

from classifiers.protocol import Images
from fashion_client.client import Client
from fashion_client.sources import SAMPLE_IMAGES, SAMPLE_LABELS
from handoff.contracts.idx import decode_idx
from handoff.contracts.protocols import Broker, Store
from handoff.contracts.topology import Topology
from handoff.settings import ScalingSettings, Settings, TelemetrySettings, WorkerSettings, environment_of
from tests.e2e.programs import WORKER, Program, script

DEPLOYMENTS = {
    "embedded+file": ("embedded", "file"),
    "pubsub+gcs": ("pubsub", "gcs"),
    "kafka+file": ("kafka", "file"),
    "kafka-share+file": ("kafka-share", "file"),
}

# Long enough for a worker on a busy machine to keep its leases, short enough to wait for a dead one's.
ACK_DEADLINES_S = {"embedded": 2.0, "pubsub": 10.0, "kafka": 6.0, "kafka-share": 6.0}

Start = Callable[..., Program]


# Of each kind one: the suite of the brokers is run on every one. Tests that are about more ask for it.
@pytest.fixture(params=["embedded+file", "pubsub+gcs"])
def deployment(request: pytest.FixtureRequest) -> tuple[str, str]:
    """Which broker and which store this run of a test is about."""
    return DEPLOYMENTS[str(request.param)]


@pytest.fixture
def broker_kind(deployment: tuple[str, str]) -> str:
    """The deployment's broker."""
    return deployment[0]


@pytest.fixture
def store_kind(deployment: tuple[str, str]) -> str:
    """The deployment's store."""
    return deployment[1]


@pytest.fixture
def short_deadline_s(broker_kind: str) -> float:
    """How long a dead worker keeps its deliveries."""
    return ACK_DEADLINES_S[broker_kind]


@pytest.fixture
def settings(broker_url: str, store_url: str, topology: Topology, broker: Broker, store: Store) -> Settings:
    """The settings of every program of the deployment, which is declared and ready."""
    del broker, store
    return Settings(broker=broker_url, store=store_url, topology=topology)


@pytest.fixture
def start(settings: Settings, tmp_path: Path) -> Iterator[Start]:
    """Start programs with the deployment's settings; they are ended when the test ends."""
    with ExitStack() as stack:

        def begin(
            command: list[str],
            *,
            name: str,
            worker: WorkerSettings | None = None,
            scaling: ScalingSettings | None = None,
            telemetry: TelemetrySettings | None = None,
            environment: Mapping[str, str] | None = None,
        ) -> Program:
            told = replace(
                settings,
                worker=worker or settings.worker,
                scaling=scaling or settings.scaling,
                telemetry=telemetry or settings.telemetry,
            )
            surroundings = {**environment_of(told), **(environment or {})}
            program = Program(command, environment=surroundings, folder=tmp_path, name=name)
            stack.callback(program.clear_away)
            return program

        yield begin


@pytest.fixture
def start_worker(start: Start) -> Start:
    """Start workers."""

    def begin(
        name: str, *, ready: bool = True, environment: Mapping[str, str] | None = None, **settings: int
    ) -> Program:
        # One thread each: a test's workers share few cores.
        told = WorkerSettings(**{"threads": 1, **settings})
        worker = start(script(WORKER, "--name", name), name=name, worker=told, environment=environment)
        if ready:
            worker.wait_for("ready_s=")
        return worker

    return begin


@pytest.fixture
def client(settings: Settings) -> Iterator[Client]:
    """A client in this process."""
    with Client.open(settings.broker, settings.store, topology=settings.topology) as client:
        yield client


@pytest.fixture(scope="session")
def sample() -> tuple[Images, list[str]]:
    """The sample images with their true labels."""
    images = decode_idx(SAMPLE_IMAGES.read_bytes(), name="images")[..., np.newaxis]
    labels = decode_idx(SAMPLE_LABELS.read_bytes(), name="labels")
    return images, [str(label) for label in labels]
