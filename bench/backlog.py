"""What a long backlog costs the embedded broker: `python bench/backlog.py [MESSAGES ...]` prints a column a backlog.

Each figure is the median time of one operation, in milliseconds, while so many messages wait in the file.
"""

from __future__ import annotations

import sqlite3
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from handoff.brokers.embedded import statements
from handoff.brokers.embedded.database import make_schema, open_connection, transaction
from handoff.brokers.embedded.upkeep import PERIOD_S, keep_up
from handoff.contracts.protocols import Message
from handoff.contracts.topology import Topology

BACKLOGS = (1_000, 1_000_000)
REPETITIONS = 25
GROUP = 256
CLAIMED = 64
TOPOLOGY = Topology()
# A request as clients publish it has some 400 bytes of each.
MESSAGE = Message(b"x" * 400, {"ce-id": "y" * 380, "ce-imagecount": "100"})
HELD_S = 1_000.0


def median_ms(run: Callable[[], object]) -> float:
    """The median time of one call."""
    times = []
    for _ in range(REPETITIONS):
        started_at = time.perf_counter()
        run()
        times.append(time.perf_counter() - started_at)
    return statistics.median(times) * 1e3


class Queue:
    """A queue file with the usual subscriptions, each operation a transaction as the broker makes it."""

    def __init__(self, path: Path) -> None:
        make_schema(path)
        self._path = path
        self._connection = open_connection(path, flush=True)
        for topic in TOPOLOGY.topics:
            statements.declare_topic(self._connection, topic)
        for spec in TOPOLOGY.subscriptions:
            statements.declare_subscription(self._connection, spec, now=time.time())
        self._id = statements.subscription_id(self._connection, TOPOLOGY.requests.name)
        self._claims: list[int] = []

    def publish(self, count: int = GROUP) -> None:
        """Publish so many in one group."""
        with transaction(self._connection):
            for _ in range(count):
                statements.publish(
                    self._connection, TOPOLOGY.requests_topic, MESSAGE, now=time.time(), date=time.time()
                )

    def claim(self) -> int:
        """Take what a worker holds."""
        now = time.time()
        with transaction(self._connection):
            claims = statements.claim(self._connection, self._id, most=CLAIMED, lease="l", until=now + HELD_S, now=now)
        self._claims += [claim.message_id for claim in claims]
        return len(claims)

    def extend(self) -> None:
        """Prolong the leases of what one worker holds."""
        leases = [(message_id, "l") for message_id in self._claims[-CLAIMED:]]
        with transaction(self._connection):
            statements.extend(self._connection, self._id, leases, until=time.time() + HELD_S)

    def nack(self) -> None:
        """Give as much back."""
        self._end(lambda connection, message_id: statements.nack(
            connection, self._id, message_id, lease="l", due_at=time.time(), unseen=False
        ))  # fmt: skip

    def ack(self) -> None:
        """End as much."""
        self._end(lambda connection, message_id: statements.ack(connection, self._id, message_id, lease="l"))

    def backlog(self) -> object:
        """Ask how much waits."""
        return statements.backlog(self._connection, self._id, now=time.time(), date=time.time())

    def next_due_at(self) -> object:
        """Ask whether something is due."""
        return statements.next_due_at(self._connection, self._id)

    def sweep(self) -> None:
        """Look for what is over its retention."""
        with transaction(self._connection):
            statements.sweep(self._connection, now=time.time())

    def keep_up(self) -> list[float]:
        """Give back what the file does not need, piece by piece without the pauses; the time of each."""
        times, now, wait_s = [], time.time() + PERIOD_S, 0.0
        while wait_s < PERIOD_S:
            started_at = time.perf_counter()
            wait_s = keep_up(self._connection, now=now)
            times.append((time.perf_counter() - started_at) * 1e3)
            now += wait_s
        return times

    def sizes(self) -> str:
        """The file and its log, in MB."""
        log = self._path.with_name(self._path.name + "-wal")
        return f"{self._path.stat().st_size / 1e6:,.1f} + {log.stat().st_size / 1e6:,.1f}"

    def close(self) -> None:
        """Close the file."""
        self._connection.close()

    def _end(self, end: Callable[[sqlite3.Connection, int], None]) -> None:
        with transaction(self._connection):
            for message_id in self._claims[-CLAIMED:]:
                end(self._connection, message_id)
        del self._claims[-CLAIMED:]


def column(path: Path, waiting: int) -> dict[str, str]:
    """Measure every operation with so many messages waiting, then work them off."""
    queue = Queue(path)
    started_at = time.perf_counter()
    for _ in range(waiting // GROUP):
        queue.publish()
    found = {"waiting": f"{waiting:,}", "filling, s": f"{time.perf_counter() - started_at:,.1f}"}
    operations = [queue.publish, queue.claim, queue.extend, queue.nack, queue.claim, queue.ack]
    for operation in [*operations, queue.backlog, queue.next_due_at, queue.sweep]:
        found[f"{operation.__name__}, ms"] = f"{median_ms(operation):,.3f}"
    found["file + log, MB"] = queue.sizes()
    started_at = time.perf_counter()
    while queue.claim():
        queue.ack()
    found["working off, s"] = f"{time.perf_counter() - started_at:,.1f}"
    found["file + log then, MB"] = queue.sizes()
    pieces = queue.keep_up()
    found["pieces of upkeep"] = f"{len(pieces):,}"
    found["median / longest, ms"] = f"{statistics.median(pieces):,.1f} / {max(pieces):,.1f}"
    found["file + log at last, MB"] = queue.sizes()
    queue.close()
    return found


def main() -> None:
    """Measure and print."""
    backlogs = [int(text) for text in sys.argv[1:]] or BACKLOGS
    with tempfile.TemporaryDirectory() as folder:
        columns = [column(Path(folder) / f"{waiting}.db", waiting) for waiting in backlogs]
    for name in columns[0]:
        print(f"{name:<22}" + "".join(f"{found[name]:>18}" for found in columns))


if __name__ == "__main__":
    main()
