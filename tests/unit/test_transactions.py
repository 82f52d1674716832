"""A transaction ends whole or not at all, and what went wrong is what is told."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing

import pytest

from handoff.transactions import committed

SCHEMA = """
PRAGMA foreign_keys = ON;
CREATE TABLE place (name TEXT PRIMARY KEY);
CREATE TABLE thing (place TEXT REFERENCES place (name) DEFERRABLE INITIALLY DEFERRED);
INSERT INTO place VALUES ('here');
"""


@pytest.fixture
def connection() -> Iterator[sqlite3.Connection]:
    """A database with a place in it, in a transaction."""
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as connection:
        connection.executescript(SCHEMA)
        connection.execute("BEGIN")
        yield connection


def things(connection: sqlite3.Connection) -> int:
    """How many things there are, once no transaction is open."""
    assert not connection.in_transaction
    return int(connection.execute("SELECT count(*) FROM thing").fetchone()[0])


def test_a_block_that_ends_well_is_committed(connection: sqlite3.Connection) -> None:
    """All of it."""
    with committed(connection):
        connection.execute("INSERT INTO thing VALUES ('here')")
    assert things(connection) == 1


def test_a_block_that_fails_is_undone(connection: sqlite3.Connection) -> None:
    """All of it."""
    connection.execute("INSERT INTO thing VALUES ('here')")
    with pytest.raises(KeyError, match="mine"), committed(connection):
        raise KeyError("mine")
    assert things(connection) == 0


def test_a_commit_that_fails_leaves_nothing_open(connection: sqlite3.Connection) -> None:
    """What comes next begins anew."""
    with pytest.raises(sqlite3.IntegrityError, match="FOREIGN KEY"), committed(connection):
        connection.execute("INSERT INTO thing VALUES ('nowhere')")
    assert things(connection) == 0


def test_a_statement_that_ended_the_transaction_is_what_is_told(connection: sqlite3.Connection) -> None:
    """Not that there was nothing left to roll back."""
    connection.execute("INSERT INTO thing VALUES ('here')")
    with pytest.raises(sqlite3.IntegrityError, match="UNIQUE"), committed(connection):
        connection.execute("INSERT OR ROLLBACK INTO place VALUES ('here')")
    assert things(connection) == 0
