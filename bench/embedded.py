"""The embedded broker alone: `python bench/embedded.py` prints rates and the time from publish to delivery.

Source of the figures in docs/decisions/0002-embedded-broker.md.
"""

from __future__ import annotations

import sqlite3
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from handoff.brokers.urls import open_broker
from handoff.contracts.protocols import Broker, Limits, Message
from handoff.contracts.topology import Topology

MESSAGES = 5_000
COMMITS = 300
DELIVERIES = 100
LIMITS = Limits(max_in_flight=256)
TOPOLOGY = Topology()
MESSAGE = Message(b"x" * 300, {"ce-imagecount": "1"})


def seconds(run: Callable[[], None]) -> float:
    """Time one call."""
    started_at = time.perf_counter()
    run()
    return time.perf_counter() - started_at


def commit_ms(folder: Path, synchronous: str) -> float:
    """The median time of a commit of one row, with or without waiting for the disk."""
    connection = sqlite3.connect(folder / f"{synchronous}.db", isolation_level=None)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute(f"PRAGMA synchronous = {synchronous}")
    connection.execute("CREATE TABLE row (value INTEGER)")
    times = [seconds(lambda: connection.execute("INSERT INTO row VALUES (1)")) for _ in range(COMMITS)]  # type: ignore[arg-type, return-value]
    connection.close()
    return statistics.median(times) * 1e3


def publish_all(broker: Broker) -> None:
    """Publish at once, then wait for every message."""
    for published in [broker.publish(TOPOLOGY.requests_topic, MESSAGE) for _ in range(MESSAGES)]:
        published.result()


def publish_each(broker: Broker) -> None:
    """Wait for each message before the next."""
    for _ in range(MESSAGES):
        broker.publish(TOPOLOGY.requests_topic, MESSAGE).result()


def take(broker: Broker, count: int, on_message: Callable[[Message], None]) -> None:
    """Take and ack so many messages through a subscription of their own."""
    subscription = broker.subscribe(TOPOLOGY.requests, LIMITS)
    for number, delivery in enumerate(subscription, 1):
        on_message(delivery.message)
        delivery.ack()
        if number == count:
            subscription.close()


def latencies_ms(publisher: Broker, consumer: Broker) -> list[float]:
    """Publish every 30 ms to a waiting subscriber: the time from publish to delivery of each message."""
    found: list[float] = []

    def note(message: Message) -> None:
        found.append((time.perf_counter() - float(message.body)) * 1e3)

    waiting = threading.Thread(target=take, args=(consumer, DELIVERIES, note))
    waiting.start()
    for _ in range(DELIVERIES):
        time.sleep(0.03)
        publisher.publish(TOPOLOGY.requests_topic, Message(str(time.perf_counter()).encode()))
    waiting.join()
    return found


def main() -> None:
    """Measure and print."""
    with tempfile.TemporaryDirectory() as folder:
        for synchronous in ("FULL", "NORMAL"):
            print(f"commit, synchronous={synchronous}: {commit_ms(Path(folder), synchronous):.3f} ms")
        url = f"embedded://{folder}/queue.db"
        publisher, consumer = open_broker(url, TOPOLOGY), open_broker(url, TOPOLOGY)
        print(f"publish, in groups: {MESSAGES / seconds(lambda: publish_all(publisher)):,.0f} messages/s")
        print(f"publish, one by one: {MESSAGES / seconds(lambda: publish_each(publisher)):,.0f} messages/s")
        taken = seconds(lambda: take(consumer, 2 * MESSAGES, lambda _message: None))
        print(f"take and ack: {2 * MESSAGES / taken:,.0f} messages/s")
        times = latencies_ms(publisher, consumer)
        print(f"publish to delivery: median {statistics.median(times):.1f} ms, longest {max(times):.1f} ms")
        consumer.close()
        publisher.close()


if __name__ == "__main__":
    main()
