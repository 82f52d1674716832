"""Whether a classifier is right as often as it says."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

# As in the paper by Guo et al.; more bins would hold too few images of a test split of ten thousand.
BIN_COUNT: Final = 15
# The 97.5th percentile of the normal distribution: 95 % lie within as many deviations either way.
_DEVIATIONS_95: Final = 1.959964


@dataclass(frozen=True, kw_only=True)
class Bin:
    """The images whose best label was given a probability over `low` and up to `high`.

    Units: confidence (the mean of those probabilities) and accuracy are fractions, both 0 for a bin without images
    """

    low: float
    high: float
    count: int
    right_count: int
    confidence: float

    @property
    def accuracy(self) -> float:
        """The share of its images that were classified correctly."""
        return self.right_count / self.count if self.count else 0.0

    @property
    def gap(self) -> float:
        """How far confidence lies above accuracy; negative where the classifier is too modest."""
        return self.confidence - self.accuracy


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """How far confidence and accuracy lie apart.

    Units: ece, the gap of a bin averaged over the images; largest_gap, that of the worst bin; brier, the squared
        distance between probabilities and truth, summed over labels, averaged over images: 0 to 2, 0 is perfect
    Source: Guo et al. 2017, "On Calibration of Modern Neural Networks", arXiv:1706.04599, section 2; Brier 1950,
        "Verification of Forecasts Expressed in Terms of Probability", Monthly Weather Review 78
    """

    ece: float
    largest_gap: float
    brier: float
    bins: tuple[Bin, ...]


def calibrate(
    probabilities: NDArray[np.float32], truth: NDArray[np.int64], *, bin_count: int = BIN_COUNT
) -> Calibration:
    """Sort images by the probability of their best label into bins of equal width and compare.

    Shapes: probabilities (N, K), truth (N,), at least one image
    """
    confidences = probabilities.max(axis=1).astype(np.float64)
    right = probabilities.argmax(axis=1) == truth
    places = np.clip(np.ceil(confidences * bin_count).astype(np.int64) - 1, 0, bin_count - 1)
    counts = np.bincount(places, minlength=bin_count)
    right_counts = np.bincount(places, weights=right, minlength=bin_count)
    totals = np.bincount(places, weights=confidences, minlength=bin_count)
    bins = tuple(
        Bin(
            low=place / bin_count,
            high=(place + 1) / bin_count,
            count=int(counts[place]),
            right_count=int(right_counts[place]),
            confidence=float(totals[place] / max(1, counts[place])),
        )
        for place in range(bin_count)
    )
    return Calibration(
        ece=sum(found.count * abs(found.gap) for found in bins) / len(truth),
        largest_gap=max(abs(found.gap) for found in bins),
        brier=_brier(probabilities, truth),
        bins=bins,
    )


def wilson_interval(right_count: int, count: int) -> tuple[float, float]:
    """The accuracies that `right_count` of `count` images are consistent with, at 95 %.

    Source: Wilson 1927, "Probable Inference, the Law of Succession, and Statistical Inference", JASA 22
    """
    share, spread = right_count / count, _DEVIATIONS_95**2 / count
    middle = (share + spread / 2) / (1 + spread)
    half = _DEVIATIONS_95 / (1 + spread) * math.sqrt(share * (1 - share) / count + spread / (4 * count))
    return max(0.0, middle - half), min(1.0, middle + half)


def _brier(probabilities: NDArray[np.float32], truth: NDArray[np.int64]) -> float:
    """Without an array of one-hot labels: sum (p - y)^2 = sum p^2 - 2 p_true + 1."""
    squares = np.einsum("ij,ij->i", probabilities, probabilities, dtype=np.float64)
    of_truth = probabilities[np.arange(len(truth)), truth].astype(np.float64)
    return max(0.0, float((squares - 2 * of_truth + 1).mean()))
