"""Group commit: one thread writes for a whole process, flushing once for everything that waited meanwhile.

Between the groups it does what nobody waits for, bit by bit.
"""

from __future__ import annotations

import logging
import queue
import sqlite3
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from functools import partial
from typing import Any, TypeVar

from handoff.brokers.embedded.clock import FileClock
from handoff.brokers.embedded.database import transaction, translated_errors
from handoff.brokers.embedded.upkeep import PERIOD_S, keep_up
from handoff.contracts.errors import BrokerUnavailable, FashionError

_log = logging.getLogger(__name__)

T = TypeVar("T")
Write = Callable[[sqlite3.Connection], T]

# Bounds a transaction to ~10 ms, so that other processes get their turn; a flush takes ~0.3 ms (`bench/embedded.py`).
GROUP_MAX = 256

# What a write meets in its own values: text with half a surrogate pair, a type SQLite does not know, a body over 1 GB.
# Every other error is the file's, and its whole group's.
OWN_FAULTS = (
    FashionError,
    ValueError,
    TypeError,
    OverflowError,
    sqlite3.DataError,
    sqlite3.InterfaceError,
    sqlite3.ProgrammingError,
)


class Writer:
    """Runs writes in the order they were submitted; each future resolves when its write is on the disk."""

    def __init__(self, connection: sqlite3.Connection, *, clock: FileClock) -> None:
        self._connection = connection
        self._clock = clock
        self._waiting: queue.SimpleQueue[tuple[Write[Any], Future[Any]] | None] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._closed = False
        self._thread = threading.Thread(target=self._run, name="queue-writer", daemon=True)

    def start(self) -> None:
        """Begin to write."""
        self._thread.start()

    def submit(self, write: Write[T]) -> Future[T]:
        """Run `write` within a coming transaction; what it raises for its own values undoes only its own statements.

        The future raises: what `write` raised; BrokerUnavailable: the file could not be written, or `close` came first
        """
        future: Future[T] = Future()
        future.set_running_or_notify_cancel()  # from here on it cannot be cancelled
        with self._lock:
            if self._closed:
                future.set_exception(BrokerUnavailable("The broker connection is closed; open a new one."))
            else:
                self._waiting.put((write, future))
        return future

    def close(self) -> None:
        """Write what was submitted, then stop."""
        with self._lock:
            if not self._closed:
                self._closed = True
                self._waiting.put(None)
        self._thread.join()
        self._connection.close()

    def _run(self) -> None:
        look_at = time.monotonic()
        while (group := self._next_group(wait_s=look_at - time.monotonic())) is not None:
            if group:
                self._write(group)
            if time.monotonic() >= look_at:
                look_at = time.monotonic() + self._keep_up()

    def _next_group(self, *, wait_s: float) -> list[tuple[Write[Any], Future[Any]]] | None:
        """Wait for writes: none after `wait_s`, None after `close`."""
        try:
            first = self._waiting.get(timeout=max(0.0, wait_s))
        except queue.Empty:
            return []
        if first is None:
            return None
        group = [first]
        while len(group) < GROUP_MAX and not self._waiting.empty():
            following = self._waiting.get()
            if following is None:
                self._waiting.put(None)
                break
            group.append(following)
        return group

    def _keep_up(self) -> float:
        try:
            with translated_errors():
                return keep_up(self._connection, now=self._clock.now())
        except FashionError as error:
            _log.warning("the queue file was not swept: %s", error)
            return PERIOD_S

    def _write(self, group: list[tuple[Write[Any], Future[Any]]]) -> None:
        outcomes: list[Callable[[], None]] = []
        try:
            with translated_errors(), transaction(self._connection):
                outcomes = [self._attempt(write, future) for write, future in group]
        except FashionError as error:
            outcomes = [partial(future.set_exception, error) for _, future in group]
        for resolve in outcomes:
            resolve()

    def _attempt(self, write: Write[Any], future: Future[Any]) -> Callable[[], None]:
        self._connection.execute("SAVEPOINT one")
        try:
            value = write(self._connection)
        except OWN_FAULTS as error:
            self._connection.execute("ROLLBACK TO one")
            self._connection.execute("RELEASE one")
            return partial(future.set_exception, error)
        self._connection.execute("RELEASE one")
        return partial(future.set_result, value)
