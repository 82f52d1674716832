"""A server that others wrote, of TensorFlow Serving's REST protocol: KServe, in an environment of its own.

By hand, for a worker with `--runtime tf-serving`:  python tests/serving_server.py [GRAPH.onnx]
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

if __name__ == "__main__":  # run as a script: the packages lie beside this folder
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import pytest

from tests.servers import READY_WITHIN_S, ServerAbsent, free_port

ROOT = Path(__file__).resolve().parents[1]
PYTHON = ROOT / "build" / "kserve" / "bin" / "python"
MODEL = Path(__file__).with_name("kserve_model.py")
INSTALL = (
    "python3 -m venv build/kserve && build/kserve/bin/pip install --require-hashes -r requirements/kserve.lock"
    " (.ci/run does so)"
)


class KServe:
    """KServe at one address, started as often as it is killed; serves the model `fashion` from an ONNX graph."""

    def __init__(self, graph: Path) -> None:
        if not PYTHON.exists():
            raise ServerAbsent(f"no KServe: {INSTALL}")
        self._graph = graph
        self._port = free_port()
        self._process: subprocess.Popen[bytes] | None = None
        self._log: IO[bytes] | None = None

    @property
    def url(self) -> str:
        """The model's address."""
        return f"http://127.0.0.1:{self._port}/v1/models/fashion"

    @property
    def pid(self) -> int:
        """Its process, while it runs."""
        assert self._process is not None
        return self._process.pid

    def start(self) -> None:
        """Start it, and wait until it serves."""
        self._log = tempfile.TemporaryFile()  # noqa: SIM115 - `kill` closes it
        command = [str(PYTHON), str(MODEL), str(self._graph), str(self._port)]
        # A session of its own: Ctrl-C in a terminal ends the tests first, and they end the server.
        self._process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=self._log, stderr=self._log, start_new_session=True
        )
        deadline = time.monotonic() + READY_WITHIN_S
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() > deadline:
                self._log.seek(0)
                said = self._log.read().decode(errors="replace")[-2000:]
                self.kill()
                raise RuntimeError(f"KServe did not start: {said}")
            time.sleep(0.02)

    def kill(self) -> None:
        """End it with SIGKILL, and whatever it was about to answer."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None
        if self._log is not None:
            self._log.close()
            self._log = None

    def _answers(self) -> bool:
        try:
            with urllib.request.urlopen(self.url, timeout=1.0) as response:  # noqa: S310 - our own http:// address
                return bool(response.status == 200)
        except OSError:
            return False


@contextmanager
def kserve(graph: Path) -> Iterator[KServe]:
    """Run one for the length of a block; where it is not installed, skip here but fail where CI promises it."""
    try:
        server = KServe(graph)
    except ServerAbsent as absent:
        if os.environ.get("CI") == "true":
            pytest.fail(str(absent))
        pytest.skip(str(absent))
    try:
        server.start()
        yield server
    finally:
        server.kill()


def main() -> None:
    """Serve until Ctrl-C."""
    graph = Path(sys.argv[1]) if sys.argv[1:] else ROOT / "ml_model_development" / "artifacts" / "1" / "model.onnx"
    with kserve(graph) as server:
        sys.stdout.write(f"{server.url}\n")
        sys.stdout.flush()
        try:
            os.waitpid(server.pid, 0)
        except KeyboardInterrupt:
            return


if __name__ == "__main__":
    main()
