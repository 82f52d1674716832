"""Publishing to Pub/Sub: batched by the SDK, checked beforehand, awaited at the end."""

from __future__ import annotations

import concurrent.futures
from concurrent.futures import Future

from google.cloud.pubsub_v1 import PublisherClient
from google.cloud.pubsub_v1.types import BatchSettings, LimitExceededBehavior, PublisherOptions, PublishFlowControl

from handoff.brokers.pubsub.calls import ANSWER_WITHIN_S, ATTEMPT_S, CALL_RETRY, meaning
from handoff.contracts.errors import BrokerUnavailable, FashionError, MalformedMessage
from handoff.contracts.protocols import Message

# 5 ms is a fifth of a one-image request's time and lets a busy publisher fill whole requests; 1,000 messages is the
# service's cap on a request, 1 MB a tenth of its cap: https://cloud.google.com/pubsub/quotas#resource_limits
_BATCHES = BatchSettings(max_messages=1000, max_bytes=1_000_000, max_latency=0.005)
# Bounds the memory of a publisher that is faster than its network: beyond this `publish` waits.
_FLOW = PublishFlowControl(
    message_limit=10_000, byte_limit=64 * 1024 * 1024, limit_exceeded_behavior=LimitExceededBehavior.BLOCK
)
_MAX_MESSAGE_BYTES = 10_000_000
_MAX_ATTRIBUTES = 100
_MAX_NAME_BYTES = 256
_MAX_VALUE_BYTES = 1024
# The SDK takes attributes as keyword arguments beside these of its own.
_TAKEN_NAMES = frozenset({"self", "topic", "data", "ordering_key", "retry", "timeout"})


class Publisher:
    """Publishes messages and knows which of them the service has not confirmed yet."""

    def __init__(self, project: str) -> None:
        self._project = project
        options = PublisherOptions(flow_control=_FLOW, retry=CALL_RETRY, timeout=ATTEMPT_S)
        self.client = PublisherClient(_BATCHES, options)
        self._unconfirmed: set[Future[str]] = set()

    def publish(self, topic: str, message: Message) -> Future[str]:
        """Publish a message; its key is dropped, because an ordering key would cost a request a message.

        The future raises also: MalformedMessage: over one of the service's limits
        """
        confirmed: Future[str] = Future()
        confirmed.set_running_or_notify_cancel()
        try:
            _check_limits(message)
            answer = self.client.publish(
                self.client.topic_path(self._project, topic), message.body, **message.attributes
            )
        except ValueError as error:  # also text that UTF-8 does not have
            confirmed.set_exception(MalformedMessage(f"Cannot publish to {topic}: {error}."))
        except RuntimeError as error:
            confirmed.set_exception(
                BrokerUnavailable(f"Cannot publish to {topic}: the connection is closed ({error}).")
            )
        else:
            self._unconfirmed.add(confirmed)
            confirmed.add_done_callback(self._unconfirmed.discard)
            answer.add_done_callback(lambda done: _settle(confirmed, done, topic))
        return confirmed

    def close(self) -> None:
        """Send what waits for a full batch, wait until everything is confirmed or given up, and hang up."""
        self.client.stop()
        # Retries end by themselves; the second term is the last attempt's own time.
        concurrent.futures.wait(set(self._unconfirmed), timeout=ANSWER_WITHIN_S + ATTEMPT_S)
        self.client.transport.close()


def _settle(confirmed: Future[str], answer: Future[str], topic: str) -> None:
    error = answer.exception()
    if error is None:
        confirmed.set_result(answer.result())
    elif isinstance(error, Exception):
        problem: FashionError = meaning(error, f"publish to {topic}")
        problem.__cause__ = error
        confirmed.set_exception(problem)
    else:
        confirmed.set_exception(error)


def _check_limits(message: Message) -> None:
    """Raise ValueError for a limit that a message breaks; the service would refuse the whole batch, others' too."""
    if not message.body and not message.attributes:
        raise ValueError("a message needs a body or an attribute")
    if len(message.attributes) > _MAX_ATTRIBUTES:
        raise ValueError(f"more than {_MAX_ATTRIBUTES} attributes")
    size = len(message.body)
    for name, value in message.attributes.items():
        name_bytes, value_bytes = len(name.encode()), len(value.encode())
        size += name_bytes + value_bytes
        if not 0 < name_bytes <= _MAX_NAME_BYTES or name in _TAKEN_NAMES or name.startswith("goog"):
            raise ValueError(f"Pub/Sub takes no attribute named {name!r}")
        if value_bytes > _MAX_VALUE_BYTES:
            raise ValueError(f"attribute {name} is over {_MAX_VALUE_BYTES} bytes")
    if size > _MAX_MESSAGE_BYTES:
        raise ValueError(f"{size} bytes are over {_MAX_MESSAGE_BYTES}")
