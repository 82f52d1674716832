"""What becomes of a message that could not be served: itself, with the reason written on it."""

from __future__ import annotations

from typing import NamedTuple

from handoff.contracts.protocols import Message

# A reason quotes what was found in a message, so it is bounded (Pub/Sub allows attributes of 1,024 bytes).
MAX_REASON_CHARACTERS = 250

CODE_ATTRIBUTE = "dead-letter-code"
REASON_ATTRIBUTE = "dead-letter-reason"
ATTEMPTS_ATTRIBUTE = "dead-letter-attempts"

# The code of a message that its broker set aside, and of one that says nothing at all.
MAX_ATTEMPTS_CODE = "max_attempts"
UNKNOWN_CODE = "unknown"

# What a service writes on what it sets aside by a rule of its own, so that no adapter is there to give a reason.
# Pub/Sub: https://cloud.google.com/pubsub/docs/handling-failures#how_dead_letter_topics_work
SERVICE_PREFIX = "CloudPubSubDeadLetter"
SERVICE_ATTEMPTS_ATTRIBUTE = "CloudPubSubDeadLetterSourceDeliveryCount"


class Burial(NamedTuple):
    """Why a message is a dead letter, and how many deliveries it had; None where nothing says so."""

    code: str
    reason: str
    attempts: int | None


def dead_letter(message: Message, *, code: str, reason: str, attempts: int) -> Message:
    """Write the reason on a message, leaving its body and its other attributes as they were."""
    return Message(
        body=message.body,
        attributes={
            **message.attributes,
            CODE_ATTRIBUTE: code,
            REASON_ATTRIBUTE: reason[:MAX_REASON_CHARACTERS],
            ATTEMPTS_ATTRIBUTE: str(attempts),
        },
        key=message.key,
    )


def never_acked(attempts: int | None) -> str:
    """The reason of a message that its broker set aside."""
    times = "too often" if attempts is None else f"{attempts} times"
    return f"Delivered {times} and never acked; its workers died or gave it back."


def original_message(letter: Message) -> Message:
    """The message as it was before it became a dead letter."""
    written = {CODE_ATTRIBUTE, REASON_ATTRIBUTE, ATTEMPTS_ATTRIBUTE}
    attributes = {
        name: value
        for name, value in letter.attributes.items()
        if name not in written and not name.startswith(SERVICE_PREFIX)
    }
    return Message(body=letter.body, attributes=attributes, key=letter.key)


def burial_of(letter: Message) -> Burial:
    """Read what was written on a dead letter, by a worker, an adapter or the service itself."""
    attributes = letter.attributes
    if CODE_ATTRIBUTE in attributes:
        return Burial(
            attributes[CODE_ATTRIBUTE],
            attributes.get(REASON_ATTRIBUTE, ""),
            _count(attributes.get(ATTEMPTS_ATTRIBUTE, "")),
        )
    if any(name.startswith(SERVICE_PREFIX) for name in attributes):
        attempts = _count(attributes.get(SERVICE_ATTEMPTS_ATTRIBUTE, ""))
        return Burial(MAX_ATTEMPTS_CODE, never_acked(attempts), attempts)
    return Burial(UNKNOWN_CODE, "", None)


def _count(text: str) -> int | None:
    return int(text) if text.isascii() and text.isdigit() and len(text) < 10 else None  # noqa: PLR2004 - under 2^31
