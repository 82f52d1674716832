"""What a failure of librdkafka means here, and how long anything may take."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from typing import TypeVar

from confluent_kafka import KafkaError, KafkaException

from handoff.contracts.errors import BrokerUnavailable, FashionError, MalformedMessage, SettingsInvalid

# Long enough to outlive a broker that starts again, short enough for a person who mistyped an address.
ANSWER_WITHIN_S = 20.0
# One look at the cluster.
ATTEMPT_S = 10.0
_ASK_AGAIN_AFTER_S = 0.1

Answer = TypeVar("Answer")

UNKNOWN_TOPIC = {
    KafkaError.UNKNOWN_TOPIC_OR_PART,
    KafkaError._UNKNOWN_TOPIC,  # noqa: SLF001 - librdkafka's own codes begin so
    KafkaError._UNKNOWN_PARTITION,  # noqa: SLF001
}
REFUSED = {
    KafkaError.CLUSTER_AUTHORIZATION_FAILED,
    KafkaError.GROUP_AUTHORIZATION_FAILED,
    KafkaError.INVALID_CONFIG,
    KafkaError.INVALID_PARTITIONS,
    KafkaError.INVALID_REPLICATION_FACTOR,
    KafkaError.INVALID_SESSION_TIMEOUT,
    KafkaError.POLICY_VIOLATION,
    KafkaError.SASL_AUTHENTICATION_FAILED,
    KafkaError.TOPIC_AUTHORIZATION_FAILED,
    KafkaError.UNSUPPORTED_SASL_MECHANISM,
    KafkaError.UNSUPPORTED_VERSION,
    KafkaError._AUTHENTICATION,  # noqa: SLF001
    KafkaError._INVALID_ARG,  # noqa: SLF001
    KafkaError._SSL,  # noqa: SLF001
    KafkaError._UNSUPPORTED_FEATURE,  # noqa: SLF001
}
COORDINATOR_AWAY = {
    KafkaError.COORDINATOR_LOAD_IN_PROGRESS,
    KafkaError.COORDINATOR_NOT_AVAILABLE,
    KafkaError.NOT_COORDINATOR,
}
# Why there is no connection: nobody listens, no such host, something else than a broker that is spoken to like this.
UNREACHABLE = {
    KafkaError._BAD_MSG,  # noqa: SLF001
    KafkaError._RESOLVE,  # noqa: SLF001
    KafkaError._TRANSPORT,  # noqa: SLF001
}
# What librdkafka adds for those who debug it.
_AFTERTHOUGHT = re.compile(r"/bootstrap(?=: )| \(after \d+ms in state \w+[^)]*\)")
_TOO_LARGE = {KafkaError.MSG_SIZE_TOO_LARGE, KafkaError.RECORD_LIST_TOO_LARGE}


def meaning(error: KafkaError, what: str) -> FashionError:
    """Say in our words why a call could not do `what`."""
    code, said = error.code(), error.str()
    if code in UNKNOWN_TOPIC:
        return SettingsInvalid(f"Cannot {what}: Kafka knows no such topic; run `fashion init`.")
    if code in _TOO_LARGE:
        return MalformedMessage(f"Cannot {what}: Kafka takes no message of that size ({said}).")
    if code in REFUSED:
        return SettingsInvalid(f"Cannot {what}; Kafka refuses: {said}")
    if code in UNREACHABLE:
        said = f"{_AFTERTHOUGHT.sub('', said).rstrip('.')}; is it running there, and is the broker's URL right?"
    return BrokerUnavailable(f"Cannot {what}; Kafka does not answer: {said}")


def error_of(problem: KafkaException) -> KafkaError:
    """What an exception carries; its Python type says nothing."""
    found = problem.args[0] if problem.args else None
    return found if isinstance(found, KafkaError) else KafkaError(KafkaError._FAIL, str(problem))  # noqa: SLF001


def patiently(ask: Callable[[], Answer], *, passing: Collection[int] = COORDINATOR_AWAY) -> Answer:
    """Ask again after a failure that passes, of these codes: within a call librdkafka does not try again by itself.

    Where nothing else is said, that a group has no coordinator, while brokers start or hand groups over.

    Raises: KafkaException: something else, or that for long
    """
    give_up_at = time.monotonic() + ANSWER_WITHIN_S
    while True:
        try:
            return ask()
        except KafkaException as problem:
            if error_of(problem).code() not in passing or time.monotonic() > give_up_at:
                raise
        time.sleep(_ASK_AGAIN_AFTER_S)


@contextmanager
def translated(what: str) -> Iterator[None]:
    """Turn librdkafka's errors into ours.

    Raises: SettingsInvalid: missing, not allowed or malformed; BrokerUnavailable: anything else
    """
    try:
        yield
    except KafkaException as problem:
        raise meaning(error_of(problem), what) from problem
