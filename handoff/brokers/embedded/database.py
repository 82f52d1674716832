"""Connections to the queue file, transactions on it, and SQLite's errors in this project's words."""

from __future__ import annotations

import random
import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from handoff.brokers.embedded import schema
from handoff.brokers.embedded.clock import FileClock, read_clock, set_clock
from handoff.contracts.errors import BrokerUnavailable, SettingsInvalid
from handoff.transactions import committed

# Longer than any transaction here can take; a writer waits this long for the others before it gives up.
BUSY_TIMEOUT_S = 30.0

# A writer that waits asks again this often, at random. SQLite itself would sleep ever longer, up to 100 ms, so that
# whoever just wrote writes again and the others are kept out (`bench/convoys.py`).
ASK_AGAIN_S = (0.0002, 0.001)

# What of the write-ahead log stays on the disk once all of it is in the file. A commit moves it there at every 4 MB, so
# only a larger transaction (a migration), or a reader stopped in the middle, lets it grow further for a time.
LOG_KEPT_BYTES = 16 * 1024 * 1024


@contextmanager
def translated_errors() -> Iterator[None]:
    """Turn SQLite's errors into this project's."""
    try:
        yield
    except sqlite3.Error as error:
        if getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_NOTADB:
            raise SettingsInvalid("What the broker URL names is no queue file; name another.") from error
        raise BrokerUnavailable(
            f"The queue file could not be used ({error}); check that its disk has room and the file is writable."
        ) from error


@contextmanager
def transaction(connection: sqlite3.Connection) -> Iterator[None]:
    """Run statements as one write, whole or not at all."""
    _begin(connection)
    with committed(connection):
        yield


def _begin(connection: sqlite3.Connection) -> None:
    give_up_at = time.monotonic() + BUSY_TIMEOUT_S
    connection.execute("PRAGMA busy_timeout = 0")
    try:
        while not _begun(connection, again=time.monotonic() < give_up_at):
            time.sleep(random.uniform(*ASK_AGAIN_S))  # noqa: S311 - no secret
    finally:
        connection.execute(f"PRAGMA busy_timeout = {BUSY_TIMEOUT_S * 1e3:.0f}")


def _begun(connection: sqlite3.Connection, *, again: bool) -> bool:
    try:
        connection.execute("BEGIN IMMEDIATE")
    except sqlite3.OperationalError as error:
        # The low byte says what the others say more exactly.
        if error.sqlite_errorcode & 0xFF == sqlite3.SQLITE_BUSY and again:
            return False
        raise
    return True


def open_connection(path: Path, *, flush: bool) -> sqlite3.Connection:
    """Open the queue file for one thread; with `flush`, a commit returns when the disk has it.

    Write-ahead logging is sound at any power cut in both modes; without `flush` the last commits may be missing.
    """
    with translated_errors():
        connection = sqlite3.connect(path, timeout=BUSY_TIMEOUT_S, isolation_level=None, check_same_thread=False)
        # First, for it is chosen with the file's first page: a file that can hand free pages back a few at a time.
        connection.execute("PRAGMA auto_vacuum = INCREMENTAL")
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute(f"PRAGMA journal_size_limit = {LOG_KEPT_BYTES}")
        connection.execute(f"PRAGMA synchronous = {'FULL' if flush else 'NORMAL'}")
        return connection


def make_schema(path: Path) -> FileClock:
    """Make the queue file and its tables where they are missing, or bring those of an older version up to date.

    What it returns is the file's time, set anew by the first program after a start of the machine.

    Raises: SettingsInvalid: not writable, or a file of something else; BrokerUnavailable
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise SettingsInvalid(f"The folder of the queue file {path} cannot be made: {error.strerror}.") from error
    connection = open_connection(path, flush=True)
    try:
        with translated_errors():
            _make_tables(connection, path)
            return _clock(connection)
    finally:
        connection.close()


def _make_tables(connection: sqlite3.Connection, path: Path) -> None:
    if _version(connection) == schema.VERSION:
        return
    with transaction(connection):
        version = _version(connection)  # another process may have been faster
        if version == schema.VERSION:
            return
        if version > schema.VERSION:
            raise SettingsInvalid(
                f"The queue file {path} was made by a later version ({version});"
                " update this program or name another file."
            )
        if version:
            schema.migrate(connection, version=version)
        elif connection.execute("SELECT 1 FROM sqlite_master").fetchone():
            raise SettingsInvalid(f"The file {path} is another program's database; name another.")
        else:
            schema.make(connection)
        connection.execute(f"PRAGMA user_version = {schema.VERSION}")


def _clock(connection: sqlite3.Connection) -> FileClock:
    if clock := read_clock(connection):
        return clock
    with transaction(connection):
        return read_clock(connection) or set_clock(connection)  # another process may have been faster


def _version(connection: sqlite3.Connection) -> int:
    return int(connection.execute("PRAGMA user_version").fetchone()[0])
