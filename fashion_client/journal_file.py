"""The SQLite file behind a journal: made whole or not at all, one process at a time, its errors as sentences."""

from __future__ import annotations

import fcntl
import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import IO

import msgspec

from fashion_client.request_plan import Run
from handoff.contracts.errors import SettingsInvalid
from handoff.durability import flush_folder
from handoff.transactions import committed

# "fajo", so that no other program's database is taken for a journal; a higher version is a later program's.
APPLICATION_ID = 0x66616A6F
VERSION = 1

# Readers of a journal (this project's tools, sqlite3 by hand) hold nobody up for longer.
BUSY_TIMEOUT_S = 10.0

# Answered requests are many and looked for by their ids alone; the others are few, and are what a resumed run wants.
SCHEMA = (
    "CREATE TABLE run (run TEXT NOT NULL, request_count INTEGER)",
    """CREATE TABLE request (
        position INTEGER PRIMARY KEY,
        request_id TEXT NOT NULL UNIQUE,
        request TEXT NOT NULL,
        image_count INTEGER NOT NULL,
        state TEXT NOT NULL,
        publications INTEGER NOT NULL,
        published_at REAL,
        status TEXT,
        response TEXT
    )""",
    "CREATE INDEX unanswered ON request (position) WHERE state <> 'answered'",
)

_runs = msgspec.json.Decoder(Run)


def make_file(path: Path, run: Run) -> None:
    """Make a journal of a run; a crash leaves it whole, or an empty file.

    Raises: SettingsInvalid: it cannot be made, or another run's is there
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise SettingsInvalid(f"The folder of the journal {path} cannot be made: {error.strerror}.") from error
    with translated_errors(path), closing(connect(path)) as connection, transaction(connection):
        if not is_empty(connection):
            raise SettingsInvalid(f"{path} is there already; name another file as --journal.")
        for statement in SCHEMA:
            connection.execute(statement)
        connection.execute("INSERT INTO run VALUES (?, NULL)", (msgspec.json.encode(run).decode(),))
        connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        connection.execute(f"PRAGMA user_version = {VERSION}")
    flush_folder(path.parent)


def connect(path: Path, *, read_only: bool = False) -> sqlite3.Connection:
    """Open the file, changing nothing in it: it may be another program's."""
    name = f"{path.absolute().as_uri()}?mode={'ro' if read_only else 'rwc'}"
    return sqlite3.connect(name, uri=True, timeout=BUSY_TIMEOUT_S, isolation_level=None, check_same_thread=False)


def flush_commits(connection: sqlite3.Connection) -> None:
    """Let each commit return when the disk has it, and keep readers from waiting for it."""
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")


def read_run(connection: sqlite3.Connection, path: Path) -> Run:
    """Read whose journal a file is.

    Raises: SettingsInvalid: it is none, a later program's, or an empty one
    """
    if is_empty(connection):
        raise SettingsInvalid(f"{path} is empty: its run ended before the first request; begin it again.")
    found = [int(connection.execute(f"PRAGMA {name}").fetchone()[0]) for name in ("application_id", "user_version")]
    if found[0] != APPLICATION_ID:
        raise _no_journal(path)
    if found[1] != VERSION:
        raise SettingsInvalid(
            f"The journal {path} has version {found[1]}, this program knows {VERSION}; go on with the program it is of."
        )
    try:
        return _runs.decode(connection.execute("SELECT run FROM run").fetchone()[0])
    except (msgspec.MsgspecError, TypeError) as error:
        raise _no_journal(path) from error


def is_empty(connection: sqlite3.Connection) -> bool:
    """Say whether a file holds nothing yet."""
    return connection.execute("SELECT 1 FROM sqlite_master").fetchone() is None


@contextmanager
def translated_errors(path: Path) -> Iterator[None]:
    """Turn SQLite's errors into this project's."""
    try:
        yield
    except sqlite3.Error as error:
        if getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_NOTADB:
            raise _no_journal(path) from error
        raise SettingsInvalid(
            f"The journal {path} cannot be used ({error}); check that its disk has room and the file is writable."
        ) from error


@contextmanager
def transaction(connection: sqlite3.Connection) -> Iterator[None]:
    """Run statements as one write, whole or not at all."""
    connection.execute("BEGIN IMMEDIATE")
    with committed(connection):
        yield


def claim(path: Path) -> IO[bytes]:
    """Keep other processes from a journal until the file returned is given to `release`, or this process ends.

    Raises: SettingsInvalid: another process has it
    """
    lock_path = _lock_path(path)
    while True:
        try:
            lock_path.parent.mkdir(parents=True, exist_ok=True)
            file = lock_path.open("ab")
        except OSError as error:
            raise SettingsInvalid(f"The journal {path} cannot be locked: {error.strerror}.") from error
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # Whoever had it before may have removed the name in between.
            if os.fstat(file.fileno()).st_ino == lock_path.stat().st_ino:
                return file
        except FileNotFoundError:
            pass
        except OSError as error:
            file.close()
            raise SettingsInvalid(f"Another process is at work on {path}; wait for its end.") from error
        file.close()


def release(path: Path, file: IO[bytes]) -> None:
    """Let others have a journal."""
    _lock_path(path).unlink(missing_ok=True)
    file.close()


def _lock_path(path: Path) -> Path:
    return path.with_name(f"{path.name}.lock")


def _no_journal(path: Path) -> SettingsInvalid:
    return SettingsInvalid(f"{path} is no journal of `fashion request`; name another file as --journal.")
