"""Loads put on running workers by one client: a backlog, an upload in mid-work, single images at a rate."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
from processes import RunningWorker

from fashion_client.client import Client
from fashion_client.sources import SAMPLE_IMAGES
from fashion_client.submission import Submission
from handoff.brokers.urls import open_broker
from handoff.contracts.idx import decode_idx
from handoff.contracts.messages import PayloadFormat
from handoff.settings import Settings

RESULT_TIMEOUT_S = 300.0
IDLE_TIMEOUT_S = 60.0
# Requests are sent from so many threads, as a client does that waits for the store and the broker.
UPLOAD_THREADS = 4
# More than are ever under way at the loads measured here; a request waits for its answer in a thread.
LATENCY_THREADS = 64

Images = np.ndarray[Any, np.dtype[np.uint8]]


@dataclass(frozen=True)
class Load:
    """So many requests of so many images."""

    images_per_request: int
    requests: int
    format: PayloadFormat = "csv"

    @property
    def image_count(self) -> int:
        """Images of all requests."""
        return self.images_per_request * self.requests


def sample_images(count: int) -> Images:
    """The sample's images, over and over.

    Shapes: uint8 (count, 28, 28)
    """
    images = decode_idx(SAMPLE_IMAGES.read_bytes(), name="sample")
    return np.concatenate([images] * (count // len(images) + 1))[:count]


@contextmanager
def opened_client(settings: Settings) -> Iterator[Client]:
    """Yield a client of a deployment."""
    with Client.open(settings.broker, settings.store, topology=settings.topology) as client:
        yield client


def work_off(client: Client, settings: Settings, workers: Sequence[RunningWorker], load: Load) -> float:
    """Publish a backlog while idle workers are stopped, then let them go on: seconds until every result is here."""
    wait_until_idle(settings)
    with ExitStack() as stack:
        for worker in workers:
            stack.enter_context(worker.paused())
        submissions = _submit_all(client, load)
        started_at = time.perf_counter()
    for submission in submissions:
        submission.result(RESULT_TIMEOUT_S)
    return time.perf_counter() - started_at


def upload_meanwhile(client: Client, load: Load) -> float:
    """Upload while the workers take what comes: seconds from the first upload to the last result."""
    started_at = time.perf_counter()
    for submission in _submit_all(client, load):
        submission.result(RESULT_TIMEOUT_S)
    return time.perf_counter() - started_at


def latencies_ms(client: Client, *, count: int, within_s: float) -> list[float]:
    """Send one-image requests, each after the result of the one before: milliseconds from submit to result.

    Fewer than `count`, where they take more than `within_s` together.
    """
    image = sample_images(1)
    until = time.monotonic() + within_s
    measured: list[float] = []
    while len(measured) < count and time.monotonic() < until:
        measured.append(_timed_ms(lambda: client.submit(image).result(RESULT_TIMEOUT_S)))
    return measured


def latencies_at_rate_ms(client: Client, *, rate: float, seconds: float) -> list[float]:
    """Send one-image requests at random moments, `rate` a second on average, whatever comes back when.

    Milliseconds from the moment a request was due to its result, so that waiting to be sent counts too.
    """
    image = sample_images(1)
    gaps = np.random.default_rng(1).exponential(1 / rate, max(1, round(rate * seconds)))
    begin = time.perf_counter() + gaps[0]

    def send(due_at: float) -> float:
        client.submit(image).result(RESULT_TIMEOUT_S)
        return (time.perf_counter() - due_at) * 1e3

    with ThreadPoolExecutor(LATENCY_THREADS) as threads:
        futures = []
        for due_at in (begin + np.cumsum(gaps)).tolist():
            time.sleep(max(0.0, due_at - time.perf_counter()))
            futures.append(threads.submit(send, due_at))
        return [future.result() for future in futures]


def wait_until_idle(settings: Settings) -> None:
    """Wait until nothing is unacked, where the broker can tell: a worker stopped then holds nothing, no lock either."""
    deadline = time.monotonic() + IDLE_TIMEOUT_S
    with closing(open_broker(settings.broker, settings.topology)) as broker:
        while broker.backlog(settings.topology.requests).count:
            if time.monotonic() > deadline:
                raise RuntimeError("the workers did not end what they hold")
            time.sleep(0.005)


def _submit_all(client: Client, load: Load) -> list[Submission]:
    images = sample_images(load.images_per_request)
    with ThreadPoolExecutor(UPLOAD_THREADS) as threads:
        sent = [threads.submit(client.submit, images, format=load.format) for _ in range(load.requests)]
        return [future.result() for future in sent]


def _timed_ms(run: Callable[[], object]) -> float:
    started_at = time.perf_counter()
    run()
    return (time.perf_counter() - started_at) * 1e3
