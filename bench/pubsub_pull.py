"""Unary pull against streaming pull, on the official emulator: throughput, fairness, leases.

    python bench/pubsub_pull.py          two minutes; docs/decisions/0001-unary-pull.md holds what it printed

Both sides take at most LIMIT messages at a time. A message of the fairness run stands for work of WORK_S on a worker
that does one thing at a time, as a worker with one inference thread does.
"""

from __future__ import annotations

import os
import sys
import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from google.cloud.pubsub_v1 import SubscriberClient
from google.cloud.pubsub_v1.subscriber.message import Message as StreamedMessage
from google.cloud.pubsub_v1.subscriber.scheduler import ThreadScheduler
from google.cloud.pubsub_v1.types import FlowControl

from handoff.brokers.urls import open_broker
from handoff.contracts.protocols import Broker, Limits, Message
from handoff.contracts.topology import Topology
from tests.servers import pubsub_emulator

PROJECT = "bench"
LIMIT = 5
WORK_S = 0.1
MESSAGES = 100
SMALL_MESSAGES = 10_000
ACK_DEADLINE_S = 10.0
# Work longer than two ack deadlines shows whether a lease is kept.
LONG_WORK_S = 25.0

Work = Callable[[str], None]
# Starts a subscriber that calls a function for each message and acks it after; leaving the context stops it.
Subscribe = Callable[[Topology, int, Work], AbstractContextManager[None]]


@contextmanager
def unary(topology: Topology, limit: int, work: Work) -> Iterator[None]:
    """Our adapter: pulls for the room there is, leases kept by its own thread."""
    broker = open_broker(f"pubsub://{PROJECT}", topology)
    subscription = broker.subscribe(topology.requests, Limits(max_in_flight=limit))
    worker = ThreadPoolExecutor(1)

    def serve(delivery: object) -> None:
        work(delivery.message.attributes["number"])  # type: ignore[attr-defined]
        delivery.ack()  # type: ignore[attr-defined]

    def iterate() -> None:
        for delivery in subscription:
            worker.submit(serve, delivery)

    thread = threading.Thread(target=iterate)
    thread.start()
    try:
        yield
    finally:
        subscription.close()
        thread.join()
        worker.shutdown(cancel_futures=True)
        broker.close()


@contextmanager
def streaming(topology: Topology, limit: int, work: Work) -> Iterator[None]:
    """The SDK's subscriber: a stream, flow control by its limits, leases kept by its leaser."""

    def serve(message: StreamedMessage) -> None:
        work(message.attributes["number"])
        message.ack()

    client = SubscriberClient()
    future = client.subscribe(
        client.subscription_path(PROJECT, topology.requests_subscription),
        serve,
        flow_control=FlowControl(max_messages=limit, max_lease_duration=3600),
        scheduler=ThreadScheduler(ThreadPoolExecutor(1)),
        await_callbacks_on_shutdown=True,
    )
    try:
        yield
    finally:
        future.cancel()
        future.result()
        client.close()


@contextmanager
def published(count: int) -> Iterator[tuple[Broker, Topology]]:
    """A topology of its own with so many messages waiting."""
    unique = uuid.uuid4().hex[:8]
    topology = Topology(
        requests_topic=f"requests-{unique}", requests_subscription=f"read-{unique}", ack_deadline_s=ACK_DEADLINE_S
    )
    broker = open_broker(f"pubsub://{PROJECT}", topology)
    broker.declare(topology)
    try:
        for future in [
            broker.publish(topology.requests_topic, Message(body=b"x", attributes={"number": str(number)}))
            for number in range(count)
        ]:
            future.result()
        yield broker, topology
    finally:
        broker.close()


class Tally:
    """Who did which message, how often."""

    def __init__(self, wanted: int, *, work_s: float) -> None:
        self._wanted = wanted
        self._work_s = work_s
        self._lock = threading.Lock()
        self.by_worker: Counter[int] = Counter()
        self.by_message: Counter[str] = Counter()
        self.done = threading.Event()

    def work(self, worker: int) -> Work:
        """What one worker does with a message."""

        def serve(number: str) -> None:
            if self._work_s:
                time.sleep(self._work_s)
            with self._lock:
                self.by_worker[worker] += 1
                self.by_message[number] += 1
                if len(self.by_message) == self._wanted:
                    self.done.set()

        return serve


def measure(subscribe: Subscribe, *, messages: int, workers: int, limit: int, work_s: float) -> tuple[float, Tally]:
    """Serve so many waiting messages; the seconds it took and who did what."""
    tally = Tally(messages, work_s=work_s)
    with published(messages) as (_, topology), ExitStack() as stack:
        began = time.perf_counter()
        for worker in range(workers):
            stack.enter_context(subscribe(topology, limit, tally.work(worker)))
        if not tally.done.wait(120):
            print(f"  only {len(tally.by_message)} of {messages} messages within 120 s")
        took = time.perf_counter() - began
        return took, tally


def main() -> None:
    """Run the three measurements for both ways, one after the other, and print a table."""
    with pubsub_emulator() as host:
        os.environ["PUBSUB_EMULATOR_HOST"] = host
        print("| measurement | unary | streaming |\n| --- | --- | --- |")
        rates, shares, leases = [], [], []
        for subscribe in (unary, streaming):
            took, _ = measure(subscribe, messages=SMALL_MESSAGES, workers=1, limit=1000, work_s=0)
            rates.append(f"{SMALL_MESSAGES / took:,.0f}")
            took, tally = measure(subscribe, messages=MESSAGES, workers=2, limit=LIMIT, work_s=WORK_S)
            ideal = MESSAGES * WORK_S / 2
            shares.append(f"{tally.by_worker[0]} : {tally.by_worker[1]}, {took:.1f} s (ideal {ideal:.1f} s)")
            _, tally = measure(subscribe, messages=2, workers=2, limit=1, work_s=LONG_WORK_S)
            leases.append(f"{sum(tally.by_message.values()) - 2}")
        print(f"| messages/s, one subscriber, limit 1,000, no work | {' | '.join(rates)} |")
        print(f"| share of two workers, limit {LIMIT}, {MESSAGES} messages of {WORK_S} s | {' | '.join(shares)} |")
        print(f"| duplicates of 2 messages of {LONG_WORK_S:.0f} s, 10 s ack deadline | {' | '.join(leases)} |")


if __name__ == "__main__":
    main()
