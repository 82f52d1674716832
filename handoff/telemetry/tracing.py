"""Spans of a request's way through client and worker; nothing is made, or imported, unless an endpoint is configured.

Source: OpenTelemetry semantic conventions, "Messaging spans" (names of spans and attributes).
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from types import MappingProxyType, TracebackType
from typing import Literal, Protocol, Self, cast
from urllib.parse import urlsplit

from handoff.contracts.errors import MissingPackage, SettingsInvalid

Kind = Literal["internal", "producer", "consumer"]
Attributes = Mapping[str, str | int]

NO_ATTRIBUTES: Attributes = MappingProxyType({})

# The operation's name in this project's words, and its type in the conventions'.
_OPERATION_TYPES = {"publish": "send", "receive": "receive", "process": "process"}


class Span(Protocol):
    """A stretch of a request's way. In a `with` block, spans that are begun in its thread become its children."""

    @property
    def traceparent(self) -> str | None:
        """What a message carries that is sent within the span; None where there is no trace."""

    @property
    def is_recording(self) -> bool:
        """Whether anyone will see it."""

    def end(self, *, error: str = "", attributes: Attributes = NO_ATTRIBUTES) -> None:
        """End it now; `error` is the code of what went wrong."""

    def __enter__(self) -> Self:
        """Become the parent of what is begun in this thread."""

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End."""


class Tracer(Protocol):
    """Makes spans; thread-safe, and never waits for whoever collects them."""

    def span(
        self,
        name: str,
        *,
        kind: Kind = "internal",
        parent: Span | str | None = None,
        started_at_s: float | None = None,
        attributes: Attributes = NO_ATTRIBUTES,
    ) -> Span:
        """Begin a span, now or at a time since the epoch; `parent` may be the traceparent of a message."""

    def record(self, name: str, *, parent: Span, started_at_s: float, ended_at_s: float) -> None:
        """Make a span of what is over."""

    def close(self) -> None:
        """Send what is left, as far as that takes no longer than seconds."""


class NoSpan:
    """Stands where nobody traces: a message within it repeats the trace of the message before it."""

    is_recording = False

    def __init__(self, traceparent: str | None = None) -> None:
        self.traceparent = traceparent

    def end(self, *, error: str = "", attributes: Attributes = NO_ATTRIBUTES) -> None:
        """Nothing to end."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass


class NoTracer:
    """Makes no spans."""

    def span(
        self,
        name: str,
        *,
        kind: Kind = "internal",
        parent: Span | str | None = None,
        started_at_s: float | None = None,
        attributes: Attributes = NO_ATTRIBUTES,
    ) -> Span:
        """Hand on the trace there is."""
        del name, kind, started_at_s, attributes
        return NoSpan(parent) if isinstance(parent, str) else parent or NO_SPAN

    def record(self, name: str, *, parent: Span, started_at_s: float, ended_at_s: float) -> None:
        """Nothing to make."""

    def close(self) -> None:
        """Nothing to send."""


NO_SPAN: Span = NoSpan()
NO_TRACER: Tracer = NoTracer()


def open_tracer(endpoint: str, *, service: str, instance: str, broker_url: str) -> Tracer:
    """What sends the spans of a program to an OTLP endpoint; without an endpoint, what makes none.

    Raises: SettingsInvalid: no such URL; MissingPackage
    """
    if not endpoint:
        return NO_TRACER
    if urlsplit(endpoint).scheme not in {"http", "https"} or not urlsplit(endpoint).netloc:
        raise SettingsInvalid(
            f"The setting telemetry.endpoint is {endpoint!r}; use the URL of an OTLP receiver over HTTP, such as"
            " http://127.0.0.1:4318, or nothing."
        )
    try:
        adapter = import_module("handoff.telemetry.otlp")
    except ModuleNotFoundError as error:
        raise MissingPackage(error.name or "?", needed_for="traces (telemetry.endpoint)") from error
    return cast("Tracer", adapter.connect(endpoint, service=service, instance=instance, broker_url=broker_url))


def messaging_attributes(operation: str, *, topic: str, request_id: str | None, client_id: str | None) -> Attributes:
    """What the conventions say of a span about one message; the tracer adds whose message system it is."""
    attributes: dict[str, str | int] = {
        "messaging.operation.name": operation,
        "messaging.operation.type": _OPERATION_TYPES[operation],
        "messaging.destination.name": topic,
    }
    attributes |= {"messaging.message.id": request_id} if request_id else {}
    return attributes | ({"messaging.client.id": client_id} if client_id else {})
