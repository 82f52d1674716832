"""Keras, the reference: what was trained, run by what trained it. Slow to start; for comparison, not for service."""

from __future__ import annotations

import keras
import numpy as np

from classifiers.protocol import Images, Probabilities
from handoff.artifacts import Artifact
from handoff.contracts.errors import ArtifactInvalid


def load(artifact: Artifact, *, threads: int) -> list[KerasClassifier]:
    """Load `model.keras` in safe mode: no code from the file is run.

    Raises: ArtifactInvalid: Keras cannot load the file
    """
    del threads  # Keras' models are for one thread; their backends use the cores themselves
    path = artifact.path / "model.keras"
    try:
        model = keras.saving.load_model(path, compile=False, safe_mode=True)
    except (ValueError, TypeError, OSError) as error:
        raise ArtifactInvalid(f"Keras cannot load {path} ({' '.join(str(error).split())}).") from error
    return [KerasClassifier(model, image_shape=artifact.manifest.input_shape)]


class KerasClassifier:
    """The trained model, run through `predict_on_batch`, which does not leak as `predict` in a loop does."""

    def __init__(self, model: keras.Model, *, image_shape: tuple[int, int, int]) -> None:
        self._model = model
        self._image_shape = image_shape

    def classify(self, images: Images) -> Probabilities:
        """Classify images in one run of the model."""
        return np.asarray(self._model.predict_on_batch(images), np.float32)

    def warm_up(self, sizes: list[int]) -> None:
        """Let the backend trace and compile for each size."""
        for size in sizes:
            self.classify(np.zeros((size, *self._image_shape), np.uint8))
