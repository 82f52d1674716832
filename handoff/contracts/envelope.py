"""Request and response messages: the body, and CloudEvents 1.0 attributes around it in the binary mode.

Source: CloudEvents 1.0.2, "Context Attributes"; W3C Trace Context, "traceparent Header".
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Callable
from datetime import UTC, datetime
from typing import TypeVar

import msgspec
from msgspec import Struct

from handoff.contracts.errors import MalformedMessage, PayloadTooLarge, SettingsInvalid
from handoff.contracts.messages import (
    MAX_INLINE_BYTES,
    REQUEST_TYPE,
    RESPONSE_TYPE,
    AnalysisRequest,
    AnalysisResponse,
    RequestId,
    Timestamp,
    decode_request,
    decode_response,
    encode_body,
)
from handoff.contracts.protocols import Message

SPEC_VERSION = "1.0"
CLIENT_ID_ATTRIBUTE = "client_id"
IMAGE_COUNT_ATTRIBUTE = "ce-imagecount"
TRACE_ATTRIBUTE = "traceparent"
REPUBLISHED_ATTRIBUTE = "republished"

# 1 MB with its attributes passes every broker unconfigured: Kafka's limit is 1,048,588 bytes, Pub/Sub's 10 MB.
MAX_BODY_BYTES = 1_000_000

# Fit for the name of a Pub/Sub subscription and for a filter's string, both of which hold it.
CLIENT_ID_PATTERN = "[A-Za-z0-9][A-Za-z0-9_-]{0,127}"
TRACE_PATTERN = "(?!ff)[0-9a-f]{2}-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}"
_REQUEST_FAMILY = REQUEST_TYPE.rpartition(".")[0]

_Body = TypeVar("_Body", AnalysisRequest, AnalysisResponse)


class ReceivedRequest(Struct, frozen=True, kw_only=True):
    """A request and what its message says beside the body."""

    request: AnalysisRequest
    client_id: str | None
    traceparent: str | None
    requested_at: datetime | None
    republished: bool = False
    """Its sender says that the same request was published before, so that an answer may be stored."""


class _Identified(Struct):
    request_id: RequestId


_identified = msgspec.json.Decoder(_Identified)


def request_message(
    request: AnalysisRequest,
    *,
    client_id: str,
    traceparent: str | None = None,
    republished: bool = False,
    now: datetime,
) -> Message:
    """Wrap a request for the requests topic; `republished` where it, or its like, was published before.

    Raises: SettingsInvalid: the client id is none; PayloadTooLarge: a body over 1 MB (too many labels in it)
    """
    if not re.fullmatch(CLIENT_ID_PATTERN, client_id):
        raise SettingsInvalid(f"The client id {client_id[:40]!r} must be 1 to 128 letters, digits, '_' or '-'.")
    body = encode_body(request)
    if len(body) > MAX_BODY_BYTES:
        raise PayloadTooLarge(
            f"The request takes {len(body)} bytes, allowed are {MAX_BODY_BYTES}: send their labels in the batch."
        )
    attributes = _attributes(REQUEST_TYPE, event_id=request.request_id, source=f"/clients/{client_id}", now=now)
    attributes |= {IMAGE_COUNT_ATTRIBUTE: str(request.image_count), CLIENT_ID_ATTRIBUTE: client_id}
    attributes |= {TRACE_ATTRIBUTE: traceparent} if traceparent else {}
    attributes |= {REPUBLISHED_ATTRIBUTE: "1"} if republished else {}
    return Message(body=body, attributes=attributes, key=request.request_id)


def response_message(
    response: AnalysisResponse, *, client_id: str | None, traceparent: str | None, source: str, now: datetime
) -> Message:
    """Wrap a response for the responses topic; `source` is a URI reference that names the worker."""
    event_id = f"{response.request_id}/response"
    attributes = _attributes(RESPONSE_TYPE, event_id=event_id, source=source, now=now)
    attributes[IMAGE_COUNT_ATTRIBUTE] = str(response.image_count)
    attributes |= {CLIENT_ID_ATTRIBUTE: client_id} if client_id else {}
    attributes |= {TRACE_ATTRIBUTE: traceparent} if traceparent else {}
    return Message(body=encode_body(response), attributes=attributes, key=response.request_id)


def parse_request(message: Message) -> ReceivedRequest:
    """Check and unwrap what came from the requests topic; fields unknown here are ignored.

    Raises: MalformedMessage: with a sentence that names the fault, and the request_id where one can be read
    """
    request = _parse(message, decode_request, REQUEST_TYPE)
    if request.labels is not None and len(request.labels) != request.image_count:
        raise MalformedMessage(
            f"The request has {len(request.labels)} labels for {request.image_count} images.",
            request_id=request.request_id,
        )
    if message.attributes.get(CLIENT_ID_ATTRIBUTE) and client_id_of(message) is None:
        raise MalformedMessage(
            "The attribute client_id must be 1 to 128 letters, digits, '_' or '-'.", request_id=request.request_id
        )
    return ReceivedRequest(
        request=request,
        client_id=client_id_of(message),
        traceparent=traceparent_of(message),
        requested_at=time_of(message),
        republished=bool(message.attributes.get(REPUBLISHED_ATTRIBUTE)),
    )


def parse_response(message: Message) -> AnalysisResponse:
    """Check and unwrap what came from the responses topic; fields unknown here are ignored.

    Raises: MalformedMessage
    """
    return _parse(message, decode_response, RESPONSE_TYPE)


def client_id_of(message: Message) -> str | None:
    """Say whose message this is; None where it does not say so in a usable way."""
    client_id = message.attributes.get(CLIENT_ID_ATTRIBUTE, "")
    return client_id if re.fullmatch(CLIENT_ID_PATTERN, client_id) else None


def time_of(message: Message) -> datetime | None:
    """Say when a message was sent; None where it does not say so in a usable way."""
    try:
        return msgspec.convert(message.attributes.get("ce-time"), type=Timestamp)
    except msgspec.ValidationError:
        return None


def traceparent_of(message: Message) -> str | None:
    """Say which trace a message belongs to; one that is not valid counts as absent, as Trace Context wants it."""
    text = message.attributes.get(TRACE_ATTRIBUTE, "")
    return text if re.fullmatch(TRACE_PATTERN, text) else None


def fit_inline(response: AnalysisResponse) -> AnalysisResponse:
    """Leave the inline predictions out where they would make the body 64 KiB or more; the counts always stay."""
    if response.predictions is None or len(encode_body(response)) < MAX_INLINE_BYTES:
        return response
    return msgspec.structs.replace(response, predictions=None)


def new_traceparent() -> str:
    """Begin a trace, sampled."""
    return f"00-{secrets.token_hex(16)}-{secrets.token_hex(8)}-01"


def _attributes(event_type: str, *, event_id: str, source: str, now: datetime) -> dict[str, str]:
    return {
        "ce-specversion": SPEC_VERSION,
        "ce-type": event_type,
        "ce-id": event_id,
        "ce-source": source,
        "ce-time": now.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        "content-type": "application/json",
    }


def _parse(message: Message, decode: Callable[[bytes], _Body], event_type: str) -> _Body:
    fault = _fault(message, event_type)
    if fault is None:
        try:
            return decode(message.body)
        except (ValueError, RecursionError) as error:  # ValueError covers msgspec's errors and bytes that are not UTF-8
            fault = f"The body is not a {event_type}: {error}."
    raise MalformedMessage(fault, request_id=_readable_request_id(message))


def _fault(message: Message, event_type: str) -> str | None:
    """Say what is wrong before the body is read."""
    found, version = message.attributes.get("ce-type"), message.attributes.get("ce-specversion", SPEC_VERSION)
    if found is None:
        return f"The attribute ce-type is missing; understood is {event_type}."
    if found != event_type:
        return f"The attribute ce-type is {found[:80]!r}; understood is {event_type}."
    if version != SPEC_VERSION:
        return f"The attribute ce-specversion is {version[:20]!r}; understood is {SPEC_VERSION}."
    if len(message.body) > MAX_BODY_BYTES:
        return f"The body has {len(message.body)} bytes, allowed are {MAX_BODY_BYTES}."
    return None


def _readable_request_id(message: Message) -> str | None:
    """Read the id of what is meant as a request, of whatever version, so that its sender can be told."""
    if not message.attributes.get("ce-type", REQUEST_TYPE).startswith(_REQUEST_FAMILY):
        return None
    try:
        return _identified.decode(message.body).request_id
    except (ValueError, RecursionError):
        return None
