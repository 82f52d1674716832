"""`fashion request` with a flaw, for tests: `mortal_request.py LOG FLAW COUNT ARGUMENTS…`.

The process kills itself when it comes to a step for the COUNT-th time, or loses the first COUNT responses; the ids of
what it publishes are appended to LOG.
"""

from __future__ import annotations

import itertools
import os
import signal
import sys
from collections.abc import Iterator
from concurrent.futures import Future
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from fashion_client import client
from fashion_client.journal import Journal
from fashion_client.make_analysis_requests import command
from handoff.brokers.urls import open_broker
from handoff.contracts.messages import AnalysisResponse
from handoff.contracts.protocols import Broker, Delivery, Limits, Message, Store, Subscription
from handoff.contracts.topology import SubscriptionSpec, Topology
from handoff.progress import Progress
from handoff.stores.urls import open_store

STEPS = ("before-upload", "before-publish", "after-publish", "before-commit", "before-show")


class Flaw:
    """Strikes at the `count`-th time that its step is come to."""

    def __init__(self, step: str, count: int) -> None:
        self.step = step
        self.count = count
        self._times = itertools.count(1)

    def come_to(self, step: str) -> None:
        """Come to a step, and perhaps not past it."""
        if step == self.step and next(self._times) == self.count:
            os.kill(os.getpid(), signal.SIGKILL)


class LosingSubscription:
    """Acks the first deliveries unseen."""

    def __init__(self, subscription: Subscription, count: int) -> None:
        self._subscription = subscription
        self._count = count
        self.close = subscription.close

    def __iter__(self) -> Iterator[Delivery]:
        for number, delivery in enumerate(self._subscription):
            if number < self._count:
                delivery.ack()
            else:
                yield delivery


class MortalBroker:
    """A broker connection whose process may not survive a publication."""

    def __init__(self, broker: Broker, flaw: Flaw, log: Path) -> None:
        self._broker = broker
        self._flaw = flaw
        self._log = log
        self.close = broker.close

    def publish(self, topic: str, message: Message) -> Future[str]:
        """Publish; the broker has it when this returns."""
        self._flaw.come_to("before-publish")
        with self._log.open("a", encoding="utf-8") as log:
            log.write(f"{message.key}\n")
        published = self._broker.publish(topic, message)
        published.result(60)
        self._flaw.come_to("after-publish")
        return published

    def subscribe(self, subscription: SubscriptionSpec, limits: Limits) -> Subscription:
        """Subscribe."""
        joined = self._broker.subscribe(subscription, limits)
        return LosingSubscription(joined, self._flaw.count) if self._flaw.step == "lose" else joined


class MortalStore:
    """A store connection whose process may not survive an upload."""

    def __init__(self, store: Store, flaw: Flaw) -> None:
        self._store = store
        self._flaw = flaw
        self.root, self.read = store.root, store.read

    def create(self, uri: str, data: bytes) -> bool:
        """Write an object."""
        self._flaw.come_to("before-upload")
        return self._store.create(uri, data)


def main(log: str, step: str, count: str, *arguments: str) -> None:
    """Run the console."""
    flaw = Flaw(step, int(count))
    answer, write = Journal.answer, Progress.write

    def connect(url: str, topology: Topology) -> MortalBroker:
        return MortalBroker(open_broker(url, topology), flaw, Path(log))

    def mortal_answer(journal: Journal, response: AnalysisResponse) -> bool:
        flaw.come_to("before-commit")
        return answer(journal, response)

    def mortal_write(progress: Progress, line: str) -> None:
        flaw.come_to("before-show")
        write(progress, line)

    client.open_broker = connect  # type: ignore[assignment]
    client.open_store = lambda url: MortalStore(open_store(url), flaw)  # type: ignore[assignment,return-value]
    Journal.answer = mortal_answer  # type: ignore[method-assign]
    Progress.write = mortal_write  # type: ignore[method-assign]
    command.main(list(arguments))


if __name__ == "__main__":
    main(*sys.argv[1:])
