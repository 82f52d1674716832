"""A worker that ends itself with SIGKILL at a named point of its first request's way: `dying_worker.py POINT …`.

Points: `before-storing`, `between-objects`, `before-publishing`, `before-ack`; or `poisoned`: only a request whose id
begins with `poison` kills, as soon as it is delivered. What follows is the worker's own command line.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from concurrent.futures import Future
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from handoff.brokers.urls import open_broker
from handoff.contracts.protocols import Broker, Delivery, Limits, Message, Store, Subscription
from handoff.contracts.topology import SubscriptionSpec, Topology
from handoff.stores.urls import open_store
from ml_server import assembly
from ml_server.image_classification_service import command

POINTS = ("before-storing", "between-objects", "before-publishing", "before-ack")
RESPONSES = "responses"


class DyingStore:
    """A store whose user dies before one of its objects is written."""

    def __init__(self, store: Store, *, before: str) -> None:
        self._before = before
        self._store = store
        self.root = store.root
        self.read, self.list, self.delete, self.declare = store.read, store.list, store.delete, store.declare

    def create(self, uri: str, data: bytes) -> bool:
        """Write an object, or die."""
        if self._before and uri.endswith(self._before):
            die()
        return self._store.create(uri, data)


class DyingBroker:
    """A broker connection whose user dies before a response is published, or before an ack."""

    def __init__(self, broker: Broker, *, point: str) -> None:
        self._broker = broker
        self._point = point
        self.declare, self.backlog, self.close = broker.declare, broker.backlog, broker.close

    def publish(self, topic: str, message: Message) -> Future[str]:
        """Publish, or die."""
        if self._point == "before-publishing" and topic.startswith(RESPONSES):
            die()
        return self._broker.publish(topic, message)

    def subscribe(self, subscription: SubscriptionSpec, limits: Limits) -> Subscription:
        """Subscribe, with deliveries that cannot be acked where that is the point."""
        joined = self._broker.subscribe(subscription, limits)
        match self._point:
            case "before-ack":
                return DyingSubscription(joined)
            case "poisoned":
                return PoisonedSubscription(joined)
        return joined


class DyingSubscription:
    """A subscription whose deliveries end their worker when they are acked."""

    def __init__(self, subscription: Subscription) -> None:
        self._subscription = subscription
        self.close = subscription.close

    def __iter__(self) -> Iterator[Delivery]:
        for delivery in self._subscription:
            yield DyingDelivery(delivery)


class PoisonedSubscription:
    """A subscription of which some deliveries end their worker."""

    def __init__(self, subscription: Subscription) -> None:
        self._subscription = subscription
        self.close = subscription.close

    def __iter__(self) -> Iterator[Delivery]:
        for delivery in self._subscription:
            if b'"request_id":"poison' in delivery.message.body:
                die()
            yield delivery


class DyingDelivery:
    """A delivery that ends its worker when it is acked."""

    def __init__(self, delivery: Delivery) -> None:
        self.message, self.attempt, self.nack = delivery.message, delivery.attempt, delivery.nack

    def ack(self) -> None:
        """Die."""
        die()


def die() -> None:
    """End this process as the kernel would that has no memory left."""
    os.kill(os.getpid(), signal.SIGKILL)


def main() -> None:
    """Run the worker's console with a store and a broker that know the point."""
    point = sys.argv.pop(1)
    before = {"before-storing": "predictions.csv", "between-objects": "response.json"}.get(point, "")

    def dying_store(url: str) -> DyingStore:
        return DyingStore(open_store(url), before=before)

    def dying_broker(url: str, topology: Topology) -> DyingBroker:
        return DyingBroker(open_broker(url, topology), point=point)

    assembly.open_store = dying_store  # type: ignore[assignment]
    assembly.open_broker = dying_broker  # type: ignore[assignment]
    command(prog_name="dying-worker")


if __name__ == "__main__":
    main()
