"""Calibration by temperature: what is found, and that no label changes."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("keras", reason="the trainer's packages are not installed")

from ml_model_development.code.data_set import Split
from ml_model_development.code.recipe import Recipe
from ml_model_development.code.temperature import calibrate_scorer, fit_temperature
from ml_model_development.code.training import build_scorer


@pytest.mark.parametrize("temperature", [0.3, 1.0, 4.0])
def test_scores_scaled_by_a_temperature_are_scaled_back(temperature: float) -> None:
    """Labels drawn from the probabilities themselves: the best temperature is the one they were spoilt with."""
    generator = np.random.default_rng(1)
    scores = generator.normal(size=(20_000, 4)) * 2
    probabilities = np.exp(scores) / np.exp(scores).sum(axis=1, keepdims=True)
    truth = (probabilities.cumsum(axis=1) < generator.random((20_000, 1))).sum(axis=1).clip(max=3)
    assert fit_temperature((scores * temperature).astype(np.float32), truth) == pytest.approx(temperature, rel=0.05)


def test_calibrating_a_scorer_divides_its_scores() -> None:
    """Every score is divided by the temperature, so the order of labels stays."""
    generator = np.random.default_rng(2)
    split = Split(generator.integers(0, 256, (50, 8, 8, 1), dtype=np.uint8), generator.integers(0, 3, 50))
    scorer = build_scorer(Recipe(entry=8, stem=16, stages=((16, 0),), epochs=1), split.images, 3)
    before = np.asarray(scorer.predict_on_batch(split.images))
    temperature = calibrate_scorer(scorer, split)
    assert np.asarray(scorer.predict_on_batch(split.images)) == pytest.approx(before / temperature, rel=1e-3, abs=1e-5)
