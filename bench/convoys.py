"""Processes that write to one queue file: `python bench/convoys.py` prints how they get in each other's way.

For 1, 2 and 4 processes: messages a second together, the smallest share over the largest, and how long one waited for
the write lock. `consume` takes, answers and acks as workers do; `publish` waits for each message before the next.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from handoff.brokers.embedded import EmbeddedBroker, connect, database
from handoff.contracts.protocols import Limits, Message
from handoff.contracts.topology import Topology

PROCESSES = (1, 2, 4)
WAITING = 10_000
PUBLISHED = 500
LIMITS = Limits(max_in_flight=64)
TOPOLOGY = Topology()
MESSAGE = Message(b"x" * 400, {"ce-id": "y" * 380, "ce-imagecount": "1"})


@contextmanager
def measured_waits() -> Iterator[list[float]]:
    """Note how long each transaction waited to begin."""
    waits: list[float] = []
    begin = database._begin  # noqa: SLF001 - what is measured

    def timed(connection: object) -> None:
        started_at = time.perf_counter()
        begin(connection)  # type: ignore[arg-type]
        waits.append((time.perf_counter() - started_at) * 1e3)

    database._begin = timed  # type: ignore[assignment]  # noqa: SLF001
    yield waits
    database._begin = begin  # noqa: SLF001


def consume(broker: EmbeddedBroker) -> int:
    """Take, answer and ack until nothing waits."""
    subscription, count = broker.subscribe(TOPOLOGY.requests, LIMITS), 0

    def close_when_done() -> None:
        while broker.backlog(TOPOLOGY.requests).count:
            time.sleep(0.02)
        subscription.close()

    threading.Thread(target=close_when_done).start()
    for delivery in subscription:
        broker.publish(TOPOLOGY.responses_topic, MESSAGE)
        delivery.ack()
        count += 1
    return count


def publish(broker: EmbeddedBroker) -> int:
    """Publish one by one."""
    for _ in range(PUBLISHED):
        broker.publish(TOPOLOGY.requests_topic, MESSAGE).result()
    return PUBLISHED


KINDS: dict[str, Callable[[EmbeddedBroker], int]] = {"consume": consume, "publish": publish}


def take_part(kind: str, url: str) -> None:
    """One process: begin on a line from its parent, then print its figures."""
    with closing(connect(url, TOPOLOGY)) as broker, measured_waits() as waits:
        print("ready", flush=True)
        sys.stdin.readline()
        count = KINDS[kind](broker)
    print(json.dumps({"count": count, "longest_ms": max(waits, default=0.0)}), flush=True)


def measure(kind: str, process_count: int) -> str:
    """One row."""
    with tempfile.TemporaryDirectory() as folder:
        url = f"embedded://{folder}/queue.db"
        with closing(connect(url, TOPOLOGY)) as broker:
            for _ in range(WAITING if kind == "consume" else 0):
                broker.publish(TOPOLOGY.requests_topic, MESSAGE)
        command = [sys.executable, __file__, kind, url]
        processes = [
            subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
            for _ in range(process_count)
        ]
        for process in processes:
            process.stdout.readline()  # type: ignore[union-attr]
        started_at = time.perf_counter()
        for process in processes:
            print(file=process.stdin, flush=True)
        found = [json.loads(process.communicate()[0]) for process in processes]
        took_s = time.perf_counter() - started_at
    counts = [each["count"] for each in found]
    longest_ms = max(each["longest_ms"] for each in found)
    share = min(counts) / max(counts)
    return f"{kind:<9}{process_count:>10}{sum(counts) / took_s:>13,.0f}{share:>8.2f}{longest_ms:>12,.0f}"


def main() -> None:
    """Measure and print, or take part in a measurement."""
    if sys.argv[1:]:
        take_part(*sys.argv[1:])
        return
    print(f"{'':<9}{'processes':>10}{'messages/s':>13}{'share':>8}{'wait, ms':>12}")
    for kind in KINDS:
        for process_count in PROCESSES:
            print(measure(kind, process_count), flush=True)


if __name__ == "__main__":
    main()
