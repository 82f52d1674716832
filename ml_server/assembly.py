"""Putting a worker, and what sets the number of workers, together from settings: where their parts are chosen."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from functools import partial

from handoff.brokers.urls import open_broker
from handoff.contracts.protocols import Limits, Store, Subscription
from handoff.settings import Settings
from handoff.stores.urls import open_store
from handoff.telemetry.tracing import open_tracer
from ml_server.intake import Intake
from ml_server.loaded_model import LoadedModel, core_count, open_model
from ml_server.micro_batches import MicroBatches
from ml_server.recording import NO_RECORDER, Recorder, Serving
from ml_server.results import Results
from ml_server.scaler import Scaler, Workers
from ml_server.scaling import ScalingPolicy, ScalingRules
from ml_server.settlement import Settlement
from ml_server.store_sweeper import store_swept
from ml_server.worker import Worker

SERVICE_NAME = "fashion-worker"
"""What its spans are filed under."""


@contextmanager
def opened_worker(
    settings: Settings, *, name: str, worker_count: int = 1, recorder: Recorder = NO_RECORDER
) -> Iterator[tuple[Worker, Subscription]]:
    """Yield a warm worker and the subscription whose closing drains it.

    Warm first, subscribed last: a worker takes nothing before it can serve it.
    The thread that this is called in is the one that the worker must run in.

    Raises: ArtifactInvalid; MissingPackage; SettingsInvalid; BrokerUnavailable; RuntimeUnavailable; RuntimeFailed
    """
    traces = open_tracer(settings.telemetry.endpoint, service=SERVICE_NAME, instance=name, broker_url=settings.broker)
    with closing(traces) as tracer:  # last of all: what it still has to send holds up no ack
        model = open_model(settings, worker_count=worker_count)
        store = open_store(settings.store)
        with closing(open_broker(settings.broker, settings.topology)) as broker:
            limits = Limits(max_in_flight=settings.worker.max_in_flight, max_images=settings.worker.max_images)
            subscription = broker.subscribe(settings.topology.requests, limits)
            settlement = Settlement(broker, topology=settings.topology, worker=name, recorder=recorder, tracer=tracer)
            with store_swept(store, retention_s=settings.store_retention_s):
                worker = _wire(settings, name, model, store, settlement, subscription, recorder)
                threads = [threading.current_thread(), *worker.classifying]
                backlog = partial(broker.backlog, settings.topology.requests)
                recorder.serving(Serving(model.answering.current, threads, backlog, model.answering.fault))
                yield worker, subscription


def scaling_rules(settings: Settings) -> ScalingRules:
    """The rules of scaling, with what the settings leave to the machine and to the worker filled in.

    A worker holds up to `max_in_flight` requests, which are backlog too: below that, another would find nothing to do.
    """
    wanted = settings.scaling
    return ScalingRules(
        min_workers=wanted.min_workers,
        max_workers=wanted.max_workers or max(wanted.min_workers, core_count()),
        backlog_per_worker=wanted.backlog_per_worker or settings.worker.max_in_flight,
        oldest_unacked_age_s=wanted.oldest_unacked_age_s,
        scale_down_after_s=wanted.scale_down_after_s,
    )


def scaler_of(settings: Settings, workers: Workers) -> Scaler:
    """What lets the number of workers follow the backlog of requests."""
    return Scaler(
        workers,
        policy=ScalingPolicy(scaling_rules(settings)),
        connect=lambda: open_broker(settings.broker, settings.topology),
        subscription=settings.topology.requests,
        period_s=settings.scaling.period_s,
    )


def _wire(
    settings: Settings,
    name: str,
    model: LoadedModel,
    store: Store,
    settlement: Settlement,
    subscription: Subscription,
    recorder: Recorder,
) -> Worker:
    wanted = settings.worker
    intake = Intake(
        store,
        model=model.answering,
        manifest=model.manifest,
        max_batch_bytes=wanted.max_batch_bytes,
        max_batch_images=wanted.max_batch_images,
    )
    return Worker(
        subscription,
        intake=intake,
        micro_batches=MicroBatches(size=wanted.micro_batch_images, max_waiting=wanted.max_images),
        classifiers=model.classifiers,
        results=Results(store, model=model.answering, labels=model.manifest.labels, worker=name),
        settlement=settlement,
        transfer_threads=wanted.transfer_threads,
        max_attempts=settings.topology.max_attempts,
        recorder=recorder,
    )
