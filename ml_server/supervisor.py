"""N workers on one machine: started, restarted when one dies, drained together."""

from __future__ import annotations

import logging
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from handoff.contracts.errors import ExitCode

_log = logging.getLogger(__name__)

# A worker that lived this long is restarted at once; one that did not waits, ever longer, so that no storm comes of it.
HEALTHY_LIFE_S = 30.0
FIRST_WAIT_S = 0.5
LONGEST_WAIT_S = 30.0

# A worker that ends like this would end the same way again.
HOPELESS = frozenset({ExitCode.USAGE, ExitCode.SETTINGS_INVALID, ExitCode.ARTIFACT_INVALID, ExitCode.MISSING_PACKAGE})

# A worker that the signal ended outright had not begun to listen to it, and so held nothing yet.
ENDED_WELL = frozenset({ExitCode.OK, -signal.SIGTERM})


class Supervisor:
    """Keeps worker processes alive until it is drained."""

    def __init__(
        self, command: Callable[[str], list[str]], *, worker_count: int, environment: Mapping[str, str]
    ) -> None:
        """`command` makes the argument list that runs the worker of a name."""
        self._command = command
        self._environment = environment
        self._names = [f"worker-{number}" for number in range(1, worker_count + 1)]
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self._lock = threading.Lock()
        self._draining = threading.Event()
        self._exit_code = ExitCode.OK

    def run(self) -> ExitCode:
        """Run until drained, or until the workers cannot be run at all."""
        watchers = [threading.Thread(target=self._keep_alive, args=(name,), name=name) for name in self._names]
        for watcher in watchers:
            watcher.start()
        for watcher in watchers:
            watcher.join()
        return self._exit_code

    def drain(self) -> None:
        """Ask every worker to finish what it holds and end; start none again."""
        self._draining.set()
        with self._lock:
            for process in self._processes.values():
                process.terminate()

    def kill(self) -> None:
        """End every worker at once; what they held is redelivered."""
        self._draining.set()
        for process in list(self._processes.values()):
            process.kill()

    def _keep_alive(self, name: str) -> None:
        wait_s = FIRST_WAIT_S
        while not self._draining.is_set():
            started_at = time.monotonic()
            code = self._run_one(name)
            if code in HOPELESS:
                self._exit_code = ExitCode(code)
                self.drain()
            if self._draining.is_set():
                return
            wait_s = FIRST_WAIT_S if time.monotonic() - started_at > HEALTHY_LIFE_S else min(2 * wait_s, LONGEST_WAIT_S)
            _log.warning("%s ended with exit code %d; a new one starts in %.0f s", name, code, wait_s)
            self._draining.wait(wait_s)

    def _run_one(self, name: str) -> int:
        with self._lock:
            if self._draining.is_set():
                return ExitCode.OK
            # A pipe that is never written to: its end tells the worker that the supervisor is gone. A session of its
            # own keeps the terminal's Ctrl-C for the supervisor, which passes it on once.
            process = subprocess.Popen(
                self._command(name), stdin=subprocess.PIPE, env=self._environment, start_new_session=True
            )
            self._processes[name] = process
        code = process.wait()
        if process.stdin is not None:
            process.stdin.close()
        if self._draining.is_set() and self._exit_code == ExitCode.OK and code not in ENDED_WELL | HOPELESS:
            self._exit_code = ExitCode.WORKERS_FAILED
        return code


def worker_command(name: str, *, worker_count: int, verbose: bool) -> list[str]:
    """The argument list of one supervised worker; its settings come through the environment."""
    script = Path(__file__).with_name("image_classification_service.py")
    command = [sys.executable, str(script), "--supervised", "--name", name, "--peers", str(worker_count)]
    return [*command, "--verbose" if verbose else "--quiet"]
