"""Make probabilities mean what they say: of the images given 80 %, 80 % should be right."""

from __future__ import annotations

import keras
import numpy as np
from numpy.typing import NDArray

from ml_model_development.code.data_set import Split

_BATCH_SIZE = 500
# Label smoothing asks for about 0.5, a network that has learned its images by heart for 2.
_LOWEST, _HIGHEST = 0.05, 20.0
_STEPS = 60


def calibrate_scorer(scorer: keras.Model, validation: Split) -> float:
    """Divide a scorer's scores by the temperature that suits images it was not trained on; that temperature.

    No label changes: the last layer's weights are divided, so nothing is left to do when serving.

    Source: Guo et al. 2017, "On Calibration of Modern Neural Networks", arXiv:1706.04599, section 4.2
    """
    scores = scorer.predict(validation.images, batch_size=_BATCH_SIZE, verbose=0)
    temperature = fit_temperature(scores, validation.labels)
    layer = scorer.get_layer("scores")
    layer.set_weights([weights / temperature for weights in layer.get_weights()])
    return temperature


def fit_temperature(scores: NDArray[np.float32], truth: NDArray[np.int64]) -> float:
    """The temperature at which scores lose least, found by golden-section search; the loss has one minimum.

    Shapes: scores (N, K), truth (N,)
    """
    ratio = (np.sqrt(5) - 1) / 2
    low, high = np.log(_LOWEST), np.log(_HIGHEST)
    for _ in range(_STEPS):
        left, right = high - ratio * (high - low), low + ratio * (high - low)
        if _loss(scores / np.exp(left), truth) < _loss(scores / np.exp(right), truth):
            high = right
        else:
            low = left
    return float(np.exp((low + high) / 2))


def _loss(scores: NDArray[np.float64], truth: NDArray[np.int64]) -> float:
    shifted = scores.astype(np.float64) - scores.max(axis=1, keepdims=True)
    return float((np.log(np.exp(shifted).sum(axis=1)) - shifted[np.arange(len(truth)), truth]).mean())
