"""What becomes of a message that could not be served: itself, with the reason written on it."""

from __future__ import annotations

from handoff.contracts.protocols import Message
from handoff.contracts.sentences import as_sentence

# A reason quotes what was found in a message, so it is bounded (Pub/Sub allows attributes of 1,024 bytes).
MAX_REASON_CHARACTERS = 250


def dead_letter(message: Message, *, code: str, reason: str, attempts: int) -> Message:
    """Write the reason on a message, leaving its body and its other attributes as they were."""
    return Message(
        body=message.body,
        attributes={
            **message.attributes,
            "dead-letter-code": code,
            "dead-letter-reason": as_sentence(reason, most=MAX_REASON_CHARACTERS),
            "dead-letter-attempts": str(attempts),
        },
        key=message.key,
    )
