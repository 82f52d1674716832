"""Keras, the reference: what was trained, run by what trained it. Slow to start; for comparison, not for service."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import keras
import numpy as np

from classifiers.protocol import Images, Probabilities
from handoff.contracts.errors import ArtifactInvalid

# Characters of a reason that still make a sentence.
_LONGEST_REASON: Final = 300


def load(path: Path, *, threads: int) -> list[KerasClassifier]:
    """Load a `.keras` file in safe mode: no code from the file is run.

    Raises: ArtifactInvalid: Keras cannot load the file
    """
    del threads  # Keras' models are for one thread; their backends use the cores themselves
    try:
        model = keras.saving.load_model(path, compile=False, safe_mode=True)
    except (ValueError, TypeError, OSError) as error:
        raise ArtifactInvalid(_explain(path, str(error))) from error
    return [KerasClassifier(model)]


class KerasClassifier:
    """The trained model, run through `predict_on_batch`, which does not leak as `predict` in a loop does."""

    def __init__(self, model: keras.Model) -> None:
        self.image_shape = tuple(model.input_shape[1:])
        self.label_count = int(model.output_shape[1])
        self.model = model

    def classify(self, images: Images) -> Probabilities:
        """Classify images in one run of the model."""
        return np.asarray(self.model.predict_on_batch(images), np.float32)

    def warm_up(self, sizes: list[int]) -> None:
        """Let the backend trace and compile for each size."""
        for size in sizes:
            self.classify(np.zeros((size, *self.image_shape), np.uint8))


def _explain(path: Path, said: str) -> str:
    """Keras' complaint as one sentence; about a layer that it cannot build it writes pages, the reason at their end."""
    if "Lambda" in said.replace(str(path), ""):
        return (
            f"{path} holds a Lambda layer, which is code of its own and is never run here (Keras' safe mode);"
            " train the model again with Keras' own layers."
        )
    reason = " ".join(said.rpartition("Exception encountered: ")[2].split())
    return f"Keras cannot load {path} ({reason.rstrip('.')[:_LONGEST_REASON]}); train the model again."
