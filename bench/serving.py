"""What a worker makes of a model behind a server, beside the same graph in its own process: images/s of a backlog.

KServe is that server, with one thread for the model; TensorFlow Serving, which no registry ships, is not measured. How
many calls at a time are worth making is asked of a server that answers after 20 ms, any number of them at once.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from statistics import median

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import msgspec
from loads import Load, opened_client, work_off
from processes import ROOT, running_worker

from handoff.artifacts import read_artifact, write_manifest
from handoff.brokers.urls import open_broker
from handoff.settings import Settings, WorkerSettings
from tests.servers import free_port
from tests.serving_server import KServe

ARTIFACT = ROOT / "ml_model_development" / "artifacts" / "1"
GRAPH = ARTIFACT / "model.onnx"
CALLS = (1, 2, 4, 8)
DELAY_S = 0.02


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--requests", type=int, default=20, help="Of 500 images each, in a backlog.")
    options = parser.parse_args()
    load = Load(500, options.requests, "npy")
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        server = KServe(GRAPH)
        stack.callback(server.kill)
        server.start()
        delayed = stack.enter_context(delayed_server())
        workers = {
            "openvino, int8, in process": WorkerSettings(model=str(ARTIFACT), threads=1),
            "onnx, float, in process": WorkerSettings(model=str(float_artifact(folder)), runtime="onnx", threads=1),
            **remote_workers("KServe", server.url),
            **remote_workers("20 ms a call", delayed),
        }
        print(f"{'one worker':34}{'images/s':>10}{'its CPU s / 1,000':>20}")
        for name, worker in workers.items():
            rates, cpu = measure(worker, load, runs=options.runs)
            print(f"{name:34}{median(rates):>10,.0f}{median(cpu):>20.3f}", flush=True)


def remote_workers(server: str, url: str) -> dict[str, WorkerSettings]:
    """Workers that make so many calls at a time."""
    return {
        f"{server}, {count} calls at a time": WorkerSettings(
            model=str(ARTIFACT), runtime="tf-serving", serving_url=url, threads=count
        )
        for count in CALLS
    }


@contextmanager
def delayed_server() -> Iterator[str]:
    """Run the server that classifies nothing; the address of its model."""
    port = free_port()
    script = Path(__file__).with_name("delayed_serving.py")
    with subprocess.Popen([sys.executable, str(script), str(port), str(DELAY_S)]) as process:
        try:
            yield f"http://127.0.0.1:{port}/v1/models/any"
        finally:
            process.kill()


def float_artifact(folder: Path) -> Path:
    """The committed artifact with a manifest that serves its float graph, as the server does."""
    artifact = read_artifact(ARTIFACT)
    for name in artifact.manifest.files:
        (folder / name).symlink_to(ARTIFACT / name)
    write_manifest(folder, msgspec.structs.replace(artifact.manifest, graph=GRAPH.name))
    return folder


def measure(worker: WorkerSettings, load: Load, *, runs: int) -> tuple[list[float], list[float]]:
    """Images a second of each run, and the worker's processor seconds for 1,000 of them."""
    rates, cpu = [], []
    with tempfile.TemporaryDirectory() as folder:
        settings = Settings(broker=f"embedded:{folder}/queue.db", store=f"file:{folder}/store", worker=worker)
        with closing(open_broker(settings.broker, settings.topology)) as broker:
            broker.declare(settings.topology)
        with running_worker(settings, Path(folder) / "worker.log") as running, opened_client(settings) as client:
            for _ in range(runs):
                before = running.cpu_s()
                rates.append(load.image_count / work_off(client, settings, [running], load))
                cpu.append((running.cpu_s() - before) * 1_000 / load.image_count)
    return rates, cpu


if __name__ == "__main__":
    main()
