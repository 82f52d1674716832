"""The bare classifier's rate: `python bench/bare.py IMAGES` prints images a second, nothing but inference timed."""

from __future__ import annotations

import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import numpy as np

from classifiers.protocol import Classifier
from fashion_client.sources import SAMPLE_IMAGES
from handoff.artifacts import read_artifact
from handoff.contracts.idx import decode_idx
from handoff.settings import load_settings, model_path
from ml_server.assembly import load_warm


def main() -> None:
    """Classify the sample over and over in the worker's micro-batches, on the worker's inference threads."""
    count = int(sys.argv[1])
    settings = load_settings().settings
    classifiers = load_warm(settings.worker, read_artifact(model_path(settings)))
    sample = decode_idx(SAMPLE_IMAGES.read_bytes(), name="sample")[..., np.newaxis]
    size = settings.worker.micro_batch_images
    images = np.concatenate([sample] * (size // len(sample) + 2))

    def classify(classifier: Classifier) -> None:
        for start in range(0, count // len(classifiers), size):
            offset = start % len(sample)
            classifier.classify(images[offset : offset + size])

    started_at = time.perf_counter()
    with ThreadPoolExecutor(len(classifiers)) as threads:
        list(threads.map(classify, classifiers))
    print(count / (time.perf_counter() - started_at))


if __name__ == "__main__":
    main()
