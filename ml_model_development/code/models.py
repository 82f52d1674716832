"""What is made of a trained scorer, and of a trained classifier."""

from __future__ import annotations

import keras
import numpy as np
from keras import layers


def build_classifier(scorer: keras.Model) -> keras.Model:
    """Complete a scorer to what is served; they share their weights.

    Shapes: uint8 (N, H, W, C) -> float32 (N, K), each row sums to 1
    """
    probabilities = layers.Softmax(name="probabilities")(scorer.outputs[0])
    return keras.Model(scorer.input, probabilities, name="image_classifier")


def continue_scorer(classifier: keras.Model, label_count: int, *, same_labels: bool) -> keras.Model:
    """Take a trained classifier's scorer up again, with a new last layer where its labels are other ones."""
    scores = classifier.get_layer("scores")
    if not same_labels:
        scores = layers.Dense(label_count, name="scores", dtype="float32")
    return keras.Model(classifier.input, scores(classifier.get_layer("quarter").output), name="scorer")


def count_macs(model: keras.Model) -> int:
    """Count the multiply-accumulates that classifying one image takes, in convolutions and dense layers."""
    return sum(_layer_macs(layer) for layer in model.layers)


def _layer_macs(layer: keras.Layer) -> int:
    if isinstance(layer, layers.Conv2D):
        return int(np.prod(layer.output.shape[1:3]) * np.prod(layer.kernel.shape))
    return int(np.prod(layer.kernel.shape)) if isinstance(layer, layers.Dense) else 0
