"""How good predictions are: figures from probabilities and true labels."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

# Under float32's smallest normal number a logarithm would be infinite.
_LEAST_PROBABILITY = 1e-12


@dataclass(frozen=True, kw_only=True)
class LabelQuality:
    """How well one label is told from the others."""

    label: str
    precision: float
    recall: float
    f1: float
    support: int


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """The figures of one split.

    Shapes: confusion int64 (K, K), true labels down, predicted ones across
    """

    accuracy: float
    loss: float
    confusion: NDArray[np.int64]
    labels: list[LabelQuality]


def evaluate(probabilities: NDArray[np.float32], truth: NDArray[np.int64], labels: tuple[str, ...]) -> Evaluation:
    """Compare predictions with the truth.

    Shapes: probabilities (N, K), truth (N,)
    Units: loss is the mean cross-entropy in nats
    """
    predicted = probabilities.argmax(axis=1)
    confusion = np.zeros((len(labels), len(labels)), np.int64)
    np.add.at(confusion, (truth, predicted), 1)
    certainty = np.clip(probabilities[np.arange(len(truth)), truth], _LEAST_PROBABILITY, 1.0)
    return Evaluation(
        accuracy=float((predicted == truth).mean()),
        loss=float(-np.log(certainty).mean()),
        confusion=confusion,
        labels=[_judge_label(confusion, place, label) for place, label in enumerate(labels)],
    )


def _judge_label(confusion: NDArray[np.int64], place: int, label: str) -> LabelQuality:
    hits, support, claimed = confusion[place, place], confusion[place].sum(), confusion[:, place].sum()
    return LabelQuality(
        label=label,
        precision=_ratio(hits, claimed),
        recall=_ratio(hits, support),
        f1=_ratio(2 * hits, support + claimed),
        support=int(support),
    )


def _ratio(part: np.int64, whole: np.int64) -> float:
    return float(part / whole) if whole else 0.0
