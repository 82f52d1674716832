"""Many images through a model's classifiers."""

from __future__ import annotations

import queue
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Final

import numpy as np

from classifiers.protocol import Classifier, Images, Probabilities
from handoff.contracts.errors import ArtifactInvalid

# Runtimes gain little from more, and progress moves in steps of so many.
_MICRO_BATCH_IMAGES: Final = 256


def warm_up(classifiers: Sequence[Classifier], image_count: int) -> None:
    """Let each runtime plan for the sizes that so many images are cut into."""
    full, rest = divmod(image_count, _MICRO_BATCH_IMAGES)
    sizes = [size for size in (_MICRO_BATCH_IMAGES if full else 0, rest) if size]
    for classifier in classifiers:
        classifier.warm_up(sizes)


def classify_all(
    classifiers: Sequence[Classifier], images: Images, *, on_classified: Callable[[int], None] = lambda _count: None
) -> Probabilities:
    """Classify images in their order; each classifier takes micro-batches as it gets done with others.

    `on_classified` is told how many more are done.

    Shapes: uint8 (N, H, W, C), at least one -> float32 (N, K)
    Raises: ArtifactInvalid: the model answers with values that are no probabilities
    """
    free: queue.SimpleQueue[Classifier] = queue.SimpleQueue()
    for classifier in classifiers:
        free.put(classifier)

    def classify(start: int) -> Probabilities:
        classifier = free.get()
        try:
            return classifier.classify(images[start : start + _MICRO_BATCH_IMAGES])
        finally:
            free.put(classifier)

    parts = []
    with ThreadPoolExecutor(len(classifiers)) as pool:
        for part in pool.map(classify, range(0, len(images), _MICRO_BATCH_IMAGES)):
            parts.append(part)
            on_classified(len(part))
    probabilities = np.concatenate(parts)
    if not np.isfinite(probabilities).all():
        raise ArtifactInvalid("The model answered with values that are no probabilities; train the model again.")
    return probabilities
