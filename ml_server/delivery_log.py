"""The one line in the log that each delivery gets, whatever becomes of it."""

from __future__ import annotations

import logging
import time

from handoff.brokers.dead_letters import MAX_REASON_CHARACTERS
from handoff.contracts.envelope import client_id_of
from handoff.contracts.sentences import without_credentials
from ml_server.recording import End
from ml_server.work import Work

_log = logging.getLogger(__name__)


def log_end(work: Work, end: End, *, worker: str) -> None:
    """Write a delivery's line: `key=value` pairs, and the same as fields for whoever writes JSON."""
    if not _log.isEnabledFor(logging.INFO):
        return
    fields = _fields(work, end) | {"worker": worker}
    _log.info(_text(fields), extra={"event": "delivery", "fields": fields})


def _fields(work: Work, end: End) -> dict[str, object]:
    traceparent = work.span.traceparent
    fields: dict[str, object] = {
        "request_id": work.received.request.request_id if work.received else "?",
        "client_id": client_id_of(work.delivery.message),
        "attempt": work.delivery.attempt,
        "images": work.received.request.image_count if work.received else 0,
        "total_ms": round((time.perf_counter() - work.pulled_at) * 1e3, 1),
        "trace_id": traceparent.split("-")[1] if traceparent else None,
        "outcome": end.outcome,
        "delay_s": None if end.delay_s is None else round(end.delay_s, 1),
        "code": end.code or None,
        "reason": _shown(end.reason) or None,
    }
    return {name: value for name, value in fields.items() if value is not None}


def _text(fields: dict[str, object]) -> str:
    names = {"request_id": "request", "trace_id": "trace"}
    left_out = {"client_id", "worker"}
    shown = {names.get(name, name): value for name, value in fields.items() if name not in left_out}
    return " ".join(f"{name}={value!r}" if name == "reason" else f"{name}={value}" for name, value in shown.items())


def _shown(reason: str) -> str:
    """A reason may quote what a stranger sent: no credentials, and no more of it than a dead letter says."""
    # Cut twice: what is looked through is bounded too.
    return without_credentials(reason[: 4 * MAX_REASON_CHARACTERS], mask="…")[:MAX_REASON_CHARACTERS]
