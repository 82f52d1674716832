"""A delivery's spans, made when its outcome is known from the times that its stages took."""

from __future__ import annotations

import time

from handoff.contracts.envelope import client_id_of, traceparent_of
from handoff.telemetry.tracing import Span, Tracer, messaging_attributes
from ml_server.recording import End
from ml_server.work import Work

# Entries of a work's times that are no stage of its way through this worker.
_NO_STAGES = {"queued", "total"}


def begin_process(tracer: Tracer, work: Work, *, topic: str) -> Span:
    """Begin the span of a delivery at the moment it was pulled, with its stages up to now below it."""
    received = work.received
    attributes = messaging_attributes(
        "process",
        topic=topic,
        request_id=received.request.request_id if received else None,
        client_id=client_id_of(work.delivery.message),
    )
    # The work's own clock has no date.
    pulled_at_s = time.time() - (time.perf_counter() - work.pulled_at)
    span = tracer.span(
        f"process {topic}",
        kind="consumer",
        parent=traceparent_of(work.delivery.message),
        started_at_s=pulled_at_s,
        attributes=attributes,
    )
    if span.is_recording:
        _record_stages(tracer, work, parent=span, began_at_s=pulled_at_s)
    return span


def end_process(tracer: Tracer, work: Work, end: End) -> None:
    """End a delivery's span, with that of the publishing since it was settled."""
    if not work.span.is_recording:
        return
    if end.outcome != "retry":  # then nothing was published
        now_s = time.time()
        settled_at_s = now_s - (time.perf_counter() - work.ended_at)
        tracer.record("publish", parent=work.span, started_at_s=settled_at_s, ended_at_s=now_s)
    attributes: dict[str, str | int] = {"fashion.outcome": end.outcome, "fashion.attempt": work.delivery.attempt}
    attributes |= {"fashion.image_count": work.received.request.image_count} if work.received else {}
    work.span.end(error=end.code, attributes=attributes)


def _record_stages(tracer: Tracer, work: Work, *, parent: Span, began_at_s: float) -> None:
    """The stages follow each other without a gap: each lap begins where the one before it ended."""
    # A copy: another part of its images may be under way still.
    for stage, milliseconds in dict(work.timings_ms).items():
        if stage not in _NO_STAGES:
            ended_at_s = began_at_s + milliseconds / 1e3
            tracer.record(stage, parent=parent, started_at_s=began_at_s, ended_at_s=ended_at_s)
            began_at_s = ended_at_s
