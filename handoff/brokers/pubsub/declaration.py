"""Creating Pub/Sub topics and subscriptions, and bringing existing ones up to date."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

from google.api_core.exceptions import AlreadyExists, NotFound
from google.cloud.pubsub_v1 import PublisherClient, SubscriberClient
from google.pubsub_v1.types import DeadLetterPolicy, ExpirationPolicy, RetryPolicy, Subscription

from handoff.brokers.pubsub.calls import ATTEMPT_S, CALL_RETRY, translated
from handoff.brokers.pubsub.subscription import CLIENT_ID_ATTRIBUTE
from handoff.contracts.errors import SettingsInvalid
from handoff.contracts.topology import DAY_S, SubscriptionSpec, Topology

# What the service allows: https://cloud.google.com/pubsub/docs/reference/rest/v1/projects.subscriptions
_ACK_DEADLINE_S = (10, 600)
_RETENTION_S = (600, int(31 * DAY_S))
_BACKOFF_S = (0, 600)
_ATTEMPTS = (5, 100)
# The least the service allows for a subscription that nobody reads.
_EXPIRY_OF_TEMPORARY = timedelta(days=1)
_KEPT_UP_TO_DATE = (
    "ack_deadline_seconds",
    "message_retention_duration",
    "retry_policy",
    "dead_letter_policy",
    "expiration_policy",
)


class Declaration:
    """Creates what a topology names in one project."""

    def __init__(self, project: str, *, publisher: PublisherClient, subscriber: SubscriberClient) -> None:
        self._project = project
        self._publisher = publisher
        self._subscriber = subscriber

    def declare(self, topology: Topology) -> list[str]:
        """Create or correct every topic and lasting subscription; a sentence for each thing done."""
        done = [self._declare_topic(name) for name in topology.topics]
        done += [self._declare_subscription(spec) for spec in topology.subscriptions]
        return [sentence for sentence in done if sentence]

    def create_temporary(self, spec: SubscriptionSpec) -> None:
        """Create a subscription of one client's own, unless it is there."""
        self._create(self._subscriber.create_subscription, self.described(spec), f"create subscription {spec.name}")

    def described(self, spec: SubscriptionSpec) -> Subscription:
        """A subscription in the service's own words, its figures within what the service allows."""
        described = Subscription(
            name=self._subscriber.subscription_path(self._project, spec.name),
            topic=self._publisher.topic_path(self._project, spec.topic),
            ack_deadline_seconds=_within(_ACK_DEADLINE_S, spec.ack_deadline_s),
            message_retention_duration=timedelta(seconds=_within(_RETENTION_S, spec.retention_s)),
            # Without a time to live a lasting subscription never expires, however long nobody reads it.
            expiration_policy=ExpirationPolicy(ttl=_EXPIRY_OF_TEMPORARY) if spec.temporary else ExpirationPolicy(),
        )
        if spec.max_backoff_s:  # without a policy a message comes again at once
            described.retry_policy = RetryPolicy(
                minimum_backoff=timedelta(seconds=_within(_BACKOFF_S, spec.min_backoff_s)),
                maximum_backoff=timedelta(seconds=_within(_BACKOFF_S, spec.max_backoff_s)),
            )
        if spec.dead_letter_topic:
            described.dead_letter_policy = DeadLetterPolicy(
                dead_letter_topic=self._publisher.topic_path(self._project, spec.dead_letter_topic),
                max_delivery_attempts=_within(_ATTEMPTS, spec.max_attempts),
            )
        if spec.temporary:
            # Retention may not exceed the time to live.
            described.message_retention_duration = min(timedelta(seconds=spec.retention_s), _EXPIRY_OF_TEMPORARY)
        if spec.only_client_id:
            described.filter = f'attributes.{CLIENT_ID_ATTRIBUTE} = "{spec.only_client_id}"'
        return described

    def _declare_topic(self, name: str) -> str | None:
        request = {"name": self._publisher.topic_path(self._project, name)}
        created = self._create(self._publisher.create_topic, request, f"create topic {name}")
        return f"Created topic {name}." if created else None

    def _declare_subscription(self, spec: SubscriptionSpec) -> str | None:
        wanted = self.described(spec)
        with translated(f"look up subscription {spec.name}"):
            try:
                found = self._subscriber.get_subscription(subscription=wanted.name, retry=CALL_RETRY, timeout=ATTEMPT_S)
            except NotFound:
                found = None
        if found is None:
            created = self._create(self._subscriber.create_subscription, wanted, f"create subscription {spec.name}")
            return f"Created subscription {spec.name} on topic {spec.topic}." if created else None
        if (found.topic, found.filter) != (wanted.topic, wanted.filter):
            raise SettingsInvalid(
                f"The subscription {spec.name} reads {found.topic}, not {wanted.topic}; delete it or name another."
            )
        return self._update(spec.name, found, wanted)

    def _update(self, name: str, found: Subscription, wanted: Subscription) -> str | None:
        differing = [field for field in _KEPT_UP_TO_DATE if getattr(found, field) != getattr(wanted, field)]
        if not differing:
            return None
        with translated(f"update subscription {name}"):
            self._subscriber.update_subscription(
                subscription=wanted, update_mask={"paths": differing}, retry=CALL_RETRY, timeout=ATTEMPT_S
            )
        return f"Updated {', '.join(differing)} of subscription {name}."

    def _create(self, create: Callable[..., Any], request: object, what: str) -> bool:
        """Create something; False when it was there, or when a retry finds that it now is."""
        with translated(what):
            try:
                create(request=request, retry=CALL_RETRY, timeout=ATTEMPT_S)
            except AlreadyExists:
                return False
        return True


def _within(bounds: tuple[int, int], figure: float) -> int:
    least, most = bounds
    return max(least, min(most, round(figure)))
