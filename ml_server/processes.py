"""One worker process, as its supervisor sees it."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping, Sequence


class WorkerProcess:
    """A running worker that is asked to drain once, however many reasons there are: a second signal would force it."""

    def __init__(self, popen: subprocess.Popen[bytes]) -> None:
        self._popen = popen
        self.asked_to_drain = False

    @classmethod
    def start(cls, command: Sequence[str], *, environment: Mapping[str, str]) -> WorkerProcess:
        """Start it, with a way to tell when its supervisor is gone."""
        # A pipe that is never written to: its end tells the worker that the supervisor is gone. A session of its
        # own keeps the terminal's Ctrl-C for the supervisor, which passes it on once.
        return cls(subprocess.Popen(command, stdin=subprocess.PIPE, env=environment, start_new_session=True))

    def drain(self) -> None:
        """Ask it to finish what it holds and end; callers take turns."""
        if not self.asked_to_drain:
            self.asked_to_drain = True
            self._popen.terminate()

    def kill(self) -> None:
        """End it at once; what it held is redelivered."""
        self._popen.kill()

    def wait(self) -> int:
        """Wait for its end; its exit code, or the number of the signal that ended it, negative."""
        code = self._popen.wait()
        if self._popen.stdin is not None:
            self._popen.stdin.close()
        return code
