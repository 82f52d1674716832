"""Connections to the queue file, its schema, and SQLite's errors in this project's words."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from handoff.contracts.errors import BrokerUnavailable, SettingsInvalid

# Longer than any transaction here can take; a writer waits this long for the others before it gives up.
BUSY_TIMEOUT_S = 30.0

# Stored in the file; another number means a file of another version of this project.
SCHEMA_VERSION = 1

SCHEMA = """
CREATE TABLE IF NOT EXISTS topic (
    name TEXT PRIMARY KEY
) WITHOUT ROWID;

CREATE TABLE IF NOT EXISTS subscription (
    id INTEGER PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    topic TEXT NOT NULL REFERENCES topic (name),
    retention_s REAL NOT NULL,
    only_client_id TEXT,
    expires_at REAL
);

CREATE TABLE IF NOT EXISTS message (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    topic TEXT NOT NULL,
    key TEXT,
    attributes TEXT NOT NULL,
    body BLOB NOT NULL,
    published_at REAL NOT NULL,
    unacked_count INTEGER NOT NULL
);

CREATE TABLE IF NOT EXISTS delivery (
    subscription_id INTEGER NOT NULL,
    message_id INTEGER NOT NULL,
    due_at REAL NOT NULL,
    attempt INTEGER NOT NULL,
    lease TEXT,
    PRIMARY KEY (subscription_id, message_id)
) WITHOUT ROWID;

CREATE INDEX IF NOT EXISTS delivery_due ON delivery (subscription_id, due_at, message_id);

CREATE TRIGGER IF NOT EXISTS delivery_ended AFTER DELETE ON delivery BEGIN
    UPDATE message SET unacked_count = unacked_count - 1 WHERE id = OLD.message_id;
    DELETE FROM message WHERE id = OLD.message_id AND unacked_count = 0;
END;
"""


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
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
    except BaseException:
        connection.execute("ROLLBACK")
        raise
    connection.execute("COMMIT")


def open_connection(path: Path, *, flush: bool) -> sqlite3.Connection:
    """Open the queue file for one thread; with `flush`, a commit returns when the disk has it.

    Write-ahead logging is sound at any power cut in both modes; without `flush` the last commits may be missing.
    """
    with translated_errors():
        connection = sqlite3.connect(path, timeout=BUSY_TIMEOUT_S, isolation_level=None, check_same_thread=False)
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute(f"PRAGMA synchronous = {'FULL' if flush else 'NORMAL'}")
        return connection


def make_schema(path: Path) -> None:
    """Make the queue file and its tables where they are missing.

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
    finally:
        connection.close()


def _make_tables(connection: sqlite3.Connection, path: Path) -> None:
    if _version(connection) == SCHEMA_VERSION:
        return
    with transaction(connection):
        version = _version(connection)  # another process may have been faster
        if version == SCHEMA_VERSION:
            return
        if version:
            raise SettingsInvalid(f"The queue file {path} was made by another version ({version}); name another file.")
        if connection.execute("SELECT 1 FROM sqlite_master").fetchone():
            raise SettingsInvalid(f"The file {path} is another program's database; name another.")
        for statement in SCHEMA.split(";\n\n"):
            connection.execute(statement)
        connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")


def _version(connection: sqlite3.Connection) -> int:
    return int(connection.execute("PRAGMA user_version").fetchone()[0])
