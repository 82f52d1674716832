"""Spans sent over HTTP in OpenTelemetry's protocol: the one module that knows the OpenTelemetry packages."""

from __future__ import annotations

import logging
import threading
from collections.abc import Sequence
from contextlib import AbstractContextManager, ExitStack
from types import TracebackType
from typing import Self
from urllib.parse import urlsplit

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from handoff.telemetry.tracing import NO_ATTRIBUTES, NO_SPAN, Attributes, Kind, Span

_log = logging.getLogger(__name__)

# One try at sending, with its repetitions; and how long the end of a program waits for the last of them.
SEND_WITHIN_S = 5.0
CLOSE_WITHIN_S = 3.0

_KINDS = {
    "internal": trace.SpanKind.INTERNAL,
    "producer": trace.SpanKind.PRODUCER,
    "consumer": trace.SpanKind.CONSUMER,
}

# The conventions' name for a broker, where it is not the scheme of our URL.
_SYSTEMS = {"pubsub": "gcp_pubsub"}

_PROPAGATOR = TraceContextTextMapPropagator()


def connect(endpoint: str, *, service: str, instance: str, broker_url: str) -> OtlpTracer:
    """Make what sends spans to the endpoint, in the background; nothing is sent yet."""
    # Its own lines would come with every attempt, some with a traceback; `_Quietly` says it once.
    logging.getLogger("opentelemetry").setLevel(logging.CRITICAL)
    sender = OTLPSpanExporter(f"{endpoint.rstrip('/')}/v1/traces", timeout=SEND_WITHIN_S)
    provider = TracerProvider(
        resource=Resource.create({"service.name": service, "service.instance.id": instance}), shutdown_on_exit=False
    )
    provider.add_span_processor(BatchSpanProcessor(_Quietly(sender, endpoint=endpoint)))
    scheme = urlsplit(broker_url).scheme
    return OtlpTracer(provider, system=_SYSTEMS.get(scheme, scheme))


class OtlpTracer:
    """Makes spans that a provider sends; a parent that was not sampled has no children that are."""

    def __init__(self, provider: TracerProvider, *, system: str) -> None:
        """`system` names the broker in spans about messages."""
        self._provider = provider
        self._tracer = provider.get_tracer("fashion-analysis")
        self._system: Attributes = {"messaging.system": system}

    def span(
        self,
        name: str,
        *,
        kind: Kind = "internal",
        parent: Span | str | None = None,
        started_at_s: float | None = None,
        attributes: Attributes = NO_ATTRIBUTES,
    ) -> Span:
        """Begin a span; without a parent, below the thread's present one. An internal one is never alone."""
        if kind == "internal" and parent is None and not trace.get_current_span().get_span_context().is_valid:
            return NO_SPAN
        return OtlpSpan(
            self._tracer.start_span(
                name,
                context=_context_of(parent),
                kind=_KINDS[kind],
                attributes={**attributes, **(self._system if kind != "internal" else NO_ATTRIBUTES)},
                start_time=None if started_at_s is None else _nanoseconds(started_at_s),
            )
        )

    def record(self, name: str, *, parent: Span, started_at_s: float, ended_at_s: float) -> None:
        """Make a span of what is over."""
        context = _context_of(parent)
        span = self._tracer.start_span(name, context=context, start_time=_nanoseconds(started_at_s))
        span.end(_nanoseconds(ended_at_s))

    def close(self) -> None:
        """Send what is left; an endpoint that does not answer holds nobody up for longer than the bound."""
        closing = threading.Thread(target=self._provider.shutdown, name="close-traces", daemon=True)
        closing.start()
        closing.join(CLOSE_WITHIN_S)


class OtlpSpan:
    """A span of the OpenTelemetry SDK."""

    def __init__(self, span: trace.Span) -> None:
        self.span = span
        self._entered = ExitStack()

    @property
    def traceparent(self) -> str | None:
        """The span's trace, its id and whether it is sampled."""
        carrier: dict[str, str] = {}
        _PROPAGATOR.inject(carrier, trace.set_span_in_context(self.span, Context()))
        return carrier.get("traceparent")

    @property
    def is_recording(self) -> bool:
        """Whether it is sampled."""
        return self.span.is_recording()

    def end(self, *, error: str = "", attributes: Attributes = NO_ATTRIBUTES) -> None:
        """End it now."""
        self.span.set_attributes(attributes)
        if error:
            self.span.set_attribute("error.type", error)
            self.span.set_status(trace.StatusCode.ERROR)
        self.span.end()

    def __enter__(self) -> Self:
        present: AbstractContextManager[object] = trace.use_span(
            self.span, record_exception=False, set_status_on_exception=False
        )
        self._entered.enter_context(present)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._entered.close()
        self.end(error="" if kind is None else getattr(error, "code", kind.__name__))


class _Quietly(SpanExporter):
    """Sends spans on, and says once that they are lost, not at every attempt."""

    def __init__(self, sender: SpanExporter, *, endpoint: str) -> None:
        self._sender = sender
        self._endpoint = endpoint
        self._lost = False

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Send spans."""
        result = self._sender.export(spans)
        failed = result is not SpanExportResult.SUCCESS
        if failed and not self._lost:
            _log.warning("traces are lost: %s does not take them; requests go on", self._endpoint)
        elif self._lost and not failed:
            _log.info("traces are sent again to %s", self._endpoint)
        self._lost = failed
        return result

    def shutdown(self) -> None:
        """Give up what is under way."""
        self._sender.shutdown()


def _context_of(parent: Span | str | None) -> Context | None:
    """What the SDK takes for a parent; None stands for the thread's present span."""
    if isinstance(parent, OtlpSpan):
        return trace.set_span_in_context(parent.span, Context())
    if isinstance(parent, str):
        return _PROPAGATOR.extract({"traceparent": parent}, Context())
    return None


def _nanoseconds(seconds: float) -> int:
    return round(seconds * 1e9)
