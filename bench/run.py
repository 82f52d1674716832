"""`make bench`: what the service costs beside its classifier, on this machine, as one table and build/bench.json.

Every ratio is of two figures measured alternately in this run; every figure is the median of its runs.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import numpy as np
from processes import ROOT, bare_rate, running_worker

from fashion_client.client import Client
from fashion_client.sources import SAMPLE_IMAGES
from handoff.brokers.urls import open_broker
from handoff.contracts.idx import decode_idx
from handoff.settings import Settings, load_settings
from handoff.stores.urls import open_store
from tests import servers

IMAGES_PER_REQUEST = 1_000
BACKLOG_REQUESTS = 40
LATENCY_REQUESTS = 200
RESULT_TIMEOUT_S = 120.0


@dataclass(frozen=True)
class Figure:
    """One line of the table."""

    key: str
    what: str
    unit: str
    runs: Sequence[float]

    @property
    def value(self) -> float:
        """The median."""
        return statistics.median(self.runs)


@contextmanager
def deployments() -> Iterator[dict[str, dict[str, str]]]:
    """Yield settings' flags by deployment: embedded always, the Google one where its servers can be started."""
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        found = {"embedded": {"broker": f"embedded://{folder}/queue.db", "store": f"file://{folder}/store"}}
        try:
            os.environ["PUBSUB_EMULATOR_HOST"] = stack.enter_context(servers.pubsub_emulator())
            os.environ["STORAGE_EMULATOR_HOST"] = stack.enter_context(servers.storage_server())
            found["pubsub"] = {"broker": "pubsub://bench", "store": "gs://bench-store/bench"}
        except servers.ServerAbsent as reason:
            print(f"left out: {reason}", file=sys.stderr)
        yield found


def declare(settings: Settings) -> None:
    """Make what the deployment needs."""
    open_store(settings.store).declare()
    broker = open_broker(settings.broker, settings.topology)
    broker.declare(settings.topology)
    broker.close()


def end_to_end(settings: Settings, images: np.ndarray, log_path: Path) -> tuple[float, float, float]:
    """Publish a backlog, start one worker, receive every result: images a second from ready to the last response.

    Also the seconds from start to ready, and the worker's resident memory in MB at the end.
    """
    with Client.open(settings.broker, settings.store, topology=settings.topology) as client:
        submissions = [client.submit(images) for _ in range(BACKLOG_REQUESTS)]
        with running_worker(settings, log_path) as worker:
            for submission in submissions:
                submission.result(RESULT_TIMEOUT_S)
            rate = BACKLOG_REQUESTS * len(images) / (time.perf_counter() - worker.ready_at)
            return rate, worker.ready_s, worker.rss_mb()


def latencies_ms(settings: Settings, image: np.ndarray, log_path: Path) -> list[float]:
    """Send one-image requests one at a time to an idle worker: milliseconds from submit to result of each."""
    measured = []
    with (
        Client.open(settings.broker, settings.store, topology=settings.topology) as client,
        running_worker(settings, log_path),
    ):
        for _ in range(LATENCY_REQUESTS):
            started_at = time.perf_counter()
            client.submit(image).result(RESULT_TIMEOUT_S)
            measured.append((time.perf_counter() - started_at) * 1e3)
    return measured


def measure(name: str, flags: dict[str, str], *, runs: int, log_path: Path) -> Iterator[Figure]:
    """Yield one deployment's figures, the bare classifier measured before each of its runs."""
    settings = load_settings(flags=flags).settings
    declare(settings)
    images = decode_idx(SAMPLE_IMAGES.read_bytes(), name="sample")[:IMAGES_PER_REQUEST]
    bare, rates, ready, rss = [], [], [], []
    for run in range(runs):
        print(f"{name}: run {run + 1} of {runs}", file=sys.stderr)
        bare.append(bare_rate(settings, BACKLOG_REQUESTS * IMAGES_PER_REQUEST))
        rate, ready_s, rss_mb = end_to_end(settings, images, log_path)
        rates.append(rate)
        ready.append(ready_s)
        rss.append(rss_mb)
    ratios = [rate / alone for rate, alone in zip(rates, bare, strict=True)]
    yield Figure(f"{name}_bare_images_per_s", "bare classifier", "images/s", bare)
    yield Figure(f"{name}_1000_images_per_s", "end to end, 1,000 images a request, CSV, one worker", "images/s", rates)
    yield Figure(f"{name}_1000_over_bare", "end to end / bare", "ratio", ratios)
    yield Figure(f"{name}_ready_s", "worker start to ready", "s", ready)
    yield Figure(f"{name}_rss_mb", "worker resident memory after the run", "MB", rss)
    latencies = latencies_ms(settings, images[:1], log_path)
    yield Figure(f"{name}_latency_p50_ms", f"one-image request, p50 of {LATENCY_REQUESTS}", "ms", latencies)
    yield Figure(f"{name}_latency_p99_ms", "one-image request, p99", "ms", [float(np.percentile(latencies, 99))])


def main() -> None:
    """Measure, print the table, write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=5, help="runs of each figure (default 5)")
    parser.add_argument("--output", type=Path, default=ROOT / "build" / "bench.json")
    arguments = parser.parse_args()
    figures: list[Figure] = []
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    with deployments() as found:
        for name, flags in found.items():
            log_path = arguments.output.parent / f"bench-{name}.log"
            figures += measure(name, flags, runs=arguments.runs, log_path=log_path)
    cores = len(os.sched_getaffinity(0))
    print(
        f"\n{platform.machine()}, {cores} cores, Python {platform.python_version()}; medians of {arguments.runs} runs\n"
    )
    print("| figure | key | median | min | max | unit |\n| --- | --- | ---: | ---: | ---: | --- |")
    for figure in figures:
        low, high = min(figure.runs), max(figure.runs)
        print(f"| {figure.what} | `{figure.key}` | {figure.value:,.3g} | {low:,.3g} | {high:,.3g} | {figure.unit} |")
    written = {
        figure.key: {"value": figure.value, "unit": figure.unit, "runs": [round(run, 4) for run in figure.runs]}
        for figure in figures
    }
    arguments.output.write_text(json.dumps(written, indent=1))


if __name__ == "__main__":
    main()
