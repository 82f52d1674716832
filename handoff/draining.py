"""Signals: the first SIGTERM or Ctrl-C drains, a second one forces."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

from handoff.contracts.errors import ExitCode

SIGNALS = (signal.SIGTERM, signal.SIGINT)
_FIRST_PROCESS = 1


@contextmanager
def drained_by_signals(drain: Callable[[], None], *, force: Callable[[], None] | None = None) -> Iterator[None]:
    """Call `drain` at the first signal, on a thread of its own; at the second call `force` and leave at once.

    Python runs its handlers on the main thread, which does not hear of a signal that comes just before it blocks: up
    to 5 % of second signals were lost so. The pipe is written by the operating system's handler, whatever that thread
    is at. (Nor could a handler do more than set a flag, for it interrupts code that may hold any lock.)
    """
    heard, written = os.pipe()
    os.set_blocking(written, False)
    draining = threading.Thread(target=drain, name="drain", daemon=True)

    def listen() -> None:
        if not _hear_signal(heard):
            return
        draining.start()
        if _hear_signal(heard):
            if force is not None:
                force()
            os._exit(ExitCode.INTERRUPTED)

    listening = threading.Thread(target=listen, name="signals", daemon=True)
    previous_pipe = signal.set_wakeup_fd(written, warn_on_full_buffer=False)
    previous = {number: signal.signal(number, _leave_to_the_pipe) for number in SIGNALS}
    listening.start()
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(previous_pipe)
        os.close(written)
        listening.join()
        os.close(heard)
        if draining.ident is not None:
            draining.join()


@contextmanager
def ended_by_sigterm() -> Iterator[None]:
    """Let SIGTERM interrupt the first process of a container as Ctrl-C does; everywhere else it ends a process anyway.

    Linux keeps from that process every signal that it has no handler for.
    """
    if os.getpid() != _FIRST_PROCESS or threading.current_thread() is not threading.main_thread():
        yield
        return
    previous = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, previous)


def _leave_to_the_pipe(_number: int, _frame: FrameType | None) -> None:
    """Take the place of the default handler, which would end the program."""


def _hear_signal(pipe: int) -> bool:
    """Wait for one of our signals; False when the pipe was closed."""
    while number := os.read(pipe, 1):
        if number[0] in SIGNALS:
            return True
    return False
