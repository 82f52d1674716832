"""Spans of a request's way: client, worker, client again, in one trace; nothing of it unless it is wanted."""

from __future__ import annotations

import logging
import subprocess
import sys
from collections.abc import Iterator

import pytest
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from fashion_client.client import Client
from fashion_client.submission import Submission
from handoff.contracts.envelope import traceparent_of
from handoff.contracts.errors import ExitCode, MissingPackage, SettingsInvalid
from handoff.contracts.protocols import Message
from handoff.contracts.topology import Topology
from handoff.settings import REPOSITORY
from handoff.telemetry import otlp
from handoff.telemetry.otlp import OtlpTracer
from handoff.telemetry.tracing import NO_TRACER, NoSpan, Tracer, open_tracer
from tests.answering import Incoming
from tests.fakes import FakeBroker, FakeDelivery, FakeStore, batch_of, delivery_of, images_of, upload
from tests.otlp import silent_receiver
from tests.serving import WatchedService

TRACE, PARENT = 32 * "a", 16 * "b"
PUBLISH, PROCESS, RECEIVE = (
    "publish image-analysis-requests",
    "process image-analysis-requests",
    "receive image-analysis-outputs",
)
STAGES = ("fetch", "decode", "wait", "classify", "store", "publish")


class Watched:
    """A client and a worker whose spans are kept in memory."""

    def __init__(self) -> None:
        self.kept = InMemorySpanExporter()
        self.incoming = Incoming()
        self.worker = WatchedService(tracer=self.tracer("fashion-worker"))

    def tracer(self, service: str) -> Tracer:
        """A program's tracer."""
        provider = TracerProvider(resource=Resource({"service.name": service}))
        provider.add_span_processor(SimpleSpanProcessor(self.kept))
        return OtlpTracer(provider, system="memory")

    def client(self) -> Client:
        """A client on the worker's store."""
        return Client(
            FakeBroker(self.incoming),
            store=self.worker.store,
            topology=Topology(),
            client_id="me",
            tracer=self.tracer("fashion-client"),
        )

    def answered(self, client: Client, submission: Submission) -> None:
        """Carry the last request to the worker and its response back."""
        broker = client._broker
        assert isinstance(broker, FakeBroker)
        self.worker.serve(FakeDelivery(broker.published[-1][1]))
        self.incoming.deliver(FakeDelivery(self.response()))
        submission.response(30)

    def response(self) -> Message:
        """The response that the worker published last."""
        return next(message for topic, message in self.worker.broker.published if topic == Topology().responses_topic)

    def spans(self) -> dict[str, ReadableSpan]:
        """Each span by its service and name."""
        return {
            f"{span.resource.attributes['service.name']} {span.name}": span for span in self.kept.get_finished_spans()
        }


@pytest.fixture
def watched() -> Watched:
    """A client and a worker."""
    return Watched()


def parents(spans: dict[str, ReadableSpan]) -> dict[str, str | None]:
    """Which span each one is below, by name; itself for one whose parent is elsewhere."""
    ids = {span.context.span_id: name for name, span in spans.items() if span.context}
    return {name: None if span.parent is None else ids.get(span.parent.span_id, name) for name, span in spans.items()}


def traced(delivery: FakeDelivery, traceparent: str) -> FakeDelivery:
    """The same delivery in a trace."""
    message = delivery.message
    return FakeDelivery(Message(body=message.body, attributes={**message.attributes, "traceparent": traceparent}))


def test_a_request_is_one_trace_from_the_client_to_the_client(watched: Watched) -> None:
    """What the client does until it is published, what the worker does with it, and the response's arrival."""
    with watched.client() as client:
        watched.answered(client, client.submit(images_of(1, 2), request_id="r-1"))
    spans = watched.spans()
    publish, process, receive = f"fashion-client {PUBLISH}", f"fashion-worker {PROCESS}", f"fashion-client {RECEIVE}"
    stages = dict.fromkeys((f"fashion-worker {stage}" for stage in STAGES), process)
    assert parents(spans) == {
        publish: None,
        "fashion-client encode": publish,
        "fashion-client upload": publish,
        "fashion-client publish": publish,
        process: publish,
        **stages,
        receive: process,
    }
    assert len({span.context.trace_id for span in spans.values() if span.context}) == 1


def test_the_stages_fill_the_workers_span_in_their_order(watched: Watched) -> None:
    """Each begins where the one before it ended, and all lie within it."""
    watched.worker.serve(delivery_of(upload(watched.worker.store, "r-1", batch_of(1))))
    spans = watched.spans()
    stages = [spans[f"fashion-worker {stage}"] for stage in STAGES]
    process = spans[f"fashion-worker {PROCESS}"]
    times = [time for span in stages for time in (span.start_time, span.end_time) if time is not None]
    assert times == sorted(times)
    assert process.start_time == times[0]
    assert process.end_time is not None
    assert process.end_time >= times[-1]


def test_spans_of_messages_say_what_the_conventions_want(watched: Watched) -> None:
    """Which system, which topic, which message, what was done with it."""
    with watched.client() as client:
        watched.answered(client, client.submit(images_of(1, 2), request_id="r-1"))
    spans, said = watched.spans(), {}
    for name in (f"fashion-client {PUBLISH}", f"fashion-worker {PROCESS}", f"fashion-client {RECEIVE}"):
        attributes = dict(spans[name].attributes or {})
        assert attributes["messaging.system"] == "memory"
        assert attributes["messaging.message.id"] == "r-1"
        assert attributes["messaging.client.id"] == "me"
        said[name] = (spans[name].kind.name, attributes["messaging.operation.type"])
    assert list(said.values()) == [("PRODUCER", "send"), ("CONSUMER", "process"), ("CONSUMER", "receive")]
    process = spans[f"fashion-worker {PROCESS}"].attributes or {}
    assert {name: process[f"fashion.{name}"] for name in ("outcome", "attempt", "image_count")} == {
        "outcome": "succeeded",
        "attempt": 1,
        "image_count": 2,
    }


def test_a_request_published_again_is_a_trace_of_its_own(watched: Watched) -> None:
    """For what came of the first one is not known."""
    with watched.client() as client:
        client.submit_again(client.submit(images_of(1)))
    published = [span for span in watched.kept.get_finished_spans() if span.name == PUBLISH]
    assert len({span.context.trace_id for span in published if span.context}) == 2


def test_steps_taken_one_by_one_are_one_trace_too(watched: Watched) -> None:
    """For whoever does something between them; a step outside of it leaves no trace of its own."""
    with watched.client() as client:
        client.prepare(batch_of(1), request_id="r-1")
        assert watched.spans() == {}
        with client.sending("r-1") as span:
            prepared = client.prepare(batch_of(1), request_id="r-1")
            client.upload(prepared)
            client.publish(prepared.request, span=span)
        client.publish(prepared.request)
    names = [span.name for span in watched.kept.get_finished_spans()]
    assert names == ["encode", "upload", "publish", PUBLISH, "publish", PUBLISH]
    assert len({span.context.trace_id for span in watched.kept.get_finished_spans() if span.context}) == 2


def test_what_goes_wrong_is_an_error_of_its_span(watched: Watched) -> None:
    """With the code of the response or of the log; what is retried has no span of publishing."""
    watched.worker.serve(delivery_of(upload(watched.worker.store, "r-1", batch_of(1), model="other")))
    refused = watched.spans()[f"fashion-worker {PROCESS}"]
    assert (refused.status.status_code.name, (refused.attributes or {})["error.type"]) == ("ERROR", "unknown_model")
    watched.kept.clear()
    watched.worker.store.failures = 1
    watched.worker.serve(delivery_of(upload(FakeStore(), "r-2", batch_of(1))))
    (retried,) = watched.kept.get_finished_spans()
    assert (retried.attributes or {})["error.type"] == "store_unavailable"


def test_an_upload_that_fails_is_an_error_of_its_span(watched: Watched) -> None:
    """And of the request's."""
    watched.worker.store.failures = 1
    with watched.client() as client, pytest.raises(Exception, match="did not answer"):
        client.submit(images_of(1))
    found = {name: (span.attributes or {}).get("error.type") for name, span in watched.spans().items()}
    assert found == {
        "fashion-client encode": None,
        "fashion-client upload": "store_unavailable",
        f"fashion-client {PUBLISH}": "store_unavailable",
    }


def test_a_parent_that_is_not_sampled_has_no_spans(watched: Watched) -> None:
    """The trace goes on in the response, as little sampled as it was."""
    request = upload(watched.worker.store, "r-1", batch_of(1))
    watched.worker.serve(traced(delivery_of(request), f"00-{TRACE}-{PARENT}-00"))
    assert watched.kept.get_finished_spans() == ()
    version, trace, parent, flags = (traceparent_of(watched.response()) or "").split("-")
    assert (version, trace) == ("00", TRACE)
    assert parent != 16 * "0"
    assert int(flags, 16) & 1 == 0


def test_a_response_names_the_workers_span(watched: Watched) -> None:
    """In the request's trace."""
    request = upload(watched.worker.store, "r-1", batch_of(1))
    watched.worker.serve(traced(delivery_of(request), f"00-{TRACE}-{PARENT}-01"))
    process = watched.spans()[f"fashion-worker {PROCESS}"]
    assert process.context is not None
    found = (traceparent_of(watched.response()) or "").split("-")
    assert found[1:3] == [TRACE, f"{process.context.span_id:016x}"]


@pytest.mark.parametrize("traceparent", [f"00-{TRACE}-{PARENT}-01", f"00-{TRACE}-{PARENT}-00", None])
def test_without_telemetry_a_response_repeats_the_trace(traceparent: str | None) -> None:
    """As it was; where there was none, there is none."""
    service = WatchedService()
    delivery = delivery_of(upload(service.store, "r-1", batch_of(1)))
    service.serve(delivery if traceparent is None else traced(delivery, traceparent))
    ((_, response),) = service.broker.published
    assert response.attributes.get("traceparent") == traceparent


def test_without_telemetry_a_request_begins_a_trace() -> None:
    """So that a worker which is watched can be followed."""
    broker = FakeBroker(Incoming())
    with Client(broker, store=FakeStore(), topology=Topology(), client_id="me") as client:
        client.submit(images_of(1))
    assert (traceparent_of(broker.published[0][1]) or "").endswith("-01")


def test_without_an_endpoint_nothing_is_made() -> None:
    """The null tracer hands on what there is, and has nothing to close."""
    tracer = open_tracer("", service="s", instance="i", broker_url="embedded:q.db")
    assert tracer is NO_TRACER
    with tracer.span("a", parent="x") as span:
        assert (span.traceparent, span.is_recording) == ("x", False)
        assert tracer.span("b", parent=span).traceparent == "x"
    assert isinstance(tracer.span("c"), NoSpan)
    tracer.record("d", parent=span, started_at_s=0.0, ended_at_s=1.0)
    tracer.close()


def test_programs_import_no_vendor_unasked() -> None:
    """Neither OpenTelemetry nor Prometheus nor a web server, in a client or in a worker."""
    look = "import sys, fashion_client.client, ml_server.image_classification_service; print(*sys.modules)"
    found = subprocess.run(
        [sys.executable, "-c", look], cwd=REPOSITORY, capture_output=True, text=True, check=True
    ).stdout.split()
    assert "handoff.telemetry.tracing" in found
    assert set(found) & {"opentelemetry", "prometheus_client", "http.server", "ml_server.health"} == set()


@pytest.mark.parametrize("endpoint", ["127.0.0.1:4318", "grpc://127.0.0.1:4317", "http://", "collector"])
def test_an_endpoint_that_is_none_is_refused(endpoint: str) -> None:
    """The sentence names the setting and shows one."""
    with pytest.raises(SettingsInvalid, match=r"telemetry.endpoint is .* such as http://127.0.0.1:4318"):
        open_tracer(endpoint, service="s", instance="i", broker_url="embedded:q.db")


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """With what it is needed for."""
    monkeypatch.setitem(sys.modules, "opentelemetry", None)
    monkeypatch.delitem(sys.modules, "handoff.telemetry.otlp")
    with pytest.raises(MissingPackage, match=r"'opentelemetry' is needed for traces .telemetry.endpoint.") as missing:
        open_tracer("http://127.0.0.1:4318", service="s", instance="i", broker_url="embedded:q.db")
    assert missing.value.exit_code == ExitCode.MISSING_PACKAGE


class Failing(SpanExporter):
    """Takes spans or does not."""

    def __init__(self) -> None:
        self.results: list[SpanExportResult] = []

    def export(self, spans: object) -> SpanExportResult:
        """Answer as the test says."""
        del spans
        return self.results.pop(0)

    def shutdown(self) -> None:
        """Nothing to end."""


def test_lost_traces_are_said_once(caplog: pytest.LogCaptureFixture) -> None:
    """A warning when it begins and a line when it is over, however many attempts there were."""
    caplog.set_level(logging.INFO)
    failing = Failing()
    quietly = otlp._Quietly(failing, endpoint="http://c:4318")
    failure, success = SpanExportResult.FAILURE, SpanExportResult.SUCCESS
    failing.results = [success, failure, failure, failure, success, failure]
    for _ in range(6):
        quietly.export([])
    assert [record.levelname for record in caplog.records] == ["WARNING", "INFO", "WARNING"]
    assert "http://c:4318 does not take them; requests go on" in caplog.text


@pytest.fixture
def quiet_vendor() -> Iterator[None]:
    """The vendor's log goes back to where it was."""
    log = logging.getLogger("opentelemetry")
    level = log.level
    yield
    log.setLevel(level)


@pytest.mark.usefixtures("quiet_vendor")
def test_an_endpoint_that_never_answers_costs_no_request(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every request is sent and answered, more spans than are kept are made, and closing is bounded."""
    monkeypatch.setattr(otlp, "CLOSE_WITHIN_S", 0.05)
    with silent_receiver() as endpoint:
        tracer = open_tracer(endpoint, service="s", instance="i", broker_url="pubsub://p")
        service = WatchedService(tracer=tracer)
        deliveries = [delivery_of(upload(service.store, f"r-{number}", batch_of(1))) for number in range(400)]
        service.serve(*deliveries)
        tracer.close()
    assert all(delivery.ends == ["ack"] for delivery in deliveries)
