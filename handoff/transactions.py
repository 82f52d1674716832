"""The end of a SQLite transaction, however it came about."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def committed(connection: sqlite3.Connection) -> Iterator[None]:
    """Commit the transaction that has begun when the block ends, or undo all of it."""
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:  # a full disk ends it in some statements, and leaves it open in others
            connection.execute("ROLLBACK")
        raise
