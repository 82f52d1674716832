"""Writing to a journal's file in groups: whoever gets the file commits what all wait for, with one flush."""

from __future__ import annotations

import sqlite3
import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from fashion_client.journal_file import transaction, translated_errors
from handoff.contracts.errors import FashionError, SettingsInvalid

Value = str | int | float | None


class Commits:
    """The one way to a journal's file; thread-safe."""

    def __init__(self, connection: sqlite3.Connection, path: Path) -> None:
        self._connection = connection
        self._path = path
        self._lock = threading.Lock()
        self._waiting: deque[_Write] = deque()

    def write(self, statement: str, *values: Value) -> bool:
        """Run a statement; when this returns the disk has it. Whether it changed anything.

        Raises: SettingsInvalid: the file cannot be used
        """
        write = self.note(statement, *values)
        with self._lock:
            if not write.is_done:
                self._write_waiting()
        if write.fault is not None:
            raise write.fault
        return write.row_count > 0

    def note(self, statement: str, *values: Value) -> _Write:
        """Let a statement run with those that come next."""
        write = _Write(statement, values)
        self._waiting.append(write)
        return write

    def flush(self) -> None:
        """Write what was only noted.

        Raises: SettingsInvalid: the file cannot be used
        """
        with self._lock:
            fault = self._write_waiting() if self._waiting else None
        if fault is not None:
            raise fault

    @contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        """Keep writers away, and see all that was noted before.

        Raises: SettingsInvalid: the file cannot be used
        """
        self.flush()
        with self._lock, translated_errors(self._path):
            yield self._connection

    def close(self) -> None:
        """Write what was only noted, and close the file."""
        try:
            self.flush()
        finally:
            with self._lock:
                self._connection.close()

    def _write_waiting(self) -> FashionError | None:
        group = [self._waiting.popleft() for _ in range(len(self._waiting))]
        fault: FashionError | None = SettingsInvalid(f"The journal {self._path} was not written: interrupted.")
        try:
            with translated_errors(self._path), transaction(self._connection):
                for write in group:
                    write.row_count = self._connection.execute(write.statement, write.values).rowcount
            fault = None
        except FashionError as error:
            fault = error
        finally:
            for write in group:
                write.is_done, write.fault = True, fault
        return fault


class _Write:
    """One statement on its way to the disk."""

    def __init__(self, statement: str, values: tuple[Value, ...]) -> None:
        self.statement = statement
        self.values = values
        self.is_done = False
        self.row_count = 0
        self.fault: FashionError | None = None
