"""`make bench`: what the service costs beside its classifier, on this machine, as one table and build/bench.json.

What ratios are made of is measured once a round, in turn; everything else in every third. Every figure is the
median of its runs; each run of a ratio is of two figures of one round. Latencies are of single requests, after them.
"""

from __future__ import annotations

import argparse
import itertools
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import numpy as np
from deployments import afresh, beside, deployments
from figures import Figures
from loads import Load, latencies_at_rate_ms, latencies_ms, opened_client, upload_meanwhile, work_off
from processes import (
    REFERENCE,
    ROOT,
    RunningWorker,
    bare_classifier,
    running_worker,
    running_workers,
    workers_on_cores,
)

from fashion_client.client import Client
from handoff.contracts.messages import PayloadFormat
from handoff.settings import Settings

# The load that the ratios are of: seconds of work, so that its beginning and its end do not show.
MAIN = Load(1_000, 55)
# Requests of the other loads.
REQUESTS = {1: 120, 10: 60, 100: 30, 1_000: 10, 10_000: 2}
# What no ratio is made of is measured in every third round, with half as many small requests.
EVERYTHING_EVERY = 3
# The plain worker classifies under ten single images a second, and 1,400 where they come in thousands.
REFERENCE_LOADS = (Load(1, 20), Load(1_000, 5))
# On one core, then on two: each takes seconds, so that it hardly shows who ends last.
SCALING = {1: Load(1_000, 20), 2: Load(1_000, 50)}
UNLOADED_REQUESTS = 200
LATENCY_SECONDS = 3.0
HIGHEST = Load(1, 200)
LOADS_PERCENT = (80, 50, 1)
# At a hundredth of the highest rate few requests come in that time.
LEAST_REQUESTS = 10
PERCENTILES = (50, 95, 99)


class Deployment:
    """One deployment under measurement."""

    def __init__(
        self, name: str, settings: Settings, *, bare_s: Callable[[int], float], figures: Figures, folder: Path
    ) -> None:
        """`bare_s` has the classifier alone classify so many images, and says how long it took."""
        self._name = name
        self._settings = settings
        self._bare_s = bare_s
        self._figures = figures
        self._log_path = folder / f"bench-{name}.log"
        self._starts = itertools.count()

    def measure_one_worker(self, *, everything: bool) -> None:
        """Backlogs in CSV on one worker; with `everything` also in npy, and with the client uploading meanwhile."""
        settings = self._afresh()
        with running_worker(settings, self._log_path) as worker, opened_client(settings) as client:
            self._add("ready_s", "worker start to ready", "s", worker.ready_s)
            self._measure_main(client, settings, worker)
            for size, requests in REQUESTS.items():
                if size != MAIN.images_per_request:
                    self._work_off(client, settings, [worker], Load(size, requests))
            for load in _lighter("npy") if everything else ():
                self._work_off(client, settings, [worker], load)
            for load in _lighter("csv") if everything else ():
                rate = load.image_count / upload_meanwhile(client, load)
                self._add_rate(load, rate, suffix="_uploading", how=", client uploading meanwhile")
            if everything:
                self._add("largest_rss_mb", "worker's memory after all loads", "MB", worker.rss_mb())

    def measure_two_workers(self) -> None:
        """Every load in CSV as a backlog of two workers that share the cores."""
        settings = self._afresh()
        with running_workers(settings, self._log_path, count=2) as workers, opened_client(settings) as client:
            for load in _lighter("csv"):
                self._work_off(client, settings, workers, load)

    def measure_scaling(self) -> None:
        """A worker on one core, then one on each of two."""
        cores = sorted(os.sched_getaffinity(0))[: max(SCALING)]
        for count in range(1, len(cores) + 1):
            load = SCALING[count]
            with (
                workers_on_cores(self._settings, self._log_path, cores=cores[:count]) as workers,
                opened_client(self._settings) as client,
            ):
                rate = load.image_count / work_off(client, self._settings, workers, load)
            what = f"{_described(load)}, {count} worker(s) of one core each"
            self._add(f"1000_on_{count}_cores_images_per_s", what, "images/s", rate)

    def measure_reference(self, settings: Settings, worker: RunningWorker) -> None:
        """The plain worker, which is running on topics of its own."""
        with opened_client(settings) as client:
            for load in REFERENCE_LOADS:
                rate = load.image_count / work_off(client, settings, [worker], load)
                key = f"reference_{load.images_per_request}_images_per_s"
                self._add(key, f"plain worker, {_described(load)}", "images/s", rate)

    def measure_latencies(self) -> None:
        """One-image requests to one worker, unloaded and at shares of the highest rate that is kept up."""
        settings = self._afresh()
        with running_worker(settings, self._log_path), opened_client(settings) as client:
            latencies_ms(client, count=UNLOADED_REQUESTS // 10, within_s=1.0)
            unloaded = latencies_ms(client, count=UNLOADED_REQUESTS, within_s=LATENCY_SECONDS)
            self._add_percentiles("latency", "unloaded", unloaded)
            highest = HIGHEST.requests / upload_meanwhile(client, HIGHEST)
            self._add("highest_requests_per_s", f"{_described(HIGHEST)}, {HIGHEST.requests} in a row", "1/s", highest)
            for percent in LOADS_PERCENT:
                rate = highest * percent / 100
                seconds = max(LATENCY_SECONDS, LEAST_REQUESTS / rate)
                measured = latencies_at_rate_ms(client, rate=rate, seconds=seconds)
                how = f"at {percent} % of the highest rate ({rate:.0f}/s)"
                self._add_percentiles(f"latency_at_{percent}_percent", how, measured)

    def _afresh(self) -> Settings:
        return afresh(self._settings, str(next(self._starts)))

    def _measure_main(self, client: Client, settings: Settings, worker: RunningWorker) -> None:
        """The main load, and the classifier alone before and after it, for the machine's speed drifts."""
        half = MAIN.image_count // 2
        bare_s = self._bare_s(half)
        before_s = worker.cpu_s()
        self._add_rate(MAIN, MAIN.image_count / work_off(client, settings, [worker], MAIN))
        micro_s = (worker.cpu_s() - before_s) / MAIN.image_count * 1e6
        bare_s += self._bare_s(half)
        self._add("bare_images_per_s", "bare classifier", "images/s", 2 * half / bare_s)
        self._add("1000_cpu_us_per_image", f"worker's processor time, {_described(MAIN)}", "µs/image", micro_s)
        self._add("rss_mb", f"worker's memory after {_described(MAIN)}", "MB", worker.rss_mb())

    def _work_off(self, client: Client, settings: Settings, workers: list[RunningWorker], load: Load) -> None:
        rate = load.image_count / work_off(client, settings, workers, load)
        if len(workers) == 1:
            self._add_rate(load, rate)
        else:
            self._add_rate(load, rate, suffix=f"_{len(workers)}_workers", how=f", {len(workers)} workers")

    def _add_rate(self, load: Load, rate: float, *, suffix: str = "", how: str = "") -> None:
        format = "" if load.format == "csv" else f"_{load.format}"
        key = f"{load.images_per_request}{format}{suffix}_images_per_s"
        self._add(key, f"{_described(load)}{how}", "images/s", rate)

    def _add_percentiles(self, key: str, how: str, measured_ms: list[float]) -> None:
        for percentile in PERCENTILES:
            value = float(np.percentile(measured_ms, percentile))
            what = f"one-image request, {how}, p{percentile} of {len(measured_ms)}"
            self._add(f"{key}_p{percentile}_ms", what, "ms", value)

    def _add(self, key: str, what: str, unit: str, value: float) -> None:
        self._figures.add(f"{self._name}_{key}", f"{self._name}: {what}", unit, value)


def _lighter(format: PayloadFormat) -> list[Load]:
    return [
        Load(size, requests if size >= MAIN.images_per_request else requests // 2, format)
        for size, requests in REQUESTS.items()
    ]


def _described(load: Load) -> str:
    images = "1 image" if load.images_per_request == 1 else f"{load.images_per_request:,} images"
    return f"{images} a request, {load.format}"


@contextmanager
def reference_worker(settings: Settings, folder: Path) -> Iterator[Callable[[Deployment], None]]:
    """Keep the plain worker running; yields what measures it beside a deployment."""
    apart = beside(settings, "reference")
    with running_worker(apart, folder / "bench-reference.log", program=REFERENCE) as worker:
        yield lambda deployment: deployment.measure_reference(apart, worker)


def run_rounds(found: dict[str, Settings], figures: Figures, *, runs: int, folder: Path) -> None:
    """Measure everything, `runs` times in turn, then the latencies."""
    with ExitStack() as stack:
        bare_s = stack.enter_context(bare_classifier(found["embedded"]))
        measured = {
            name: Deployment(name, settings, bare_s=bare_s, figures=figures, folder=folder)
            for name, settings in found.items()
        }
        reference = stack.enter_context(reference_worker(found["pubsub"], folder)) if "pubsub" in found else None
        for run in range(runs):
            for name, deployment in measured.items():
                print(f"{time.strftime('%H:%M:%S')} round {run + 1} of {runs}: {name}", file=sys.stderr)
                everything = run % EVERYTHING_EVERY == 0
                deployment.measure_one_worker(everything=everything)
                if everything:
                    deployment.measure_two_workers()
                if name == "embedded":
                    deployment.measure_scaling()
                elif reference is not None:
                    reference(deployment)
    for name, deployment in measured.items():
        print(f"latencies: {name}", file=sys.stderr)
        deployment.measure_latencies()


def add_ratios(figures: Figures, names: list[str]) -> None:
    """The ratios, each of two figures of the same round."""
    for name in names:
        for size in REQUESTS:
            what = f"{name}: {_described(Load(size, 1))}, end to end ÷ bare"
            over = f"{name}_{size}_images_per_s"
            figures.add_ratio(f"{name}_{size}_over_bare", what, over, f"{name}_bare_images_per_s")
    one, two = (f"embedded_1000_on_{count}_cores_images_per_s" for count in (1, 2))
    if len(os.sched_getaffinity(0)) > 1:
        figures.add_ratio("two_workers_over_one", "embedded: two workers of a core each ÷ one", two, one)
    if "pubsub" in names:
        for load in REFERENCE_LOADS:
            size = load.images_per_request
            ours, plain = f"pubsub_{size}_images_per_s", f"pubsub_reference_{size}_images_per_s"
            what = f"pubsub: {_described(load)}, ours ÷ plain worker"
            figures.add_ratio(f"pubsub_{size}_over_reference", what, ours, plain)
    for key in ("ready_s", "rss_mb", "latency_p50_ms", "latency_p99_ms"):
        figures.add_alias(key, f"embedded_{key}")


def main() -> None:
    """Measure, print the table, write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=5, help="rounds (default 5)")
    parser.add_argument("--output", type=Path, default=ROOT / "build" / "bench.json")
    arguments = parser.parse_args()
    figures = Figures()
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    with deployments() as found:
        run_rounds(found, figures, runs=arguments.runs, folder=arguments.output.parent)
        add_ratios(figures, list(found))
    figures.print_table()
    figures.write(arguments.output)


if __name__ == "__main__":
    main()
