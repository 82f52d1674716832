"""The bare classifier's rate: `python bench/bare.py IMAGES` prints images a second, nothing but inference timed."""

from __future__ import annotations

import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import numpy as np

from fashion_client.sources import SAMPLE_IMAGES
from handoff.artifacts import read_artifact
from handoff.contracts.idx import decode_idx
from handoff.settings import load_settings, model_path
from ml_server.assembly import load_warm


def main() -> None:
    """Classify the sample over and over in the worker's micro-batches."""
    count = int(sys.argv[1])
    settings = load_settings().settings
    classifier = load_warm(settings.worker, read_artifact(model_path(settings)))
    sample = decode_idx(SAMPLE_IMAGES.read_bytes(), name="sample")[..., np.newaxis]
    size = settings.worker.micro_batch_images
    images = np.concatenate([sample] * (size // len(sample) + 2))
    started_at = time.perf_counter()
    for start in range(0, count, size):
        offset = start % len(sample)
        classifier.classify(images[offset : offset + size])
    print(count / (time.perf_counter() - started_at))


if __name__ == "__main__":
    main()
