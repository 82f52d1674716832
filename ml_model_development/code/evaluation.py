"""How good predictions are: figures from probabilities and true labels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ml_model_development.code.calibration import Calibration, calibrate, wilson_interval

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
class Confusion:
    """So many images of one label were taken for another."""

    true: str
    predicted: str
    count: int


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """The figures of one split.

    Shapes: confusion int64 (K, K), true labels down, predicted ones across
    """

    accuracy: float
    loss: float
    confusion: NDArray[np.int64]
    labels: list[LabelQuality]
    calibration: Calibration

    @property
    def image_count(self) -> int:
        """How many images were classified."""
        return int(self.confusion.sum())

    @property
    def right_count(self) -> int:
        """How many of them correctly."""
        return int(self.confusion.trace())

    @property
    def accuracy_interval(self) -> tuple[float, float]:
        """Between which the accuracy on other images of the same origin lies, at 95 %."""
        return wilson_interval(self.right_count, self.image_count)

    @property
    def average(self) -> LabelQuality:
        """The plain (macro) average over the labels that occur, each counting the same however rare."""
        known = [quality for quality in self.labels if quality.support]
        return LabelQuality(
            label="average",
            precision=float(np.mean([quality.precision for quality in known])),
            recall=float(np.mean([quality.recall for quality in known])),
            f1=float(np.mean([quality.f1 for quality in known])),
            support=self.image_count,
        )


def evaluate(probabilities: NDArray[np.float32], truth: NDArray[np.int64], labels: Sequence[str]) -> Evaluation:
    """Compare predictions with the truth.

    Shapes: probabilities (N, K), truth (N,), at least one image
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
        calibration=calibrate(probabilities, truth),
    )


def most_wrong(probabilities: NDArray[np.float32], truth: NDArray[np.int64], *, count: int = 36) -> NDArray[np.int64]:
    """The places of the images whose wrong label was given the highest probability, that one first.

    Shapes: probabilities (N, K), truth (N,) -> at most `count` places
    """
    (wrong,) = np.nonzero(probabilities.argmax(axis=1) != truth)
    return wrong[np.argsort(-probabilities.max(axis=1)[wrong], kind="stable")][:count]


def most_confused(evaluation: Evaluation, *, count: int = 10) -> list[Confusion]:
    """The pairs of labels that account for most of the errors, the most frequent first."""
    errors = evaluation.confusion - np.diag(evaluation.confusion.diagonal())
    names = [quality.label for quality in evaluation.labels]
    order = np.argsort(-errors, axis=None, kind="stable")[:count]
    pairs = zip(*np.unravel_index(order, errors.shape), strict=True)
    return [
        Confusion(true=names[true], predicted=names[predicted], count=int(errors[true, predicted]))
        for true, predicted in pairs
        if errors[true, predicted]
    ]


def to_figures(evaluation: Evaluation) -> dict[str, Any]:
    """What `metrics.json` holds of an evaluation: plain numbers, lists and mappings."""
    calibration, average = evaluation.calibration, evaluation.average
    return {
        "accuracy": evaluation.accuracy,
        "accuracy_interval_95": list(evaluation.accuracy_interval),
        "loss": evaluation.loss,
        "ece": calibration.ece,
        "largest_calibration_gap": calibration.largest_gap,
        "brier": calibration.brier,
        "macro_precision": average.precision,
        "macro_recall": average.recall,
        "macro_f1": average.f1,
        "images": evaluation.image_count,
        "labels": [asdict(quality) for quality in evaluation.labels],
        "confusion": evaluation.confusion.tolist(),
        "calibration": [{**asdict(found), "accuracy": found.accuracy} for found in calibration.bins],
    }


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
