"""The topics and subscriptions of a deployment, as values that any broker can declare."""

from __future__ import annotations

from msgspec import Struct

DAY_S = 86_400.0


class SubscriptionSpec(Struct, frozen=True, kw_only=True):
    """A shared queue over one topic, with its promises."""

    name: str
    topic: str
    ack_deadline_s: float = 30.0
    """How long a delivery stays with a worker that has died."""
    max_attempts: int = 5
    """Deliveries without an ack before the message is dead-lettered; Pub/Sub allows 5 to 100."""
    dead_letter_topic: str | None = None
    retention_s: float = 7 * DAY_S
    """How long an unacked message is kept; Pub/Sub allows 10 minutes to 31 days."""
    min_backoff_s: float = 1.0
    max_backoff_s: float = 60.0
    """The longest that a broker of its own accord waits before a redelivery; 0: it never waits."""
    only_client_id: str | None = None
    """Deliver only messages whose `client_id` attribute is this one."""
    temporary: bool = False
    """Made by `subscribe`, seen by nobody else, gone after `close` (or, after a crash, by expiry)."""


class Topology(Struct, frozen=True, kw_only=True):
    """The names every program of one deployment agrees on."""

    requests_topic: str = "image-analysis-requests"
    responses_topic: str = "image-analysis-outputs"
    dead_letters_topic: str = "image-analysis-dead-letters"
    requests_subscription: str = "read-analysis-requests"
    responses_subscription: str = "read-analysis-outputs"
    dead_letters_subscription: str = "read-analysis-dead-letters"
    ack_deadline_s: float = 30.0
    max_attempts: int = 5
    retention_s: float = 7 * DAY_S

    @property
    def topics(self) -> tuple[str, ...]:
        """Every topic, in the order they are declared."""
        return (self.dead_letters_topic, self.requests_topic, self.responses_topic)

    @property
    def subscriptions(self) -> tuple[SubscriptionSpec, ...]:
        """Every lasting subscription."""
        return (self.dead_letters, self.requests, self.responses)

    @property
    def requests(self) -> SubscriptionSpec:
        """What workers compete on."""
        return SubscriptionSpec(
            name=self.requests_subscription,
            topic=self.requests_topic,
            ack_deadline_s=self.ack_deadline_s,
            max_attempts=self.max_attempts,
            dead_letter_topic=self.dead_letters_topic,
            retention_s=self.retention_s,
        )

    @property
    def responses(self) -> SubscriptionSpec:
        """What receive consoles compete on."""
        return SubscriptionSpec(
            name=self.responses_subscription,
            topic=self.responses_topic,
            ack_deadline_s=self.ack_deadline_s,
            retention_s=self.retention_s,
        )

    @property
    def dead_letters(self) -> SubscriptionSpec:
        """Where an operator reads what could not be served."""
        return SubscriptionSpec(
            name=self.dead_letters_subscription,
            topic=self.dead_letters_topic,
            ack_deadline_s=self.ack_deadline_s,
            retention_s=self.retention_s,
            # Every look gives all of them back, and the next one must see them: Pub/Sub's emulator made them wait a
            # second longer after each look.
            min_backoff_s=0.0,
            max_backoff_s=0.0,
        )

    def responses_for(self, client_id: str) -> SubscriptionSpec:
        """A subscription of one client's own, which goes away with it."""
        return SubscriptionSpec(
            name=f"{self.responses_subscription}-{client_id}",
            topic=self.responses_topic,
            ack_deadline_s=self.ack_deadline_s,
            retention_s=self.retention_s,
            only_client_id=client_id,
            temporary=True,
        )
