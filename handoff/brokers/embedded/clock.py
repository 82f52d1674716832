"""The queue file's own time, which no correction of the calendar moves.

It goes on with the machine's monotonic clock, which all processes share, and stands still while the machine is off or
suspended: no worker could keep its leases then. docs/decisions/0011-boot-clock.md has the reasons.
"""

from __future__ import annotations

import sqlite3
import time

from handoff.boot import boot_id

# The upkeep's schedule in the file lies at most so far ahead of the file's time.
UPKEEP_PERIOD_S = 60.0


class FileClock:
    """Seconds since the epoch where nothing was ever put right: for due times, leases and ages, not for people."""

    def __init__(self, *, started_at: float) -> None:
        """`started_at` is what this clock shows at the zero of the machine's."""
        self._started_at = started_at

    def now(self) -> float:
        """The file's time."""
        return self._started_at + time.monotonic()


def read_clock(connection: sqlite3.Connection) -> FileClock | None:
    """The file's clock, unless it has to be set first: in a new file, or after a start of the machine."""
    row = connection.execute("SELECT boot_id, started_at FROM clock").fetchone()
    if row is None:
        return None
    clock, this_boot = FileClock(started_at=row[1]), boot_id()
    if row[0] and this_boot:
        return clock if row[0] == this_boot else None
    # Where the system names no start, a clock that is behind what was scheduled by it has begun anew.
    behind = clock.now() < _last_schedule(connection) - UPKEEP_PERIOD_S
    return None if behind else clock


def set_clock(connection: sqlite3.Connection) -> FileClock:
    """Set the file's clock for this start of the machine, within the caller's transaction.

    Every delivery is due then, for no worker outlives its machine; and so that a wrong calendar at a start makes
    nothing old, the time in between does not count.
    """
    is_new = connection.execute("SELECT 1 FROM clock").fetchone() is None
    now = time.time() if is_new else max(_last_schedule(connection), _last_due(connection))
    started_at = now - time.monotonic()
    connection.execute("DELETE FROM clock")
    connection.execute("INSERT INTO clock VALUES (?, ?)", (boot_id(), started_at))
    return FileClock(started_at=started_at)


def _last_schedule(connection: sqlite3.Connection) -> float:
    return float(connection.execute("SELECT due_at FROM upkeep").fetchone()[0])


def _last_due(connection: sqlite3.Connection) -> float:
    # One look into the index a subscription, however long the backlog.
    row = connection.execute(
        "SELECT max((SELECT max(due_at) FROM delivery WHERE subscription_id = subscription.id)) FROM subscription"
    ).fetchone()
    return float(row[0] or 0.0)
