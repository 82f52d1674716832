"""The embedded broker itself."""

from __future__ import annotations

import sqlite3
import threading
import time
from concurrent.futures import Future
from functools import partial
from pathlib import Path

from handoff.brokers.embedded import statements, upkeep
from handoff.brokers.embedded.clock import FileClock
from handoff.brokers.embedded.consumer import EmbeddedSubscription
from handoff.brokers.embedded.database import make_schema, open_connection, translated_errors
from handoff.brokers.embedded.writer import Writer
from handoff.brokers.window import Window
from handoff.contracts.protocols import Backlog, Limits, Message
from handoff.contracts.topology import SubscriptionSpec, Topology


class EmbeddedBroker:
    """Topics and subscriptions in one SQLite file; `open` makes one."""

    def __init__(self, path: Path, *, writer: Writer, clock: FileClock) -> None:
        self._path = path
        self._writer = writer
        self._clock = clock
        self._subscriptions: list[EmbeddedSubscription] = []
        self._lock = threading.Lock()

    @classmethod
    def open(cls, path: Path) -> EmbeddedBroker:
        """Open the queue file, making it where it is missing.

        Raises: SettingsInvalid: it cannot be made there; BrokerUnavailable
        """
        clock = make_schema(path)
        writer = Writer(open_connection(path, flush=True), clock=clock)
        writer.start()
        return cls(path, writer=writer, clock=clock)

    def publish(self, topic: str, message: Message) -> Future[str]:
        """Publish a message; the future holds its id once it is on the disk."""
        return self._writer.submit(
            lambda connection: statements.publish(connection, topic, message, now=self._clock.now(), date=time.time())
        )

    def subscribe(self, subscription: SubscriptionSpec, limits: Limits) -> EmbeddedSubscription:
        """Join a subscription's workers."""
        if subscription.temporary:
            declare = partial(statements.declare_subscription, spec=subscription, now=self._clock.now())
            self._writer.submit(declare).result()
        connection = open_connection(self._path, flush=False)
        try:
            with translated_errors():
                subscription_id = statements.subscription_id(connection, subscription.name)
        except BaseException:
            connection.close()
            raise
        joined = EmbeddedSubscription(
            subscription,
            connection=connection,
            writer=self._writer,
            clock=self._clock,
            window=Window(limits),
            subscription_id=subscription_id,
        )
        joined.start()
        with self._lock:
            self._subscriptions.append(joined)
        return joined

    def declare(self, topology: Topology) -> list[str]:
        """Create the topics and subscriptions that are missing; a sentence for each."""
        return self._writer.submit(partial(_declare, topology=topology, now=self._clock.now())).result()

    def backlog(self, subscription: SubscriptionSpec) -> Backlog:
        """Count what is unacked, and the age of the oldest of it."""
        connection = open_connection(self._path, flush=False)
        try:
            with translated_errors():
                subscription_id = statements.subscription_id(connection, subscription.name)
                return statements.backlog(connection, subscription_id, now=self._clock.now(), date=time.time())
        finally:
            connection.close()

    def sweep(self, *, dry_run: bool = False) -> int:
        """Remove the deliveries over their retention, and give their space back; how many there were."""
        connection, now = open_connection(self._path, flush=True), self._clock.now()
        try:
            with translated_errors():
                count = statements.over_retention(connection, now=now)
                if not dry_run:
                    upkeep.finish(connection, now=now)
                return count
        finally:
            connection.close()

    def close(self) -> None:
        """Write what was published and acked, give back what is still held, close the file."""
        with self._lock:
            subscriptions, self._subscriptions = self._subscriptions, []
        for subscription in subscriptions:
            subscription.finish()
        self._writer.close()


def _declare(connection: sqlite3.Connection, *, topology: Topology, now: float) -> list[str]:
    topics = [f"Created topic {name}." for name in topology.topics if statements.declare_topic(connection, name)]
    return topics + [
        f"Created subscription {spec.name} on topic {spec.topic}."
        for spec in topology.subscriptions
        if statements.declare_subscription(connection, spec, now=now)
    ]
