"""What nobody waits for: sweeping the queue file and giving its free space back, in pieces of some 10 ms.

Any number of processes share one schedule, a row in the file, so that more workers make no more of it.
"""

from __future__ import annotations

import sqlite3
import time

from handoff.brokers.embedded import statements
from handoff.brokers.embedded.clock import UPKEEP_PERIOD_S
from handoff.brokers.embedded.database import transaction

PERIOD_S = UPKEEP_PERIOD_S

# Between two pieces while there is more to do: a tenth of the file's time at most.
PAUSE_S = 0.1
# The same while a person waits for the end of it.
FINISHING_PAUSE_S = 0.005

# Free pages of 4 KiB that stay for the next backlog: 16 MiB.
SPARE_PAGES = 4_096

# A free page at the file's end is cut off in ~10 µs; one in use is moved in ~0.5 ms, which the deadline is for.
PIECE_PAGES = 1_000
PIECE_S = 0.005

# A file of version 1 cannot give space back before it was written anew: once, when at most 2 MiB are in use (~15 ms).
REWRITTEN_PAGES = 512


def keep_up(connection: sqlite3.Connection, *, now: float) -> float:
    """Do one piece if it is due; the seconds until another look is worth while."""
    wait_s = _due_in(connection, now)
    if wait_s > 0:
        return wait_s
    with transaction(connection):
        wait_s = _due_in(connection, now)
        if wait_s > 0:  # another process was faster
            return wait_s
        more = _do_piece(connection, now=now)
        pause_s = PAUSE_S if more else PERIOD_S
        connection.execute("UPDATE upkeep SET due_at = ?", (now + pause_s,))
    if not more:
        _rewrite(connection)
    return pause_s


def finish(connection: sqlite3.Connection, *, now: float) -> None:
    """Do all of it at once, whatever the schedule, with pauses that let others write."""
    more = True
    while more:
        with transaction(connection):
            more = _do_piece(connection, now=now)
        time.sleep(FINISHING_PAUSE_S)
    _rewrite(connection)


def _do_piece(connection: sqlite3.Connection, *, now: float) -> bool:
    return statements.sweep(connection, now=now) or _give_back(connection)


def _due_in(connection: sqlite3.Connection, now: float) -> float:
    wait_s = float(connection.execute("SELECT due_at FROM upkeep").fetchone()[0]) - now
    return wait_s if wait_s <= PERIOD_S else 0.0  # a program of version 2, whose calendar jumped


def _give_back(connection: sqlite3.Connection) -> bool:
    """Cut free pages off the file's end; True when there are more."""
    if not _figure(connection, "auto_vacuum"):
        return False
    deadline = time.monotonic() + PIECE_S
    for _ in range(PIECE_PAGES):
        if _figure(connection, "freelist_count") <= SPARE_PAGES:
            return False
        connection.execute("PRAGMA incremental_vacuum(1)")
        if time.monotonic() > deadline:
            break
    return True


def _rewrite(connection: sqlite3.Connection) -> None:
    free = _figure(connection, "freelist_count")
    in_use = _figure(connection, "page_count") - free
    if not _figure(connection, "auto_vacuum") and free > SPARE_PAGES and in_use <= REWRITTEN_PAGES:
        connection.execute("VACUUM")


def _figure(connection: sqlite3.Connection, name: str) -> int:
    return int(connection.execute(f"PRAGMA {name}").fetchone()[0])
