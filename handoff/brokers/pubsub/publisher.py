"""Publishing to Pub/Sub: checked beforehand, sent together, awaited at the end.

The SDK's own batches wait for company even when the publisher is idle, and cost a thread each. Here a message goes at
once when no call is under way, and otherwise with all others that came meanwhile.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from typing import Any, NamedTuple

import google.api_core.exceptions as api
import google.auth.exceptions as auth
import google.pubsub_v1
from google.cloud.pubsub_v1 import PublisherClient
from google.pubsub_v1.types import PublishRequest, PubsubMessage

from handoff.brokers.pubsub.calls import ATTEMPT_S, CALL_RETRY, meaning
from handoff.brokers.pubsub.outbox import Outbox
from handoff.contracts.errors import BrokerUnavailable, FashionError, MalformedMessage
from handoff.contracts.protocols import Message

# Of one call: 1,000 messages is the service's cap, 1 MB a tenth of its cap, beyond which a call only takes longer:
# https://cloud.google.com/pubsub/quotas#resource_limits
_MESSAGES_PER_CALL = 1000
_BYTES_PER_CALL = 1_000_000
# Bounds the memory of a publisher that is faster than its network: beyond this `publish` waits.
_MAX_WAITING_BYTES = 64 * 1024 * 1024
_MAX_MESSAGE_BYTES = 10_000_000
_MAX_ATTRIBUTES = 100
_MAX_NAME_BYTES = 256
_MAX_VALUE_BYTES = 1024

# The generated messages below the SDK's wrappers, which cost more than the call.
_Message, _Request = PubsubMessage.pb(), PublishRequest.pb()


class _Publication(NamedTuple):
    """A generated message on its way, and who waits for its id."""

    topic: str
    message: Any
    size: int
    confirmed: Future[str]


class Publisher:
    """Publishes messages, each confirmed by its future."""

    def __init__(self, project: str) -> None:
        self._project = project
        self.client = PublisherClient()
        self._outbox = Outbox(self._send, name="pubsub-publisher", max_waiting=_MAX_WAITING_BYTES)

    def start(self) -> None:
        """Begin to send."""
        self._outbox.start()

    def publish(self, topic: str, message: Message) -> Future[str]:
        """Publish a message; its key is dropped, because an ordering key would cost a request a message.

        The future raises also: MalformedMessage: over one of the service's limits
        """
        confirmed: Future[str] = Future()
        confirmed.set_running_or_notify_cancel()
        try:
            size = _checked_size(message)
        except ValueError as error:  # also text that UTF-8 does not have
            confirmed.set_exception(MalformedMessage(f"Cannot publish to {topic}: {error}."))
            return confirmed
        generated = _Message(data=message.body, attributes=message.attributes)
        if not self._outbox.put(_Publication(topic, generated, size, confirmed), size=size):
            confirmed.set_exception(BrokerUnavailable(f"Cannot publish to {topic}: the connection is closed."))
        return confirmed

    def close(self) -> None:
        """Send what waits, until everything is confirmed or given up, and hang up: a minute at most in an outage."""
        self._outbox.stop()
        self.client.transport.close()

    def _send(self, publications: Sequence[_Publication]) -> None:
        by_topic: dict[str, list[_Publication]] = defaultdict(list)
        for publication in publications:
            by_topic[publication.topic].append(publication)
        outage: FashionError | None = None
        for topic, wanted in by_topic.items():
            for portion in _portions(wanted):
                problem = outage or self._call(topic, portion)
                if isinstance(problem, BrokerUnavailable):
                    outage = problem  # what waited behind a call without an answer has waited as long
                if problem:
                    for each in portion:
                        each.confirmed.set_exception(problem)

    def _call(self, topic: str, portion: Sequence[_Publication]) -> FashionError | None:
        """Publish and confirm; or say why not."""
        path = self.client.topic_path(self._project, topic)
        request = PublishRequest.wrap(_Request(topic=path, messages=[each.message for each in portion]))
        try:
            # The generated client's method, which the SDK's own `publish` hides.
            answer = google.pubsub_v1.PublisherClient.publish(self.client, request, retry=CALL_RETRY, timeout=ATTEMPT_S)
            confirmed = list(zip(portion, answer.message_ids, strict=True))
        except (api.GoogleAPIError, auth.GoogleAuthError, ValueError) as error:
            # ValueError: ids are missing, or gRPC's word for a channel that is closed.
            problem = meaning(error, f"publish to {topic}")
            problem.__cause__ = error
            return problem
        for each, message_id in confirmed:
            each.confirmed.set_result(message_id)
        return None


def _portions(publications: Sequence[_Publication]) -> Iterator[Sequence[_Publication]]:
    """Cut what waits for one topic into calls within the service's limits."""
    portion: list[_Publication] = []
    size = 0
    for publication in publications:
        if portion and (len(portion) == _MESSAGES_PER_CALL or size + publication.size > _BYTES_PER_CALL):
            yield portion
            portion, size = [], 0
        portion.append(publication)
        size += publication.size
    if portion:
        yield portion


def _checked_size(message: Message) -> int:
    """A message's bytes; ValueError for a limit that it breaks, for which the service would refuse its whole call."""
    if not message.body and not message.attributes:
        raise ValueError("a message needs a body or an attribute")
    if len(message.attributes) > _MAX_ATTRIBUTES:
        raise ValueError(f"more than {_MAX_ATTRIBUTES} attributes")
    size = len(message.body)
    for name, value in message.attributes.items():
        name_bytes, value_bytes = len(name.encode()), len(value.encode())
        size += name_bytes + value_bytes
        if not 0 < name_bytes <= _MAX_NAME_BYTES or name.startswith("goog"):
            raise ValueError(f"Pub/Sub takes no attribute named {name!r}")
        if value_bytes > _MAX_VALUE_BYTES:
            raise ValueError(f"attribute {name} is over {_MAX_VALUE_BYTES} bytes")
    if size > _MAX_MESSAGE_BYTES:
        raise ValueError(f"{size} bytes are over {_MAX_MESSAGE_BYTES}")
    return size
