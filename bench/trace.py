"""One request of 100 images as a tree of spans: `python bench/trace.py`.

Starts an OTLP receiver and a worker on the embedded broker, warms both up with a request, and shows the next one.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from loads import sample_images
from processes import running_worker

from fashion_client.client import Client
from handoff.settings import Settings, load_settings
from tests.otlp import ReceivedSpan, Receiver, otlp_receiver

IMAGES = 100
WITHIN_S = 60.0


def main() -> None:
    """Print the tree."""
    with tempfile.TemporaryDirectory() as folder, otlp_receiver() as receiver:
        flags = {"broker": f"embedded://{folder}/queue.db", "store": f"file://{folder}/store", "log_format": "text"}
        settings = load_settings(flags={**flags, "telemetry.endpoint": receiver.endpoint}).settings
        print(
            f"Starting a worker, then sending {IMAGES} images twice; its spans come when it is drained ...", flush=True
        )
        with running_worker(settings, Path(folder, "worker.log")):
            request_id = _send(settings)
        root = next(span for span in receiver.spans if span.attributes.get("messaging.message.id") == request_id)
        trace = [span for span in receiver.spans if span.trace_id == root.trace_id]
        print(f"\nrequest {request_id}, trace {root.trace_id}, {len(trace)} spans\n")
        print(f"{'span':<52}{'service':<17}{'began, ms':>10}{'took, ms':>10}")
        for line in _lines(receiver, trace, parent_id="", depth=0, began_ns=min(span.started_ns for span in trace)):
            print(line)


def _send(settings: Settings) -> str:
    with Client.open(settings.broker, settings.store, telemetry_endpoint=settings.telemetry.endpoint) as client:
        client.submit(sample_images(IMAGES)).result(WITHIN_S)
        return client.submit(sample_images(IMAGES)).result(WITHIN_S).request_id


def _lines(
    receiver: Receiver, trace: list[ReceivedSpan], *, parent_id: str, depth: int, began_ns: int
) -> Iterator[str]:
    for span in receiver.children(parent_id, spans=trace):
        after_ms = (span.started_ns - began_ns) / 1e6
        yield f"{'  ' * depth + span.name:<52}{span.service:<17}{after_ms:>10.2f}{span.milliseconds:>10.2f}"
        yield from _lines(receiver, trace, parent_id=span.span_id, depth=depth + 1, began_ns=began_ns)


if __name__ == "__main__":
    main()
