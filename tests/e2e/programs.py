"""The programs as a user starts them: processes of their own, watched through their logs, ended by process id."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).parents[2]
WORKER = REPOSITORY / "ml_server" / "image_classification_service.py"
REQUEST = REPOSITORY / "fashion_client" / "make_analysis_requests.py"
RECEIVE = REPOSITORY / "fashion_client" / "get_analysis_outputs.py"
CLASSIFY = REPOSITORY / "fashion_client" / "classify_images.py"
WATCH = REPOSITORY / "fashion_client" / "watch_folder.py"

# A start takes a second on an idle machine; the bound is for one that runs much else.
WITHIN_S = 60.0


def wait_until(true: Callable[[], bool], *, what: str, within_s: float = WITHIN_S) -> None:
    """Look again and again until something is so; fail when it is not in time."""
    deadline = time.monotonic() + within_s
    while not true():
        assert time.monotonic() < deadline, f"not within {within_s} s: {what}"
        time.sleep(0.01)


class Program:
    """A running program, its output in files."""

    def __init__(self, command: Sequence[str], *, environment: dict[str, str], folder: Path, name: str) -> None:
        self._name = name
        self._output, self._log = folder / f"{name}.out", folder / f"{name}.log"
        with self._output.open("wb") as output, self._log.open("wb") as log:
            # Run from elsewhere, without a terminal: as a service is.
            self._process = subprocess.Popen(
                command, cwd=folder, env=environment, stdin=subprocess.DEVNULL, stdout=output, stderr=log
            )

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    @property
    def is_running(self) -> bool:
        """Whether it has not ended."""
        return self._process.poll() is None

    @property
    def log(self) -> str:
        """What it wrote to standard error so far."""
        return self._log.read_text(encoding="utf-8")

    @property
    def output(self) -> str:
        """What it wrote to standard output so far."""
        return self._output.read_text(encoding="utf-8")

    @property
    def figures(self) -> dict[str, Any]:
        """The JSON object on its last line."""
        found: dict[str, Any] = json.loads(self.output.splitlines()[-1])
        return found

    def wait(self, *, within_s: float = WITHIN_S) -> int:
        """Wait for its end; its exit code."""
        try:
            return self._process.wait(within_s)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"{self._name} did not end within {within_s} s:\n{self.log}") from None

    def wait_for(self, text: str, *, times: int = 1) -> None:
        """Wait until its log has a text so often."""
        wait_until(
            lambda: self.log.count(text) >= times or self._process.poll() is not None,
            what=f"{times} times {text!r} in the log of {self._name}:\n{self.log}",
        )
        assert self.log.count(text) >= times, f"{self._name} ended with {self._process.returncode}:\n{self.log}"

    def terminate(self) -> None:
        """Ask it to end, as an operator does."""
        self._process.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """End it without a chance to do anything about it."""
        self._process.kill()
        self._process.wait()

    def children(self) -> list[int]:
        """The process ids of its children."""
        found = subprocess.run(["pgrep", "-P", str(self.pid)], capture_output=True, text=True, check=False)
        return [int(line) for line in found.stdout.split()]

    def clear_away(self) -> None:
        """End it and its children, whatever state they are in."""
        children = self.children() if self._process.poll() is None else []
        self.kill()
        for pid in children:
            if is_running(pid):
                os.kill(pid, signal.SIGKILL)


def is_running(pid: int) -> bool:
    """Say whether a process is there; one that has ended and waits for its parent's notice is not."""
    found = subprocess.run(["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, text=True, check=False)
    return bool(found.stdout.strip()) and not found.stdout.lstrip().startswith("Z")


def script(path: Path, *arguments: str) -> list[str]:
    """The command that runs a script as the README says."""
    return [sys.executable, str(path), *arguments]
