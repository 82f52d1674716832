"""The end of a worker: asked for by signals, or by the end of its supervisor."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable

from handoff.draining import drained_by_signals

__all__ = ["drain_with_supervisor", "drained_by_signals"]


def drain_with_supervisor(drain: Callable[[], None]) -> None:
    """Call `drain` when standard input ends, which is when the supervisor holding its other end is gone."""

    def wait() -> None:
        os.read(0, 1)  # not sys.stdin: its lock, held by a daemon thread, aborts the interpreter's exit
        drain()

    threading.Thread(target=wait, name="supervisor-watch", daemon=True).start()
