"""Figures of an evaluation, held to figures made by hand."""

from __future__ import annotations

import json

import numpy as np
import pytest
from numpy.typing import NDArray

from ml_model_development.code.calibration import calibrate, wilson_interval
from ml_model_development.code.evaluation import evaluate, most_confused, most_wrong, to_figures

PROBABILITIES = np.array([[0.8, 0.2], [0.6, 0.4], [0.3, 0.7], [0.9, 0.1]], np.float32)
TRUTH = np.array([0, 1, 1, 0])


def _claim(confidences: list[float]) -> NDArray[np.float32]:
    """Two labels, the first with these probabilities."""
    first = np.array(confidences, np.float32)
    return np.stack([first, 1 - first], axis=1)


def test_calibration_agrees_with_figures_made_by_hand() -> None:
    """Two bins of fifteen: one image over 93 %, right; two at 90 %, of which one is right."""
    found = calibrate(_claim([0.98, 0.90, 0.88]), np.array([0, 0, 1]))
    assert len(found.bins) == 15
    filled = [each for each in found.bins if each.count]
    assert [(each.count, each.right_count) for each in filled] == [(2, 1), (1, 1)]
    assert filled[0].confidence == pytest.approx(0.89)
    assert filled[0].gap == pytest.approx(0.39)
    assert filled[1].gap == pytest.approx(-0.02)
    assert found.ece == pytest.approx((2 * 0.39 + 0.02) / 3)
    assert found.largest_gap == pytest.approx(0.39)
    assert found.brier == pytest.approx((2 * 0.02**2 + 2 * 0.1**2 + 2 * 0.88**2) / 3, rel=1e-5)


def test_who_is_always_sure_and_right_is_calibrated() -> None:
    """A probability of 1 belongs to the last bin, and nothing is left to mend."""
    found = calibrate(_claim([1.0, 1.0]), np.array([0, 0]))
    assert (found.ece, found.largest_gap, found.brier, found.bins[-1].count) == (0.0, 0.0, 0.0, 2)


def test_who_is_always_sure_and_wrong_is_not() -> None:
    """The worst there can be: gap 1, Brier score 2; the loss stays finite."""
    found = evaluate(_claim([1.0, 1.0]), np.array([1, 1]), ("a", "b"))
    assert (found.calibration.ece, found.calibration.brier, found.accuracy) == (1.0, 2.0, 0.0)
    assert np.isfinite(found.loss)


def test_a_bin_holds_its_upper_edge() -> None:
    """Bins are open below and closed above, as in the paper: 2/3 is in the tenth of fifteen."""
    (place,) = [index for index, found in enumerate(calibrate(_claim([10 / 15]), np.array([0])).bins) if found.count]
    assert place in {9, 10}  # float32 cannot hold the edge itself
    (place,) = [index for index, found in enumerate(calibrate(_claim([0.5]), np.array([0])).bins) if found.count]
    assert place == 7


@pytest.mark.parametrize(
    ("right", "count", "low", "high"),
    [(81, 263, 0.2553, 0.3662), (0, 10, 0.0, 0.2775), (10, 10, 0.7225, 1.0)],
)
def test_the_interval_is_wilsons(right: int, count: int, low: float, high: float) -> None:
    """The example of Newcombe 1998, table I, and the two ends."""
    assert wilson_interval(right, count) == pytest.approx((low, high), abs=1e-4)


def test_averages_count_each_label_that_occurs_the_same() -> None:
    """A label without images has no say."""
    found = evaluate(np.hstack([PROBABILITIES, np.zeros((4, 1), np.float32)]), TRUTH, ("a", "b", "never"))
    assert found.average.recall == pytest.approx((1.0 + 0.5) / 2)
    assert found.average.precision == pytest.approx((2 / 3 + 1.0) / 2)
    assert found.average.support == found.image_count == 4
    assert found.right_count == 3


def test_the_most_confidently_wrong_come_first() -> None:
    """Wrong ones only, the surest first, equals in their order, at most as many as asked for."""
    probabilities = _claim([0.7, 0.99, 0.95, 0.3, 0.7])
    truth = np.array([1, 0, 1, 0, 1])
    assert most_wrong(probabilities, truth).tolist() == [2, 0, 3, 4]
    assert most_wrong(probabilities, truth, count=2).tolist() == [2, 0]
    assert most_wrong(probabilities[1:2], truth[1:2]).tolist() == []


def test_pairs_that_are_confused_are_named() -> None:
    """The most frequent first; pairs that never occur are left out."""
    found = evaluate(np.eye(3, dtype=np.float32)[[0, 1, 1, 2, 0]], np.array([0, 0, 0, 2, 1]), ("a", "b", "c"))
    assert [(pair.true, pair.predicted, pair.count) for pair in most_confused(found)] == [("a", "b", 2), ("b", "a", 1)]


def test_figures_are_plain_json() -> None:
    """What metrics.json holds survives JSON, and its parts add up."""
    figures = to_figures(evaluate(PROBABILITIES, TRUTH, ("a", "b")))
    assert json.loads(json.dumps(figures)) == figures
    assert figures["accuracy"] == 0.75
    assert figures["accuracy_interval_95"][0] < 0.75 < figures["accuracy_interval_95"][1]
    assert sum(map(sum, figures["confusion"])) == figures["images"] == 4
    assert sum(found["count"] for found in figures["calibration"]) == 4
    assert [quality["label"] for quality in figures["labels"]] == ["a", "b"]
    assert set(figures) >= {"loss", "ece", "brier", "macro_f1", "macro_precision", "macro_recall"}
