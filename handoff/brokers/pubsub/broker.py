"""The Pub/Sub broker itself."""

from __future__ import annotations

import logging
import threading
from concurrent.futures import Future
from functools import partial

from google.api_core.exceptions import NotFound, PermissionDenied
from google.cloud.pubsub_v1 import SubscriberClient

from handoff.brokers.pubsub.calls import ATTEMPT_S, CALL_RETRY, translated
from handoff.brokers.pubsub.declaration import Declaration
from handoff.brokers.pubsub.monitoring import Monitoring
from handoff.brokers.pubsub.publisher import Publisher
from handoff.brokers.pubsub.subscription import PulledSubscription
from handoff.contracts.errors import FashionError
from handoff.contracts.protocols import UNKNOWN_BACKLOG, Backlog, Limits, Message
from handoff.contracts.topology import SubscriptionSpec, Topology

_log = logging.getLogger(__name__)


class PubsubBroker:
    """Topics and subscriptions of one Google Cloud project."""

    def __init__(
        self, project: str, *, publisher: Publisher, subscriber: SubscriberClient, monitoring: Monitoring | None
    ) -> None:
        self._project = project
        self._publisher = publisher
        self._subscriber = subscriber
        self._monitoring = monitoring
        self._declaration = Declaration(project, publisher=publisher.client, subscriber=subscriber)
        self._subscriptions: list[PulledSubscription] = []
        self._lock = threading.Lock()
        self._closed = False

    def publish(self, topic: str, message: Message) -> Future[str]:
        """Publish a message, together with others that came while the last call was under way."""
        return self._publisher.publish(topic, message)

    def subscribe(self, subscription: SubscriptionSpec, limits: Limits) -> PulledSubscription:
        """Join a subscription's workers."""
        path = self._subscriber.subscription_path(self._project, subscription.name)
        create = partial(self._declaration.create_temporary, subscription)
        if subscription.temporary:
            create()
        joined = PulledSubscription(
            self._subscriber,
            path=path,
            limits=limits,
            ack_deadline_s=self._ack_deadline_s(path, subscription),
            only_client_id=subscription.only_client_id,
            create=create if subscription.temporary else None,
            discard=partial(self._delete, path) if subscription.temporary else None,
        )
        joined.start()
        with self._lock:
            self._subscriptions.append(joined)
        return joined

    def declare(self, topology: Topology) -> list[str]:
        """Create what is missing and correct what differs."""
        return self._declaration.declare(topology)

    def backlog(self, subscription: SubscriptionSpec) -> Backlog:
        """Say how much waits, as of two to three minutes ago; None on the emulator."""
        if self._monitoring is None:
            return UNKNOWN_BACKLOG
        return self._monitoring.backlog(subscription.name)

    def close(self) -> None:
        """Give back what is held, send every ack, have every publication confirmed, hang up."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
        for subscription in self._subscriptions:
            subscription.finish()
        self._publisher.close()
        self._subscriber.close()

    def _ack_deadline_s(self, path: str, subscription: SubscriptionSpec) -> int:
        """The deadline that the service keeps, which may differ from ours; a worker's role need not let it look."""
        with translated(f"subscribe to {subscription.name}"):
            try:
                found = self._subscriber.get_subscription(subscription=path, retry=CALL_RETRY, timeout=ATTEMPT_S)
            except PermissionDenied:
                found = self._declaration.described(subscription)
        return int(found.ack_deadline_seconds)

    def _delete(self, path: str) -> None:
        """Remove a temporary subscription; where that fails, a day without a reader removes it."""
        try:
            with translated(f"delete {path}"):
                self._subscriber.delete_subscription(subscription=path, retry=CALL_RETRY, timeout=ATTEMPT_S)
        except FashionError as error:
            if not isinstance(error.__cause__, NotFound):
                _log.warning("left to expire: %s", error)
