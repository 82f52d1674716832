"""What being watched costs a worker: `python bench/telemetry.py` prints images/s with it ÷ without it.

Three workers on embedded brokers of their own, which take turns at the same short backlog: one that nobody watches, one
with a health port that is scraped every second, one that also sends a trace of each request. Medians of the rounds'
ratios, so that what else runs on the machine falls on all three.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import threading
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from loads import Load, opened_client, sample_images, work_off
from processes import RunningWorker, running_worker

from fashion_client.client import Client
from handoff.settings import Settings, load_settings
from tests.otlp import otlp_receiver
from tests.servers import free_port

LOADS = (Load(1, 1000), Load(100, 100))
ROUNDS = 15
SCRAPE_EVERY_S = 1.0
UNWATCHED = "unwatched"


def main() -> None:
    """Measure and print."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        endpoint, ports = stack.enter_context(otlp_receiver()).endpoint, [free_port(), free_port()]
        watched: dict[str, dict[str, object]] = {
            UNWATCHED: {},
            "health port": {"worker.health_port": ports[0]},
            "health port and traces": {"worker.health_port": ports[1], "telemetry.endpoint": endpoint},
        }
        running = {
            name: stack.enter_context(_running(folder / str(number), flags))
            for number, (name, flags) in enumerate(watched.items())
        }
        for port in ports:
            stack.enter_context(_scraped(port))
        for load in LOADS:
            _measure(running, load)


def _measure(running: dict[str, tuple[Client, Settings, RunningWorker]], load: Load) -> None:
    seconds: dict[str, list[float]] = {name: [] for name in running}
    for _ in range(ROUNDS):
        for name, (client, settings, worker) in running.items():
            seconds[name].append(work_off(client, settings, [worker], load))
    print(f"\n{load.requests} requests of {load.images_per_request}, {ROUNDS} rounds")
    for name, each in seconds.items():
        ratios = [without / with_it for without, with_it in zip(seconds[UNWATCHED], each, strict=True)]
        low, _, high = statistics.quantiles(ratios, n=4)
        print(f"  {name:<24}{statistics.median(ratios):>8.3f}   quartiles {low:.3f}-{high:.3f}")


@contextmanager
def _running(folder: Path, flags: dict[str, object]) -> Iterator[tuple[Client, Settings, RunningWorker]]:
    folder.mkdir()
    deployment = {"broker": f"embedded://{folder}/queue.db", "store": f"file://{folder}/store", "log_format": "text"}
    settings = load_settings(flags={**deployment, **flags}).settings
    with opened_client(settings) as client, running_worker(settings, folder / "worker.log") as worker:
        client.submit(sample_images(100)).result(60)
        yield client, settings, worker


@contextmanager
def _scraped(port: int) -> Iterator[None]:
    ended = threading.Event()

    def scrape() -> None:
        while not ended.wait(SCRAPE_EVERY_S):
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as answer:
                    answer.read()
            except OSError:  # the worker is stopped while its backlog is made
                continue

    thread = threading.Thread(target=scrape)
    thread.start()
    yield
    ended.set()
    thread.join()


if __name__ == "__main__":
    main()
