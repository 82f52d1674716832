"""The network: raw pixels in, one score a label out. Written for Keras alone, whatever its backend."""

from __future__ import annotations

import keras
from keras import layers

from ml_model_development.code.recipe import Recipe

# Mean and standard deviation of a pixel of the training split.
PIXEL_MEAN = 72.94
PIXEL_DEVIATION = 90.02


def build_scorer(input_shape: tuple[int, ...], label_count: int, recipe: Recipe) -> keras.Model:
    """Build the trained part: standardisation, a strided stem, three 3x3 convolutions, a maximum over the places.

    The stem halves height and width at once: convolutions at full size cost the most time and gain little here.

    Shapes: uint8 (N, H, W, C) -> float32 (N, label_count), unnormalised
    """
    stem, early, late = recipe.widths
    images = keras.Input(input_shape, dtype="uint8", name="images")
    features = layers.Rescaling(1 / PIXEL_DEVIATION, offset=-PIXEL_MEAN / PIXEL_DEVIATION, name="standardise")(images)
    features = _convolve(features, stem, name="stem", size=4, strides=2)
    features = _convolve(features, early, name="early")
    features = layers.MaxPooling2D(name="pool")(features)
    features = _convolve(features, late, name="late_1")
    features = _convolve(features, late, name="late_2")
    features = layers.GlobalMaxPooling2D(name="places")(features)
    scores = layers.Dense(label_count, name="scores")(features)
    return keras.Model(images, scores, name="scorer")


def build_classifier(scorer: keras.Model) -> keras.Model:
    """Complete a scorer to what is served; they share their weights.

    Shapes: uint8 (N, H, W, C) -> float32 (N, K), each row sums to 1
    """
    probabilities = layers.Softmax(name="probabilities")(scorer.outputs[0])
    return keras.Model(scorer.input, probabilities, name="fashion_mnist_cnn")


def count_macs(model: keras.Model) -> int:
    """Count the multiply-accumulates that classifying one image takes, in convolutions and dense layers."""
    return sum(_layer_macs(layer) for layer in model.layers)


def _convolve(
    features: keras.KerasTensor, width: int, *, name: str, size: int = 3, strides: int = 1
) -> keras.KerasTensor:
    features = layers.Conv2D(width, size, strides=strides, padding="same", use_bias=False, name=name)(features)
    # A short memory, since an epoch has only some four hundred steps.
    features = layers.BatchNormalization(momentum=0.9, name=f"{name}_norm")(features)
    return layers.ReLU(name=f"{name}_relu")(features)


def _layer_macs(layer: keras.Layer) -> int:
    if isinstance(layer, layers.Conv2D):
        places = layer.output.shape[1] * layer.output.shape[2]
        return int(places * layer.kernel.shape[0] * layer.kernel.shape[1] * layer.kernel.shape[2] * layer.filters)
    if isinstance(layer, layers.Dense):
        return int(layer.kernel.shape[0] * layer.units)
    return 0
