"""The service under attack: a broker that can be killed, a store, workers, and one client that must get its answers."""

from __future__ import annotations

import itertools
import os
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Protocol

import msgspec

from handoff.brokers.urls import open_broker
from handoff.contracts.errors import ExitCode
from handoff.settings import Settings, WorkerSettings, environment_of, load_settings
from handoff.stores.urls import open_store
from tests import servers
from tests.e2e.programs import REQUEST, WORKER, Program, script
from tests.kafka_server import KafkaServer

# How long a dead worker keeps what it held: the least Pub/Sub and Kafka allow, and enough for a busy machine otherwise.
ACK_DEADLINES_S = {"embedded": 5.0, "pubsub": 10.0, "kafka": 6.0, "kafka-share": 6.0}

# A client asks again for what was not answered in this time; growing, so that a slow machine is not asked twice.
ASK_AGAIN_AFTER_S = {"embedded": 20.0, "pubsub": 30.0, "kafka": 45.0, "kafka-share": 45.0}

# So many at once share two cores; every one holds requests that its death gives back.
WORKER_COUNT = 3


# Fewer partitions than workers where that is what is tried.
KAFKA_MODES = {"kafka": "partitions=6", "kafka-share": "partitions=2&mode=share-group"}


class BrokerServer(Protocol):
    """A broker's server that can be killed and started again at the same address."""

    def start(self) -> object:
        """Start it."""

    def kill(self) -> None:
        """End it with SIGKILL."""


class Service:
    """Everything that runs; each process has a name of its own, and its output in files."""

    def __init__(
        self, settings: Settings, *, server: BrokerServer | None, folder: Path, requesting: Sequence[str]
    ) -> None:
        """`requesting`: the arguments of `fashion request` that say what is sent.

        Without a server the broker lives in its users: killing them is killing it.
        """
        self.settings = settings
        self._server = server
        self.workers: list[Program] = []
        self.clients: list[Program] = []
        self.journal = folder / "journal.db"
        self._folder = folder
        self._requesting = list(requesting)
        self._numbers = itertools.count(1)

    @property
    def broker_can_be_killed(self) -> bool:
        """Whether the broker has a server of its own."""
        return self._server is not None

    def start_workers(self, count: int = WORKER_COUNT) -> None:
        """Start workers."""
        self.workers += [self._start_worker() for _ in range(count)]

    def start_client(self) -> None:
        """Start the client, or have it go on where the last one was killed."""
        name = f"client-{len(self.clients) + 1}"
        command = script(REQUEST, *self._requesting, "--journal", str(self.journal), "--wait", "--json")
        self.clients.append(self._start([*command, "--resume"] if self.clients else command, name))

    def kill_worker(self, number: int) -> None:
        """Kill a worker, whatever it is at, and start another in its place."""
        self.workers[number].kill()
        self.workers[number] = self._start_worker()

    def kill_client(self) -> None:
        """Kill the client, whatever it is at, and start another that resumes."""
        self.clients[-1].kill()
        self.start_client()

    def kill_broker(self) -> None:
        """Kill the broker's server, start it anew, and declare what it had: an emulator's messages are gone."""
        if self._server is None:
            raise ValueError("this broker has no server of its own")
        self._server.kill()
        self._server.start()
        self.declare()

    def declare(self) -> None:
        """Make what the settings name, as `fashion init` does."""
        open_store(self.settings.store).declare()
        with closing(open_broker(self.settings.broker, self.settings.topology)) as broker:
            broker.declare(self.settings.topology)

    def drain_workers(self) -> list[int]:
        """Ask the workers to end, and wait; their exit codes."""
        for worker in self.workers:
            worker.terminate()
        return [worker.wait() for worker in self.workers]

    def tend(self) -> bool:
        """Start the client anew where it gave up, as whatever supervises it would; False when it has done its work."""
        if self.clients[-1].is_running:
            return True
        if self.clients[-1].wait() == ExitCode.OK:
            return False
        self.start_client()
        return True

    def end(self) -> None:
        """End whatever still runs."""
        for program in [*self.workers, *self.clients]:
            program.clear_away()

    def _start_worker(self) -> Program:
        name = f"worker-{next(self._numbers)}"
        return self._start(script(WORKER, "--name", name), name)

    def _start(self, command: list[str], name: str) -> Program:
        return Program(command, environment=environment_of(self.settings), folder=self._folder, name=name)


@contextmanager
def running_service(kind: str, *, requesting: Sequence[str]) -> Iterator[Service]:
    """A declared deployment with nothing started yet but its servers; all of it is ended, and forgotten, afterwards."""
    with tempfile.TemporaryDirectory(prefix="chaos-") as name, ExitStack() as stack:
        folder = Path(name)
        urls = {"broker": f"embedded://{folder}/queue.db", "store": f"file://{folder}/store"}
        server: BrokerServer | None = None
        if kind == "pubsub":
            server = emulator = servers.Emulator()
            stack.callback(emulator.kill)
            os.environ["PUBSUB_EMULATOR_HOST"] = emulator.start()
            os.environ["STORAGE_EMULATOR_HOST"] = stack.enter_context(servers.storage_server())
            urls = {"broker": "pubsub://chaos", "store": "gs://chaos-store/chaos"}
        elif kind in KAFKA_MODES:
            server = kafka = stack.enter_context(KafkaServer())
            urls["broker"] = f"kafka://{kafka.address}?{KAFKA_MODES[kind]}"
        service = Service(_settings(kind, urls), server=server, folder=folder, requesting=requesting)
        stack.callback(service.end)
        service.declare()
        yield service


def _settings(kind: str, urls: dict[str, str]) -> Settings:
    settings = load_settings(flags=urls).settings
    topology = msgspec.structs.replace(settings.topology, ack_deadline_s=ACK_DEADLINES_S[kind])
    client = msgspec.structs.replace(settings.client, timeout_s=ASK_AGAIN_AFTER_S[kind], max_publications=100)
    # One inference thread each, for the workers share few cores.
    return msgspec.structs.replace(settings, topology=topology, client=client, worker=WorkerSettings(threads=1))
