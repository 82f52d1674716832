"""What a broker and an object store must do; the conformance suite holds every adapter to these words."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import Future
from typing import Protocol, runtime_checkable

from msgspec import Struct

from handoff.contracts.topology import SubscriptionSpec, Topology


class Message(Struct, frozen=True):
    """What is published: a small body, string attributes, and the key that orders and spreads it (Kafka)."""

    body: bytes
    attributes: Mapping[str, str] = {}
    key: str | None = None


class Limits(Struct, frozen=True, kw_only=True):
    """How much unacked work one subscriber holds, so that it neither hoards nor starves its peers.

    Images are counted by the message attribute `ce-imagecount`; a message without it counts as one image.
    A single message over `max_images` is still delivered, alone.
    """

    max_in_flight: int = 64
    max_images: int = 4096


class Backlog(Struct, frozen=True, kw_only=True):
    """The scaling signal; None where the broker cannot say."""

    count: int | None
    """Messages not yet acked, whether held by a worker or waiting."""
    oldest_unacked_age_s: float | None


UNKNOWN_BACKLOG = Backlog(count=None, oldest_unacked_age_s=None)


class Delivery(Protocol):
    """One handing-over of a message. Its lease is kept alive by the adapter until `ack` or `nack`.

    Both may be called from any thread, neither raises for a lease that has run out, and a second call does nothing.
    """

    @property
    def message(self) -> Message:
        """What was published."""

    @property
    def attempt(self) -> int:
        """Which delivery of this message this is, from 1."""

    def ack(self) -> None:
        """End the delivery: the message is done. Durable at the latest when the subscription's broker closes."""

    def nack(self, delay_s: float = 0.0) -> None:
        """Give the message back, to be delivered again to anyone, not before `delay_s` seconds from now."""


class Subscription(Protocol):
    """An endless iterator of deliveries; made for one consuming thread."""

    def __iter__(self) -> Iterator[Delivery]:
        """Yield deliveries as they come, waiting as long as it takes; ends after `close`.

        Raises: BrokerUnavailable: the broker has not answered for longer than its own retries cover
        """

    def close(self) -> None:
        """Stop pulling and give back what was not yielded; callable from any thread, more than once.

        Deliveries already yielded stay leased and can still be acked until the broker closes.
        """


class Broker(Protocol):
    """Topics to publish to and subscriptions to compete on; thread-safe."""

    def publish(self, topic: str, message: Message) -> Future[str]:
        """Publish a message; the future holds its id once the broker has it for good. Errors come through the future.

        The future raises: BrokerUnavailable; SettingsInvalid: no such topic
        """

    def subscribe(self, subscription: SubscriptionSpec, limits: Limits) -> Subscription:
        """Join a subscription's workers. A temporary one is made here, and holds every message published from now on.

        Raises: SettingsInvalid: no such subscription (run `fashion init`); BrokerUnavailable
        """

    def declare(self, topology: Topology) -> list[str]:
        """Create what is missing; a sentence for each thing done. Calling it again does and says nothing.

        Raises: BrokerUnavailable; SettingsInvalid: not allowed
        """

    def backlog(self, subscription: SubscriptionSpec) -> Backlog:
        """Say how much waits; None where the broker cannot."""

    def close(self) -> None:
        """Flush what was published and acked, give back what is still held, free every resource."""


class ObjectInfo(Struct, frozen=True, kw_only=True):
    """One object of a listing."""

    uri: str
    size_bytes: int


class Removed(Struct, frozen=True, kw_only=True):
    """What a part of a sweep removed."""

    object_count: int = 0
    size_bytes: int = 0


class Store(Protocol):
    """Objects below one root URI; thread-safe. Every method raises PayloadForbidden for a URI outside that root,
    and StoreUnavailable when the store does not answer.
    """

    @property
    def root(self) -> str:
        """The URI, without a trailing slash, below which everything lies."""

    def declare(self, *, retention_s: float | None = None) -> list[str]:
        """Create the bucket or folder where it is missing; a sentence for each thing done.

        With `retention_s`, a store that can removes older requests and results by itself from then on; 0 keeps them.

        Raises: SettingsInvalid: not allowed
        """

    def read(self, uri: str, *, max_bytes: int) -> bytes:
        """Read a whole object; its size is checked before its bytes are taken.

        Raises: PayloadNotFound; PayloadTooLarge: over `max_bytes`
        """

    def create(self, uri: str, data: bytes) -> bool:
        """Write an object unless one is there; False when one was. Durable and whole, or absent, at any crash."""

    def list(self, prefix: str) -> Iterable[ObjectInfo]:
        """List the objects whose URI begins with `prefix` (a URI below the root), in the order of their URIs."""

    def delete(self, uri: str) -> None:
        """Remove an object; one that is not there is no error."""


@runtime_checkable
class SweptStore(Protocol):
    """A store with no rule of its own for what is old, so that programs have to sweep it."""

    def sweep(
        self, *, older_than_s: float, now: float, period_s: float = 0.0, dry_run: bool = False
    ) -> Iterator[Removed]:
        """Remove requests and results whose newest object is older, a slice at each step; pause in between at will.

        Nothing where anyone finished a sweep in the `period_s` before `now`, a time since the epoch.

        Raises: StoreUnavailable: another process is at it; or something could not be removed, after all the rest was
        """


@runtime_checkable
class SweptBroker(Protocol):
    """A broker with no service behind it that would remove what is over its retention."""

    def sweep(self, *, dry_run: bool = False) -> int:
        """Remove the deliveries over their retention, and give their space back; how many there were."""
