"""What nobody waits for: sweeping the queue file, in pieces of some 10 ms.

Any number of processes share one schedule, a row in the file, so that more workers make no more of it.
"""

from __future__ import annotations

import sqlite3

from handoff.brokers.embedded import statements
from handoff.brokers.embedded.database import transaction

PERIOD_S = 60.0

# Between two pieces while there is more to do: a tenth of the file's time at most.
PAUSE_S = 0.1


def keep_up(connection: sqlite3.Connection, *, now: float) -> float:
    """Do one piece if it is due; the seconds until another look is worth while."""
    wait_s = _due_in(connection, now)
    if wait_s > 0:
        return wait_s
    with transaction(connection):
        wait_s = _due_in(connection, now)
        if wait_s > 0:  # another process was faster
            return wait_s
        more = statements.sweep(connection, now=now)
        pause_s = PAUSE_S if more else PERIOD_S
        connection.execute("UPDATE upkeep SET due_at = ?", (now + pause_s,))
    return pause_s


def _due_in(connection: sqlite3.Connection, now: float) -> float:
    wait_s = float(connection.execute("SELECT due_at FROM upkeep").fetchone()[0]) - now
    return wait_s if wait_s <= PERIOD_S else 0.0  # the clock jumped back
