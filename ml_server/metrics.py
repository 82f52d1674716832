"""A worker's metrics in Prometheus' words: the one module that knows prometheus_client."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

import msgspec
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Info, ProcessCollector, generate_latest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from handoff.contracts.messages import ModelReference
from ml_server.backlog_readings import BacklogReadings
from ml_server.recording import End, Serving
from ml_server.vitals import Vitals
from ml_server.work import Work

# The text format, which every version of Prometheus reads: https://prometheus.io/docs/instrumenting/exposition_formats/
CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

STAGES = ("fetch", "decode", "wait", "classify", "store")
_STAGE_BUCKETS_S = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
_DELIVERY_BUCKETS_S = (0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
_QUEUED_BUCKETS_S = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 900, 3600)
_IMAGE_BUCKETS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)


class Metrics:
    """Counts and measures what a worker does, in a registry of its own; a recorder."""

    def __init__(self, vitals: Vitals) -> None:
        self._registry = registry = CollectorRegistry()
        self._deliveries = Counter(
            "fashion_deliveries",
            "Deliveries that ended, by how and by the code of what went wrong.",
            ["outcome", "code"],
            registry=registry,
        )
        self._images = Counter("fashion_images", "Images classified.", registry=registry)
        self._micro_batches = Histogram(
            "fashion_micro_batch_images", "Images classified together.", buckets=_IMAGE_BUCKETS, registry=registry
        )
        self._seconds = Histogram(
            "fashion_delivery_seconds",
            "From the pull of a delivery to its ack, or to its being given back.",
            buckets=_DELIVERY_BUCKETS_S,
            registry=registry,
        )
        stages = Histogram(
            "fashion_stage_seconds",
            "What a delivery spent in each stage of the worker.",
            ["stage"],
            buckets=_STAGE_BUCKETS_S,
            registry=registry,
        )
        self._stages = {stage: stages.labels(stage) for stage in STAGES}
        self._queued = Histogram(
            "fashion_queued_seconds",
            "From the publishing of a request to its being taken up, by the two machines' clocks.",
            buckets=_QUEUED_BUCKETS_S,
            registry=registry,
        )
        self._model = Info("fashion_model", "The model that is served.", registry=registry)
        self._reference: Callable[[], ModelReference] | None = None
        _gauge("fashion_in_flight_deliveries", "Deliveries held now.", lambda: vitals.held_count, registry)
        _gauge("fashion_ready", "1 while requests are taken, else 0.", vitals.is_ready, registry)
        registry.register(_BacklogCollector(BacklogReadings(vitals.backlog)))
        ProcessCollector(registry=registry)

    def exposition(self) -> bytes:
        """Everything as text."""
        if self._reference is not None:
            self._model.info(msgspec.structs.asdict(self._reference()))
        return generate_latest(self._registry)

    def serving(self, serving: Serving) -> None:
        """Remember what to ask for the model's name and version."""
        self._reference = serving.model

    def pulled(self, work: Work) -> None:
        """Held deliveries are counted when they are asked for."""

    def classified(self, image_count: int) -> None:
        """Count a micro-batch."""
        self._images.inc(image_count)
        self._micro_batches.observe(image_count)

    def ended(self, work: Work, end: End) -> None:
        """Count a delivery and its times."""
        self._deliveries.labels(end.outcome.replace("-", "_"), end.code).inc()
        self._seconds.observe(time.perf_counter() - work.pulled_at)
        # A copy: another part of its images may be under way still.
        for stage, milliseconds in dict(work.timings_ms).items():
            if stage in self._stages:
                self._stages[stage].observe(milliseconds / 1e3)
            elif stage == "queued":
                self._queued.observe(milliseconds / 1e3)

    def draining(self) -> None:
        """The gauge of readiness is asked for."""


class _BacklogCollector(Collector):
    """What waits on the subscription; no sample where the broker cannot say."""

    def __init__(self, readings: BacklogReadings) -> None:
        self._readings = readings

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """Make both gauges."""
        backlog = self._readings.latest()
        yield _family("fashion_backlog_messages", "Requests not yet acked, held or waiting.", backlog.count)
        yield _family("fashion_oldest_unacked_age_seconds", "Age of the oldest of them.", backlog.oldest_unacked_age_s)


def _gauge(name: str, text: str, read: Callable[[], float], registry: CollectorRegistry) -> None:
    Gauge(name, text, registry=registry).set_function(read)


def _family(name: str, text: str, figure: float | None) -> GaugeMetricFamily:
    return GaugeMetricFamily(name, text, value=figure)
