"""One row of `make bench-models`, as a process: a model in a runtime on one core, measured when it is told to.

python bench/model_row.py RUNTIME PRECISION FILE CORE

Prints a line once it has answered for its first image, then answers each line `CALL ARGUMENTS` with one in JSON.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import numpy as np

from classifiers.loading import load_model
from classifiers.protocol import Images, Probabilities

Classify = Callable[[Images], Probabilities]
# Long enough for a dozen calls of the slowest row, at one image a call.
_SECONDS_A_RATE = 0.4


def open_row(runtime: str, precision: str, path: Path) -> tuple[Classify, tuple[int, ...]]:
    """Load a model as the row's name says; how it classifies, and the shape of its images."""
    if runtime == "keras predict":
        import keras

        model = keras.saving.load_model(path, compile=False)
        return lambda images: model.predict(images, batch_size=len(images), verbose=0), model.input_shape[1:]
    if precision == "bf16":
        from classifiers import openvino

        loaded = openvino.load(path, threads=1, precision=precision)[0]
    else:
        loaded = load_model(path, runtime=runtime)[0]
    return loaded.classify, loaded.image_shape


def rate(classify: Classify, images: Images, batch_size: int) -> float:
    """Images a second in calls of one size, after one call that is not counted."""
    offsets = range(0, len(images) - batch_size + 1, batch_size)
    classify(images[:batch_size])
    calls, started_s = 0, time.perf_counter()
    while (seconds := time.perf_counter() - started_s) < _SECONDS_A_RATE or not calls:
        start = offsets[calls % len(offsets)]
        classify(images[start : start + batch_size])
        calls += 1
    return calls * batch_size / seconds


def classify_file(classify: Classify, source: str, target: str) -> int:
    """Classify a file of images into a file of probabilities; how many there are."""
    images = np.load(source)
    parts = [classify(images[start : start + 1_000]) for start in range(0, len(images), 1_000)]
    np.save(target, np.concatenate(parts))
    return len(images)


def rss_mb() -> float:
    """Resident memory of this process."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return int(status.partition("VmRSS:")[2].split()[0]) / 1024


def main() -> None:
    """Load, answer once, then do what is asked for until there is nothing more."""
    runtime, precision, path, core = sys.argv[1:]
    os.sched_setaffinity(0, {int(core)})  # before the runtime counts the cores
    classify, shape = open_row(runtime, precision, Path(path))
    classify(np.zeros((1, *shape), np.uint8))
    print(json.dumps("ready"), flush=True)
    images = np.random.default_rng(0).integers(0, 256, (2_048, *shape), np.uint8)
    for line in sys.stdin:
        match line.split():
            case ["rate", batch_size]:
                answer: float = rate(classify, images, int(batch_size))
            case ["classify", source, target]:
                answer = classify_file(classify, source, target)
            case _:
                answer = rss_mb()
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
