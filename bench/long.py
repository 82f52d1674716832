"""`make bench-long`: what a backlog of a million requests and a day of small ones cost, on the embedded broker.

Its figures go into build/bench.json beside those of `make bench`, and stay there until the next time.
"""

from __future__ import annotations

import argparse
import hashlib
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from deployments import declared
from figures import Figures
from loads import sample_images
from processes import ROOT, running_worker

from handoff.brokers.urls import open_broker
from handoff.contracts.batches import Batch, encode_batch
from handoff.contracts.envelope import request_message
from handoff.contracts.messages import AnalysisRequest
from handoff.contracts.objects import batch_uri
from handoff.contracts.protocols import Broker, Message
from handoff.settings import Settings, load_settings
from handoff.stores.urls import open_store

SHALLOW, DEEP = 1_000, 1_000_000
FEW, MANY = 1_000, 100_000
# Requests at both ends of a thousand that are not timed: the worker's first, and the last, when it runs dry.
SETTLING = 100
# Futures of publications that wait for the disk together.
PUBLISHED_AT_ONCE = 2_000
POLL_S = 0.02


class Queue:
    """An embedded broker and its store in a folder of their own, fed with requests for one image."""

    def __init__(self, folder: Path) -> None:
        flags = {"broker": f"embedded://{folder}/queue.db", "store": f"file://{folder}/store"}
        self.settings: Settings = declared(load_settings(flags=flags).settings)
        self.file = folder / "queue.db"
        self._broker: Broker = open_broker(self.settings.broker, self.settings.topology)
        self._request = self._store_batch()

    def close(self) -> None:
        """Let the file go."""
        self._broker.close()

    def publish(self, count: int) -> None:
        """Publish so many requests, each with an id of its own, for one and the same stored batch."""
        for start in range(0, count, PUBLISHED_AT_ONCE):
            waiting: list[Future[str]] = [
                self._broker.publish(self.settings.topology.requests_topic, self._message())
                for _ in range(min(PUBLISHED_AT_ONCE, count - start))
            ]
            for published in waiting:
                published.result()
            if count > PUBLISHED_AT_ONCE:
                _show(start + len(waiting), count)

    def waiting(self) -> int:
        """Requests not yet acked."""
        return self._broker.backlog(self.settings.topology.requests).count or 0

    def work_off(self, log_path: Path) -> float:
        """Run a worker until it has answered nearly a thousand requests of those that wait: requests a second."""
        begin, end = self.waiting() - SETTLING, self.waiting() - SHALLOW + SETTLING
        with running_worker(self.settings, log_path):
            started_at, before = self._wait_for(begin)
            ended_at, after = self._wait_for(end)
        return (before - after) / (ended_at - started_at)

    def _wait_for(self, most: int) -> tuple[float, int]:
        while (left := self.waiting()) > most:
            time.sleep(POLL_S)
        return time.perf_counter(), left

    def _store_batch(self) -> AnalysisRequest:
        store = open_store(self.settings.store)
        data = encode_batch(Batch(sample_images(1)[..., None], ["0"], None), format="csv")
        uri = batch_uri(store.root, "shared", "csv")
        store.create(uri, data)
        checksum = f"sha256:{hashlib.sha256(data).hexdigest()}"
        return AnalysisRequest(request_id="shared", batch_uri=uri, format="csv", image_count=1, checksum=checksum)

    def _message(self) -> Message:
        request = AnalysisRequest(
            request_id=uuid.uuid4().hex,
            batch_uri=self._request.batch_uri,
            format=self._request.format,
            image_count=self._request.image_count,
            checksum=self._request.checksum,
        )
        return request_message(request, client_id="bench-long", now=datetime.now(UTC))


@contextmanager
def opened_queue() -> Iterator[Queue]:
    """Yield a queue in a temporary folder."""
    with tempfile.TemporaryDirectory() as folder:
        queue = Queue(Path(folder))
        try:
            yield queue
        finally:
            queue.close()


def measure_depth(figures: Figures, *, deep: int, runs: int, log_path: Path) -> None:
    """Work off a thousand requests of a thousand, then a thousand of a million, in turn."""
    with ExitStack() as stack:
        queues = {name: stack.enter_context(opened_queue()) for name in ("1e3", "1e6")}
        print(f"publishing {deep:,} requests", file=sys.stderr)
        queues["1e6"].publish(deep)
        file_mb = queues["1e6"].file.stat().st_size / 1e6
        figures.add("backlog_1e6_file_mb", f"queue file of {deep:,} requests", "MB", file_mb)
        for run in range(runs):
            print(f"round {run + 1} of {runs}", file=sys.stderr)
            queues["1e3"].publish(SHALLOW - queues["1e3"].waiting())
            for name, depth in (("1e3", SHALLOW), ("1e6", deep)):
                rate = queues[name].work_off(log_path)
                what = f"one-image requests at a backlog of {depth:,}"
                figures.add(f"backlog_{name}_requests_per_s", what, "1/s", rate)
    what = f"throughput at a backlog of {deep:,} ÷ at {SHALLOW:,}"
    figures.add_ratio("backlog_1e6_over_1e3", what, "backlog_1e6_requests_per_s", "backlog_1e3_requests_per_s")


def measure_memory(figures: Figures, *, many: int, log_path: Path) -> None:
    """One worker's memory after a thousand requests, and after many more."""
    with opened_queue() as queue, running_worker(queue.settings, log_path) as worker:
        queue.publish(FEW)
        _wait_until_empty(queue)
        first_mb = worker.rss_mb()
        print(f"serving {many:,} requests", file=sys.stderr)
        for start in range(FEW, many, PUBLISHED_AT_ONCE):
            queue.publish(min(PUBLISHED_AT_ONCE, many - start))
            _wait_until_empty(queue)
            _show(start + PUBLISHED_AT_ONCE, many)
        last_mb = worker.rss_mb()
    figures.add("rss_1e3_mb", f"worker's memory after {FEW:,} requests", "MB", first_mb)
    figures.add("rss_1e5_mb", f"worker's memory after {many:,} requests", "MB", last_mb)
    figures.add_ratio("rss_1e5_over_1e3", "the latter ÷ the former", "rss_1e5_mb", "rss_1e3_mb")


def _wait_until_empty(queue: Queue) -> None:
    while queue.waiting():
        time.sleep(POLL_S)


def _show(done: int, total: int) -> None:
    step = max(PUBLISHED_AT_ONCE, total // 10)
    if done % step < PUBLISHED_AT_ONCE:
        print(f"{min(done, total):,} of {total:,}", file=sys.stderr)


def main() -> None:
    """Measure, print the table, write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=5, help="rounds of the backlogs (default 5)")
    parser.add_argument("--deep", type=int, default=DEEP, help="requests of the deep backlog (default a million)")
    parser.add_argument("--many", type=int, default=MANY, help="requests of the long run (default 100,000)")
    parser.add_argument("--output", type=Path, default=ROOT / "build" / "bench.json")
    arguments = parser.parse_args()
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    figures, log_path = Figures(), arguments.output.parent / "bench-long.log"
    measure_depth(figures, deep=arguments.deep, runs=arguments.runs, log_path=log_path)
    measure_memory(figures, many=arguments.many, log_path=log_path)
    figures.print_table()
    figures.write(arguments.output)


if __name__ == "__main__":
    main()
