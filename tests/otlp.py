"""A receiver of traces: OTLP over HTTP on a port of this machine, the spans kept in memory."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import KeyValue


@dataclass(frozen=True)
class ReceivedSpan:
    """A span as it arrived; `service` is of the program that sent it."""

    service: str
    instance: str
    name: str
    kind: int
    trace_id: str
    span_id: str
    parent_id: str
    started_ns: int
    ended_ns: int
    is_error: bool
    attributes: dict[str, str | int]

    @property
    def milliseconds(self) -> float:
        """How long it took."""
        return (self.ended_ns - self.started_ns) / 1e6


@dataclass
class Receiver:
    """What has arrived so far."""

    endpoint: str
    spans: list[ReceivedSpan] = field(default_factory=list)

    def children(self, of: str, *, spans: list[ReceivedSpan] | None = None) -> list[ReceivedSpan]:
        """The spans below another, in the order in which they began."""
        found = [span for span in (self.spans if spans is None else spans) if span.parent_id == of]
        return sorted(found, key=lambda span: span.started_ns)

    def named(self, name: str) -> list[ReceivedSpan]:
        """The spans of a name."""
        return [span for span in list(self.spans) if span.name == name]


@contextmanager
def otlp_receiver() -> Iterator[Receiver]:
    """Receive until the block ends."""
    receiver = Receiver("")

    class Request(BaseHTTPRequestHandler):
        """One export."""

        def do_POST(self) -> None:
            """Keep its spans."""
            sent = ExportTraceServiceRequest.FromString(self.rfile.read(int(self.headers["Content-Length"])))
            receiver.spans.extend(_spans(sent))
            self.send_response(200)
            self.send_header("Content-Type", "application/x-protobuf")
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            """Nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Request) as server:
        receiver.endpoint = f"http://127.0.0.1:{server.server_port}"
        threading.Thread(target=server.serve_forever, name="otlp", daemon=True).start()
        try:
            yield receiver
        finally:
            server.shutdown()


@contextmanager
def silent_receiver() -> Iterator[str]:
    """An endpoint that takes connections and never answers, until the block ends."""
    ended = threading.Event()

    class Request(BaseHTTPRequestHandler):
        """One export."""

        def do_POST(self) -> None:
            """Say nothing."""
            ended.wait(60)

        def log_message(self, format: str, *args: object) -> None:
            """Nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Request) as server:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, name="silent", daemon=True).start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            ended.set()
            server.shutdown()


def wait_for_spans(receiver: Receiver, names: set[str], *, within_s: float = 30.0) -> None:
    """Wait until a span of each name is here: they are sent in batches, every few seconds."""
    deadline = time.monotonic() + within_s
    while missing := names - {span.name for span in list(receiver.spans)}:
        if time.monotonic() > deadline:
            raise TimeoutError(f"no span {', '.join(sorted(missing))} within {within_s} s")
        time.sleep(0.02)


def _spans(sent: ExportTraceServiceRequest) -> Iterator[ReceivedSpan]:
    for group in sent.resource_spans:
        resource = _attributes(group.resource.attributes)
        for span in (span for scope in group.scope_spans for span in scope.spans):
            yield ReceivedSpan(
                service=str(resource["service.name"]),
                instance=str(resource["service.instance.id"]),
                name=span.name,
                kind=span.kind,
                trace_id=span.trace_id.hex(),
                span_id=span.span_id.hex(),
                parent_id=span.parent_span_id.hex(),
                started_ns=span.start_time_unix_nano,
                ended_ns=span.end_time_unix_nano,
                is_error=span.status.code == span.status.STATUS_CODE_ERROR,
                attributes=_attributes(span.attributes),
            )


def _attributes(pairs: list[KeyValue]) -> dict[str, str | int]:
    return {pair.key: getattr(pair.value, pair.value.WhichOneof("value")) for pair in pairs}
