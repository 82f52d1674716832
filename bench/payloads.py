"""Payload formats: images a second on one core, ours beside what other libraries make of the same bytes.

python bench/payloads.py          pandas, pyarrow and polars are compared where they are installed
"""

from __future__ import annotations

import importlib.util
import io
import os
import statistics
import sys
import time
import warnings
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from handoff.contracts import csv_strict
from handoff.contracts.batches import Batch, decode_batch, encode_batch
from handoff.contracts.idx import decode_idx
from handoff.contracts.images import default_image_ids
from handoff.contracts.predictions import decode_predictions, encode_predictions

COUNT, SHAPE, WIDTH = 1000, (28, 28, 1), 784
REPEATS = 9
SAMPLE = Path(__file__).resolve().parent.parent / "fashion_client" / "sample" / "images.idx3-ubyte.gz"
LABELS = ["T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"]

Case = tuple[str, Callable[[], object]]


def images_per_second(work: Callable[[], object]) -> float:
    """The median rate of several runs, after one that does not count; in CPU time, which neighbours disturb least."""
    work()
    seconds = []
    for _ in range(REPEATS):
        start = time.process_time()
        work()
        seconds.append(time.process_time() - start)
    return COUNT / statistics.median(seconds)


def our_cases(batch: Batch) -> Iterator[Case]:
    """Encoding and decoding in every format, and the strict reader by itself."""
    for format in ("csv", "csv.gz", "npy"):
        data = encode_batch(batch, format=format)
        limits: Any = {"format": format, "image_shape": SHAPE, "max_images": COUNT, "max_bytes": 1 << 26}
        size = f"{format}, {len(data) // COUNT} bytes an image"
        yield f"encode {size}", lambda format=format: encode_batch(batch, format=format)
        yield f"decode {size}", lambda data=data, limits=limits: decode_batch(data, **limits)
    text = encode_batch(batch, format="csv")
    yield "decode csv, strict reader", lambda: csv_strict.read_csv(text, image_shape=SHAPE, max_images=COUNT)


def other_cases(batch: Batch) -> Iterator[Case]:
    """Pixels alone, for that is what numpy's readers take; none of these checks a cell as the contract asks."""
    plain = encode_batch(Batch(batch.images, default_image_ids(COUNT)), format="csv")
    _, _, body = plain.partition(b"\n")
    pixels = batch.images.reshape(COUNT, WIDTH)
    yield "decode numpy.loadtxt", lambda: np.loadtxt(io.BytesIO(body), np.uint8, delimiter=",")
    yield "decode numpy.fromstring", lambda: np.fromstring(body.replace(b"\n", b","), np.uint8, sep=",")
    if importlib.util.find_spec("pandas"):
        import pandas as pd

        yield "decode pandas", lambda: pd.read_csv(io.BytesIO(plain), dtype=np.uint8).to_numpy()
        yield "encode pandas", lambda: pd.DataFrame(pixels).to_csv(index=False)
    if importlib.util.find_spec("pyarrow"):
        from pyarrow import csv as arrow

        # One thread: workers share a machine's cores.
        options = arrow.ReadOptions(use_threads=False)
        table = arrow.read_csv(io.BytesIO(plain))
        yield "decode pyarrow", lambda: arrow.read_csv(io.BytesIO(plain), read_options=options)
        yield "encode pyarrow", lambda: arrow.write_csv(table, io.BytesIO())
    if importlib.util.find_spec("polars"):
        import polars as pl

        frame = pl.read_csv(io.BytesIO(plain))
        yield "decode polars", lambda: pl.read_csv(io.BytesIO(plain)).to_numpy()
        yield "encode polars", lambda: frame.write_csv(None)


def gzip_cases(batch: Batch) -> Iterator[Case]:
    """What another compression level would cost and save."""
    text = encode_batch(batch, format="csv")
    for level in (1, 3, 6, 9):
        size = len(zlib.compress(text, level)) // COUNT
        yield f"gzip level {level}, {size} bytes an image", lambda level=level: zlib.compress(text, level)


def prediction_cases(_: Batch) -> Iterator[Case]:
    """The predictions file of a model of ten labels."""
    probabilities = np.random.default_rng(0).dirichlet([0.1] * 10, COUNT).astype(np.float32)
    image_ids = [f"test-{row}" for row in range(COUNT)]
    data = encode_predictions(image_ids, probabilities, LABELS)
    yield "encode predictions", lambda: encode_predictions(image_ids, probabilities, LABELS)
    yield "decode predictions", lambda: decode_predictions(data)


def batches() -> dict[str, Batch]:
    """Real images without and with names, and noise, whose cells are longest."""
    real = decode_idx(SAMPLE.read_bytes(), name=SAMPLE.name).reshape(COUNT, *SHAPE)
    noise = np.random.default_rng(0).integers(0, 256, (COUNT, *SHAPE), np.uint8)
    names = [f"test-{row}" for row in range(COUNT)]
    labels = [LABELS[row % 10] for row in range(COUNT)]
    return {
        "pixels": Batch(real, default_image_ids(COUNT)),
        "with names": Batch(real, names, labels),
        "noise with names": Batch(noise, names, labels),
    }


def main() -> None:
    """Print one table, in the form of docs/measurements.md."""
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})  # one core, and what the libraries start with it
    warnings.simplefilter("ignore", DeprecationWarning)
    made = batches()
    print(f"| {COUNT} images of 28x28, one core, median of {REPEATS} | images a CPU second |\n| --- | ---: |")
    for name, batch in made.items():
        for what, work in our_cases(batch):
            print(f"| {what}, {name} | {images_per_second(work):,.0f} |", flush=True)
    for cases in (other_cases, gzip_cases, prediction_cases):
        for what, work in cases(made["pixels"]):
            print(f"| {what} | {images_per_second(work):,.0f} |", flush=True)


if __name__ == "__main__":
    main()
