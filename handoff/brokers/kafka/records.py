"""Messages as Kafka records: CloudEvents' Kafka binding outside, what the adapter notes for itself beside it.

Source: CloudEvents 1.0.2, "Kafka Protocol Binding", binary content mode: attributes are headers named `ce_…`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from confluent_kafka import Message as KafkaMessage

from handoff.contracts.protocols import Message

_OURS, _KAFKAS = "ce-", "ce_"

# What the adapter writes on a record that it publishes again; no receiver sees it.
NOTES_PREFIX = "fashion-"
ATTEMPTS_NOTE = "fashion-attempts"

Headers = list[tuple[str, str | bytes | None]]


class Record(NamedTuple):
    """A message at its place in a topic."""

    partition: int
    offset: int
    message: Message
    attempts: int
    """Deliveries of this message from records before this one."""
    notes: Mapping[str, str]


def headers_of(message: Message, notes: Mapping[str, object]) -> Headers:
    """The headers of a record: the message's attributes, and the adapter's notes."""
    named = [
        (_KAFKAS + name.removeprefix(_OURS) if name.startswith(_OURS) else name, value)
        for name, value in message.attributes.items()
    ]
    return [(name, str(value).encode()) for name, value in [*named, *notes.items()]]


def key_of(message: Message) -> bytes | None:
    """A message's key, which spreads it over the partitions."""
    return None if message.key is None else message.key.encode(errors="surrogateescape")


def record_of(found: KafkaMessage) -> Record:
    """Read a record, whoever published it."""
    texts = dict(_texts(_headers_of(found)))
    notes = {name: texts.pop(name) for name in list(texts) if name.startswith(NOTES_PREFIX)}
    key = found.key()
    message = Message(
        body=_bytes(found.value()),
        attributes={_attribute(name): value for name, value in texts.items()},
        key=None if key is None else _bytes(key).decode(errors="surrogateescape"),
    )
    partition, offset = found.partition(), found.offset()
    assert partition is not None and offset is not None  # noqa: S101, PT018 - it was fetched
    return Record(partition, offset, message, _whole(notes.get(ATTEMPTS_NOTE)), notes)


def _headers_of(found: KafkaMessage) -> Iterable[Any]:
    try:
        return found.headers() or ()
    except (SystemError, UnicodeDecodeError):  # so the client library fails of a header whose name is no UTF-8
        return ()


def _texts(headers: Iterable[Any]) -> Iterable[tuple[str, str]]:
    return ((name, _bytes(value).decode(errors="replace")) for name, value in headers)


def _bytes(value: str | bytes | None) -> bytes:
    return value.encode() if isinstance(value, str) else value or b""


def _attribute(name: str) -> str:
    return _OURS + name.removeprefix(_KAFKAS) if name.startswith(_KAFKAS) else name


def _whole(text: str | None) -> int:
    return int(text) if text and text.isascii() and text.isdigit() and len(text) < 10 else 0  # noqa: PLR2004 - under 2^31
