"""Whether a worker lives and is ready: what a probe asks, from what the worker tells of itself."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Literal

from handoff.contracts.protocols import UNKNOWN_BACKLOG, Backlog
from ml_server.recording import End, Serving
from ml_server.work import Work

# No micro-batch takes seconds, in any runtime here. One that has not ended by then never will.
STUCK_AFTER_S = 600.0

State = Literal["starting", "serving", "draining"]


class Vitals:
    """What is known of a worker's state; a recorder, and safe to ask from any thread."""

    def __init__(self, *, clock: Callable[[], float] = time.perf_counter) -> None:
        self.state: State = "starting"
        self.worker: Serving | None = None
        self._clock = clock
        self._held: dict[int, Work] = {}

    @property
    def held_count(self) -> int:
        """How many deliveries are held."""
        return len(self._held)

    def is_ready(self) -> bool:
        """Whether it takes deliveries, and can serve them."""
        return not self.unreadiness()

    def unreadiness(self) -> str:
        """Why it is not ready; empty while it is."""
        if self.state != "serving" or self.worker is None:
            return self.state
        return self.worker.fault()

    def fault(self) -> str:
        """What keeps it from making progress, so that only a new process helps; empty for nothing."""
        threads = self.worker.threads if self.worker is not None and self.state == "serving" else ()
        ended = [thread.name for thread in threads if thread.ident is not None and not thread.is_alive()]
        if ended:
            return f"the thread {ended[0]} has ended"
        now = self._clock()
        # A copy: other threads pull and end deliveries meanwhile.
        idle_s = max(
            (now - since for work in list(self._held.values()) if (since := work.classifying_since)), default=0.0
        )
        if idle_s > STUCK_AFTER_S:
            return f"a delivery has been under classification for {idle_s:.0f} s without progress"
        return ""

    def backlog(self) -> Backlog:
        """Ask the broker how much waits; unknown unless the worker is serving, for only then is it connected."""
        if self.worker is None or self.state != "serving":
            return UNKNOWN_BACKLOG
        return self.worker.backlog()

    def serving(self, serving: Serving) -> None:
        """Ready, from now on."""
        self.worker, self.state = serving, "serving"

    def pulled(self, work: Work) -> None:
        """One more is held."""
        self._held[id(work)] = work

    def classified(self, image_count: int) -> None:
        """Each work knows of itself when it last came on."""

    def ended(self, work: Work, end: End) -> None:
        """One fewer is held."""
        del end
        self._held.pop(id(work), None)

    def draining(self) -> None:
        """Not ready any more."""
        self.state = "draining"
