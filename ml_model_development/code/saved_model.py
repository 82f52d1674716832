"""Write a trained classifier as a SavedModel, the form that TensorFlow Serving loads as soon as it lies there whole."""

from __future__ import annotations

import os
from pathlib import Path
from tempfile import TemporaryDirectory

import keras
import numpy as np
from numpy.typing import NDArray

from handoff.contracts.errors import SettingsInvalid
from handoff.durability import flush_folder
from ml_model_development.code.export import check_agreement, export_elsewhere
from ml_model_development.code.serving_versions import new_serving_folder

# Enough that a wrong layer shows; each is compared to what the reference says of it.
_COMPARED_IMAGES = 64


def export_saved_model(classifier: keras.Model, base: Path, *, version: int) -> Path:
    """Write `base/<version>`: `images` uint8 (N, H, W, C) -> `probabilities` float32 (N, K), any N.

    A server that watches `base` takes every folder there whose name is a number for a version that is complete. So it
    is written under another name, and gets its own when the disk has all of it.

    Raises: SettingsInvalid: that version is there already, or cannot be written; ArtifactInvalid: what was written
            does not agree with the reference; MissingPackage: TensorFlow is not installed
    """
    target = new_serving_folder(base, version)
    try:
        base.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(prefix=".unfinished-", dir=base) as folder:
            written = Path(folder) / "model"
            if keras.backend.backend() == "tensorflow":
                write_saved_model(classifier, written)
            else:
                export_elsewhere(classifier, written)
            _flush(written)
            written.rename(target)
        flush_folder(base)
    except OSError as error:
        raise SettingsInvalid(f"{target} cannot be written ({error.strerror}); name another folder.") from error
    return target


def write_saved_model(classifier: keras.Model, path: Path) -> None:
    """Write the SavedModel, where Keras runs on TensorFlow, and hold it to the reference.

    Raises: ArtifactInvalid: they do not agree; SettingsInvalid: it cannot be written
    """
    import tensorflow as tf

    def classify(images: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"probabilities": classifier(images, training=False)}

    sides = classifier.input_shape[1:]
    pixels = tf.TensorSpec((None, *sides), tf.uint8, name="images")
    served = tf.Module()
    served.classifier = classifier  # weights that are not part of the module are not saved
    served.classify = tf.function(classify, input_signature=[pixels])
    try:
        tf.saved_model.save(served, path, signatures={"serving_default": served.classify})
    except tf.errors.OpError as error:  # how TensorFlow says that a disk is full
        raise SettingsInvalid(f"{path} cannot be written ({error.message}); name another folder.") from error
    images = np.random.default_rng(0).integers(0, 256, (_COMPARED_IMAGES, *sides), np.uint8)
    check_agreement(np.asarray(classifier.predict_on_batch(images)), classify_with_saved_model(path, images))


def classify_with_saved_model(path: Path, images: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Classify as TensorFlow Serving does: through the signature that a call asks for by naming none.

    Shapes: uint8 (N, H, W, C) -> float32 (N, K)
    """
    import tensorflow as tf

    loaded = tf.saved_model.load(path)
    answers: NDArray[np.float32] = loaded.signatures["serving_default"](images=tf.constant(images))[
        "probabilities"
    ].numpy()
    return answers


def _flush(folder: Path) -> None:
    """Return when the disk has every file in a folder, and every name."""
    for path in folder.rglob("*"):
        if path.is_file():
            with path.open("rb") as file:
                os.fsync(file.fileno())
    for path in (folder, *folder.rglob("*/")):
        flush_folder(path)
