"""One inference on two threads, or two inferences on one thread each: `python bench/inference_threads.py`.

Source of the table in docs/decisions/0004-inference-threads.md.
"""

from __future__ import annotations

import statistics
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import numpy as np
import onnxruntime

from handoff.artifacts import read_artifact
from handoff.settings import load_settings, model_path

SIZES = (64, 128, 256, 512)
IMAGES = 20_480
ROUNDS = 4


def open_session(graph: Path, *, threads: int) -> onnxruntime.InferenceSession:
    """Load the graph, its operations spread over so many threads, none of which spins."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])


def rate(session: onnxruntime.InferenceSession, images: np.ndarray, *, callers: int) -> float:
    """Classify from so many threads at once; images a second."""
    calls = IMAGES // len(images) // callers

    def call_all(_caller: int) -> None:
        for _ in range(calls):
            session.run(None, {"images": images})

    started_at = time.perf_counter()
    with ThreadPoolExecutor(callers) as threads:
        list(threads.map(call_all, range(callers)))
    return calls * callers * len(images) / (time.perf_counter() - started_at)


def main() -> None:
    """Measure alternately and print a table of medians."""
    graph = read_artifact(model_path(load_settings().settings)).graph_path
    spread, alone = open_session(graph, threads=2), open_session(graph, threads=1)
    generator = np.random.default_rng(0)
    print("| images a call | one run on two threads | two runs on one thread each |\n| ---: | ---: | ---: |")
    for size in SIZES:
        images = generator.integers(0, 256, (size, 28, 28, 1), np.uint8)
        rounds = [(rate(spread, images, callers=1), rate(alone, images, callers=2)) for _ in range(ROUNDS + 1)][1:]
        one, two = (statistics.median(column) for column in zip(*rounds, strict=True))
        print(f"| {size} | {one:,.0f} | {two:,.0f} |")


if __name__ == "__main__":
    main()
