"""The classifier alone, with a worker's inference threads and micro-batches: `echo IMAGES | python bench/bare.py`."""

from __future__ import annotations

import math
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import numpy as np

from classifiers.protocol import Classifier, Images
from fashion_client.sources import SAMPLE_IMAGES
from handoff.artifacts import read_artifact
from handoff.contracts.idx import decode_idx
from handoff.settings import load_settings, model_path
from ml_server.loaded_model import load_warm


def classify(classifiers: list[Classifier], images: Images, *, size: int, count: int) -> None:
    """Classify at least `count` images, those given over and over, in micro-batches on all inference threads."""

    def run(classifier: Classifier) -> None:
        for start in range(0, count // len(classifiers), size):
            offset = start % (len(images) - size)
            classifier.classify(images[offset : offset + size])

    with ThreadPoolExecutor(len(classifiers)) as threads:
        list(threads.map(run, classifiers))


def main() -> None:
    """Read counts of images, a line each, and print the seconds that classifying so many takes."""
    settings = load_settings().settings
    classifiers = load_warm(settings.worker, read_artifact(model_path(settings)))
    sample = decode_idx(SAMPLE_IMAGES.read_bytes(), name="sample")[..., np.newaxis]
    size = settings.worker.micro_batch_images
    images = np.concatenate([sample] * (size // len(sample) + 2))
    each = size * len(classifiers)
    for line in sys.stdin:
        count = int(line)
        started_at = time.perf_counter()
        classify(classifiers, images, size=size, count=count)
        # Whole micro-batches on every thread; the seconds are of the count that was asked for.
        print((time.perf_counter() - started_at) * count / (math.ceil(count / each) * each), flush=True)


if __name__ == "__main__":
    main()
