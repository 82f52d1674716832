"""Workers on one machine: started, restarted when one dies, more or fewer of them on demand, drained together."""

from __future__ import annotations

import logging
import signal
import sys
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from handoff.contracts.errors import ExitCode
from ml_server.processes import WorkerProcess

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
    """Keeps as many worker processes alive as are wanted, until it is drained.

    Each worker has a number, from 1, and a thread that watches over it; numbers over the count are not wanted.
    """

    def __init__(
        self, command: Callable[[str], list[str]], *, worker_count: int, environment: Mapping[str, str]
    ) -> None:
        """`command` makes the argument list that runs the worker of a name."""
        self._command = command
        self._environment = environment
        self._worker_count = worker_count
        self._watchers: list[threading.Thread] = []
        self._processes: dict[int, WorkerProcess] = {}
        self._changed = threading.Condition()
        self._draining = False
        self._exit_code = ExitCode.OK

    @property
    def worker_count(self) -> int:
        """How many workers are wanted."""
        return self._worker_count

    def run(self) -> ExitCode:
        """Run until drained, or until the workers cannot be run at all."""
        with self._changed:
            self.scale_to(self._worker_count)
        self.wait_for_drain()
        for watcher in self._watchers:
            watcher.join()
        return self._exit_code

    def scale_to(self, worker_count: int) -> bool:
        """Start workers, or drain those of the highest numbers; False when all are being drained.

        A worker that is still draining when it is wanted again is started anew once it has ended.
        """
        with self._changed:
            if self._draining:
                return False
            self._worker_count = worker_count
            for number, process in self._processes.items():
                if number > worker_count:
                    process.drain()
            for number in range(len(self._watchers) + 1, worker_count + 1):
                watcher = threading.Thread(target=self._keep_alive, args=(number,), name=_name(number))
                self._watchers.append(watcher)
                watcher.start()
            self._changed.notify_all()
            return True

    def drain(self) -> None:
        """Ask every worker to finish what it holds and end; start none again."""
        with self._changed:
            self._draining = True
            for process in self._processes.values():
                process.drain()
            self._changed.notify_all()

    def kill(self) -> None:
        """End every worker at once; what they held is redelivered."""
        with self._changed:
            self._draining = True
            for process in self._processes.values():
                process.kill()
            self._changed.notify_all()

    def wait_for_drain(self, timeout_s: float | None = None) -> bool:
        """Wait until draining begins; False when it has not within the time."""
        with self._changed:
            return self._changed.wait_for(lambda: self._draining, timeout_s)

    def _keep_alive(self, number: int) -> None:
        wait_s = FIRST_WAIT_S
        while process := self._start_when_wanted(number):
            started_at = time.monotonic()
            code = process.wait()
            if not self._note_end(process, number=number, code=code):
                continue
            wait_s = FIRST_WAIT_S if time.monotonic() - started_at > HEALTHY_LIFE_S else min(2 * wait_s, LONGEST_WAIT_S)
            _log.warning("%s ended with exit code %d; a new one starts in %.0f s", _name(number), code, wait_s)
            self.wait_for_drain(wait_s)

    def _start_when_wanted(self, number: int) -> WorkerProcess | None:
        """Wait until this worker is wanted; None when all are being drained instead."""
        with self._changed:
            self._changed.wait_for(lambda: self._draining or number <= self._worker_count)
            if self._draining:
                return None
            process = WorkerProcess.start(self._command(_name(number)), environment=self._environment)
            self._processes[number] = process
            return process

    def _note_end(self, process: WorkerProcess, *, number: int, code: int) -> bool:
        """Draw the conclusions of a worker's end; True when it was not asked to end, so that another is needed."""
        with self._changed:
            if code in HOPELESS:
                self._exit_code = ExitCode(code)
                self.drain()
            elif code not in ENDED_WELL and self._draining and self._exit_code == ExitCode.OK:
                self._exit_code = ExitCode.WORKERS_FAILED
            elif code not in ENDED_WELL and process.asked_to_drain:
                _log.warning("%s was to drain and ended with exit code %d", _name(number), code)
            return not self._draining and not process.asked_to_drain


def _name(number: int) -> str:
    return f"worker-{number}"


def _number(name: str) -> int:
    return int(name.rpartition("-")[2])


def worker_command(name: str, *, worker_count: int, verbose: bool, first_port: int = 0) -> list[str]:
    """The argument list of one worker of at most `worker_count`; its settings come through the environment.

    Each answers for its health on a port of its own: `first_port`, the next one, and so on; 0 stands for none.
    """
    script = Path(__file__).with_name("image_classification_service.py")
    command = [sys.executable, str(script), "--supervised", "--name", name, "--peers", str(worker_count)]
    if first_port:
        command += ["--health-port", str(first_port + _number(name) - 1)]
    return [*command, "--verbose" if verbose else "--quiet"]
