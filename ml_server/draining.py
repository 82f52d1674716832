"""Signals: the first SIGTERM or Ctrl-C drains, a second one forces."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

from handoff.contracts.errors import ExitCode


@contextmanager
def drained_by_signals(drain: Callable[[], None], *, force: Callable[[], None] | None = None) -> Iterator[None]:
    """Call `drain` at the first signal, on a thread of its own; at the second call `force` and leave at once.

    A handler runs in the middle of whatever the main thread does, so it may only set a flag, never take a lock.
    """
    asked, over = threading.Event(), threading.Event()

    def on_signal(_number: int, _frame: FrameType | None) -> None:
        if asked.is_set():
            if force is not None:
                force()
            os._exit(ExitCode.INTERRUPTED)
        asked.set()

    def wait() -> None:
        asked.wait()
        if not over.is_set():
            drain()

    waiting = threading.Thread(target=wait, name="drain", daemon=True)
    waiting.start()
    previous = {number: signal.signal(number, on_signal) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        over.set()
        asked.set()
        waiting.join()
        for number, handler in previous.items():
            signal.signal(number, handler)


def drain_with_supervisor(drain: Callable[[], None]) -> None:
    """Call `drain` when standard input ends, which is when the supervisor holding its other end is gone."""

    def wait() -> None:
        os.read(0, 1)  # not sys.stdin: its lock, held by a daemon thread, aborts the interpreter's exit
        drain()

    threading.Thread(target=wait, name="supervisor-watch", daemon=True).start()
