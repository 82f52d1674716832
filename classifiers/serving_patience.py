"""Waiting for a server that does not answer: trying again, told once, for a bounded time or until a worker drains."""

from __future__ import annotations

import logging
import math
import random
import threading
import time
from collections.abc import Callable
from typing import TypeVar

from handoff.contracts.errors import RuntimeUnavailable

_log = logging.getLogger(__name__)

T = TypeVar("T")

# A connection that broke is made anew at once; a server that restarts takes seconds.
_FIRST_WAIT_S = 0.05
_LONGEST_WAIT_S = 2.0
# A server that is busy, or changes versions, has answered by then; nobody has to be told of that.
_TELL_AFTER_S = 1.0


class Patience:
    """How one server's callers put up with it; thread-safe."""

    def __init__(self, server: str, *, patience_s: float) -> None:
        self._server = server
        self._patience_s = patience_s
        self._stopped = threading.Event()
        self._lock = threading.Lock()
        self._fault = ""
        self._silence = ""

    @property
    def fault(self) -> str:
        """Why a call has been without an answer for some time; empty while the server answers."""
        return self._fault

    def stop(self) -> None:
        """Wait no more from now on: a first failure is the last, and who waited long for one does so for all."""
        self._stopped.set()

    def wait_out(self, call: Callable[[], T], *, most_s: float = math.inf) -> T:
        """Call until there is an answer.

        Raises: RuntimeUnavailable: there was none in time; and what else the call raises, at once
        """
        began_at, wait_s = time.monotonic(), _FIRST_WAIT_S
        most_s = min(most_s, self._patience_s)
        while True:
            if self._silence and self._stopped.is_set():
                raise RuntimeUnavailable(self._silence)
            called_at = time.monotonic()
            try:
                answer = call()
            except RuntimeUnavailable as error:
                # Each of the calls that are to come would take as long, and a worker that drains has many of them.
                self._silence = str(error) if time.monotonic() - called_at > _TELL_AFTER_S else ""
                waited_s = time.monotonic() - began_at
                if waited_s > _TELL_AFTER_S:
                    self._tell(str(error), left_s=most_s - waited_s)
                # Jitter, so that the threads of many workers do not come back in step.
                pause_s = random.uniform(wait_s / 2, wait_s)  # noqa: S311 - no secret
                if waited_s + pause_s > most_s or self._stopped.wait(pause_s):
                    raise
                wait_s = min(2 * wait_s, _LONGEST_WAIT_S)
            else:
                self._silence = ""
                if self._fault:
                    self._tell("")
                return answer

    def _tell(self, fault: str, *, left_s: float = 0.0) -> None:
        """Keep how the server is, and log it when that changes."""
        with self._lock:
            changed = bool(fault) != bool(self._fault)
            self._fault = fault
        if changed and fault:
            _log.warning("%s Waiting for it, for %.0f s at most.", fault, max(0.0, left_s))
        elif changed:
            _log.warning("%s answers again.", self._server)
