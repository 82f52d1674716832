"""A real Apache Kafka broker of one node behind the tests, on 127.0.0.1; `make kafka` fetches it."""

from __future__ import annotations

import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Self

from tests.servers import ServerAbsent, free_port, running

ROOT = Path(__file__).resolve().parents[1]
JARS = ROOT / "build" / "kafka"
_LOGGING = ROOT / "tests" / "kafka" / "log4j2.properties"

# One node, few partitions of its own topics, and groups that notice quickly who has died.
_SETTINGS = {
    "process.roles": "broker,controller",
    "node.id": "1",
    "controller.listener.names": "CONTROLLER",
    "offsets.topic.replication.factor": "1",
    "offsets.topic.num.partitions": "1",
    "transaction.state.log.replication.factor": "1",
    "transaction.state.log.min.isr": "1",
    "transaction.state.log.num.partitions": "1",
    "share.coordinator.state.topic.replication.factor": "1",
    "share.coordinator.state.topic.min.isr": "1",
    "share.coordinator.state.topic.num.partitions": "1",
    "group.initial.rebalance.delay.ms": "0",
    "group.min.session.timeout.ms": "2000",
    "group.consumer.assignment.interval.ms": "200",
    "group.consumer.min.session.timeout.ms": "2000",
    "group.consumer.min.heartbeat.interval.ms": "500",
    "group.consumer.session.timeout.ms": "6000",
    "group.consumer.heartbeat.interval.ms": "1000",
    "group.share.assignment.interval.ms": "200",
    "group.share.min.session.timeout.ms": "2000",
    "group.share.min.heartbeat.interval.ms": "500",
    "group.share.session.timeout.ms": "6000",
    "group.share.heartbeat.interval.ms": "1000",
    "group.share.min.record.lock.duration.ms": "1000",
}


class KafkaServer:
    """One broker with a folder of its own, started as often as it is killed; what it has said it has, it keeps."""

    def __init__(
        self, *, protocol: str = "PLAINTEXT", settings: Mapping[str, str] | None = None, format_with: Sequence[str] = ()
    ) -> None:
        """`settings` go before those of every broker here; `format_with` are arguments for formatting its storage."""
        self._protocol = protocol
        self._wanted = dict(settings or {})
        self._format_with = list(format_with) or ["--feature", "share.version=1"]
        self._port, self._controller_port = free_port(), free_port()
        self._folder = ExitStack()
        self._process = ExitStack()

    def __enter__(self) -> Self:
        if not shutil.which("java") or not any(JARS.glob("kafka_*.jar")):
            raise ServerAbsent("no Kafka broker: install Java 17 and Maven, then run `make kafka`")
        self._settings = self._write_settings(Path(self._folder.enter_context(tempfile.TemporaryDirectory())))
        cluster = "ZmFzaGlvbi1hbmFseXNpcw"  # 16 bytes in base64, as every id of a cluster
        self._java("kafka.tools.StorageTool", "format", "-t", cluster, "-c", str(self._settings), *self._format_with)
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()
        self._folder.close()

    @property
    def address(self) -> str:
        """Where clients find it."""
        return f"127.0.0.1:{self._port}"

    def start(self) -> None:
        """Start it, with what it had."""
        command = [*_JAVA, "-Xmx512m", f"-Dlog4j2.configurationFile={_LOGGING}", *_CLASSES, "kafka.Kafka"]
        self._process.enter_context(running([*command, str(self._settings)], ready=self._answers))

    def kill(self) -> None:
        """End it with SIGKILL."""
        self._process.close()

    def _write_settings(self, folder: Path) -> Path:
        protocol = self._protocol
        listeners = f"{protocol}://127.0.0.1:{self._port}"
        settings = {
            **_SETTINGS,
            "log.dirs": f"{folder}/data",
            "controller.quorum.voters": f"1@127.0.0.1:{self._controller_port}",
            "listeners": f"{listeners},CONTROLLER://127.0.0.1:{self._controller_port}",
            "advertised.listeners": listeners,
            "listener.security.protocol.map": f"{protocol}:{protocol},CONTROLLER:PLAINTEXT",
            "inter.broker.listener.name": protocol,
            **self._wanted,
        }
        path = folder / "server.properties"
        path.write_text("".join(f"{name}={value}\n" for name, value in settings.items()))
        return path

    def _answers(self) -> bool:
        # The port opens once the broker has caught up with its controller.
        try:
            with socket.create_connection(("127.0.0.1", self._port), timeout=1.0):
                return True
        except OSError:
            return False

    def _java(self, *command: str) -> None:
        done = subprocess.run([*_JAVA, *_CLASSES, *command], capture_output=True, text=True, check=False)
        if done.returncode:
            raise RuntimeError(f"{command[0]} failed: {done.stdout[-1000:]} {done.stderr[-1000:]}")


# For the minutes that it runs, the optimising compiler costs more than it saves.
_JAVA = ["java", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"]
_CLASSES = ["-cp", f"{JARS}/*"]


@contextmanager
def kafka_server() -> Iterator[str]:
    """Run a broker without passwords; its address."""
    with KafkaServer() as server:
        yield server.address
