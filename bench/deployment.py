"""One deployment under measurement: workers of its own, and loads that are put on them."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
from deployments import afresh
from extents import MAIN, REQUESTS, extent_of
from figures import Figures
from loads import Load, latencies_at_rate_ms, latencies_ms, opened_client, upload_meanwhile, work_off
from processes import RunningWorker, running_worker, running_workers, workers_on_cores

from fashion_client.client import Client
from handoff.contracts.messages import PayloadFormat
from handoff.settings import Settings

# The plain worker classifies under ten single images a second, and 1,400 where they come in thousands.
REFERENCE_LOADS = (Load(1, 20), Load(1_000, 5))
# On one core, then on two: each takes seconds, so that it hardly shows who ends last.
SCALING = {1: Load(1_000, 20), 2: Load(1_000, 50)}
FIRST = Load(1_000, 1)
UNLOADED_REQUESTS = 200
LATENCY_SECONDS = 3.0
HIGHEST = Load(1, 200)
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
        self._extent = extent_of(name)
        self._settings = settings
        self._bare_s = bare_s
        self._figures = figures
        self._log_path = folder / f"bench-{name}.log"
        self._starts = itertools.count()

    def measure_round(self, run: int) -> None:
        """What is due in this round, counted from 0."""
        every = self._extent.everything_every
        everything = every is not None and run % every == 0
        self._measure_one_worker(everything=everything)
        if everything:
            self._measure_two_workers()

    def _measure_one_worker(self, *, everything: bool) -> None:
        """Backlogs in CSV on one worker; with `everything` also in npy, and with the client uploading meanwhile."""
        settings = self._afresh()
        with running_worker(settings, self._log_path) as worker, opened_client(settings) as client:
            self._add("ready_s", "worker start to ready", "s", worker.ready_s)
            # A new share group waits for its partitions, once, for seconds.
            upload_meanwhile(client, FIRST)
            self._measure_main(client, settings, worker)
            for size in self._extent.sizes:
                if size != MAIN.images_per_request:
                    self._work_off(client, settings, [worker], Load(size, REQUESTS[size]))
            for load in _lighter("npy") if everything else ():
                self._work_off(client, settings, [worker], load)
            for load in _lighter("csv") if everything else ():
                rate = load.image_count / upload_meanwhile(client, load)
                self._add_rate(load, rate, suffix="_uploading", how=", client uploading meanwhile")
            if everything:
                self._add("largest_rss_mb", "worker's memory after all loads", "MB", worker.rss_mb())

    def _measure_two_workers(self) -> None:
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
            what = f"{described(load)}, {count} worker(s) of one core each"
            self._add(f"1000_on_{count}_cores_images_per_s", what, "images/s", rate)

    def measure_reference(self, settings: Settings, worker: RunningWorker) -> None:
        """The plain worker, which is running on topics of its own."""
        with opened_client(settings) as client:
            for load in REFERENCE_LOADS:
                rate = load.image_count / work_off(client, settings, [worker], load)
                key = f"reference_{load.images_per_request}_images_per_s"
                self._add(key, f"plain worker, {described(load)}", "images/s", rate)

    def measure_latencies(self) -> None:
        """One-image requests to one worker, unloaded and at shares of the highest rate that is kept up."""
        settings = self._afresh()
        with running_worker(settings, self._log_path), opened_client(settings) as client:
            latencies_ms(client, count=UNLOADED_REQUESTS // 10, within_s=1.0)
            unloaded = latencies_ms(client, count=UNLOADED_REQUESTS, within_s=LATENCY_SECONDS)
            self._add_percentiles("latency", "unloaded", unloaded)
            highest = HIGHEST.requests / upload_meanwhile(client, HIGHEST)
            self._add("highest_requests_per_s", f"{described(HIGHEST)}, {HIGHEST.requests} in a row", "1/s", highest)
            for percent in self._extent.loads_percent:
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
        self._add("1000_cpu_us_per_image", f"worker's processor time, {described(MAIN)}", "µs/image", micro_s)
        self._add("rss_mb", f"worker's memory after {described(MAIN)}", "MB", worker.rss_mb())

    def _work_off(self, client: Client, settings: Settings, workers: list[RunningWorker], load: Load) -> None:
        rate = load.image_count / work_off(client, settings, workers, load)
        if len(workers) == 1:
            self._add_rate(load, rate)
        else:
            self._add_rate(load, rate, suffix=f"_{len(workers)}_workers", how=f", {len(workers)} workers")

    def _add_rate(self, load: Load, rate: float, *, suffix: str = "", how: str = "") -> None:
        format = "" if load.format == "csv" else f"_{load.format}"
        key = f"{load.images_per_request}{format}{suffix}_images_per_s"
        self._add(key, f"{described(load)}{how}", "images/s", rate)

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


def described(load: Load) -> str:
    """How the table calls a load."""
    images = "1 image" if load.images_per_request == 1 else f"{load.images_per_request:,} images"
    return f"{images} a request, {load.format}"
