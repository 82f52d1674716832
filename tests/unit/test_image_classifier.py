"""The Python way in: arrays in, a classifier that learns, says how good it is, is saved and taken up again."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

pytest.importorskip("keras", reason="the trainer's packages are not installed")

from handoff.contracts.errors import ArtifactInvalid, DataSetUnavailable, SettingsInvalid
from ml_model_development import ImageClassifier
from ml_model_development.code.recipe import Recipe

TINY = Recipe(entry=8, stem=16, stages=((16, 0), (16, 0)), epochs=6, batch_size=16, least_steps=1, mirror=False)


def _draw(count: int, seed: int) -> tuple[NDArray[np.uint8], list[str]]:
    """Colour images of 9x11 that are red, green or blue, with noise."""
    generator = np.random.default_rng(seed)
    ids = generator.integers(0, 3, count)
    images = generator.integers(0, 60, (count, 9, 11, 3))
    images[np.arange(count), :, :, ids] += 150
    return images.astype(np.uint8), [("red", "green", "blue")[place] for place in ids]


@pytest.fixture(scope="module")
def trained() -> ImageClassifier:
    """A classifier of three colours."""
    classifier = ImageClassifier("tiny", recipe=TINY, seed=2)
    classifier.train(*_draw(300, 1))
    return classifier


@pytest.fixture(scope="module")
def saved(trained: ImageClassifier, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Its artifact."""
    return trained.save(tmp_path_factory.mktemp("artifacts") / "1", test=_draw(100, 2)).path


def test_it_learns_names_and_shape_from_arrays(trained: ImageClassifier) -> None:
    """Labels are sorted by name, the shape is that of the images, and new images are told apart."""
    assert trained.labels == ("blue", "green", "red")
    assert trained.input_shape == (9, 11, 3)
    images, truth = _draw(90, 3)
    probabilities = trained.classify(images)
    assert probabilities.shape == (90, 3)
    assert probabilities.sum(axis=1) == pytest.approx(1.0, abs=1e-5)
    found = [trained.labels[place] for place in probabilities.argmax(axis=1)]
    assert np.mean([left == right for left, right in zip(found, truth, strict=True)]) > 0.9
    assert trained.classify(images[:0]).shape == (0, 3)


def test_it_says_how_good_it_is(trained: ImageClassifier) -> None:
    """Accuracy, confusion and calibration of labelled images."""
    evaluation = trained.test(*_draw(120, 4))
    assert evaluation.accuracy > 0.9
    assert evaluation.confusion.sum() == 120
    assert 0 <= evaluation.calibration.ece <= 1


def test_what_is_saved_is_loaded_and_says_the_same(trained: ImageClassifier, saved: Path) -> None:
    """The served graph agrees with the model that was trained, but for 8-bit arithmetic."""
    loaded = ImageClassifier.load(saved)
    images, _ = _draw(64, 5)
    assert (loaded.labels, loaded.input_shape) == (trained.labels, trained.input_shape)
    assert np.abs(loaded.classify(images) - trained.classify(images)).mean() < 0.02


def test_it_goes_on_from_what_was_saved(saved: Path) -> None:
    """Labels that come in another order keep their places; other labels get a new last layer."""
    images, truth = _draw(200, 6)
    again = ImageClassifier.load(saved, recipe=TINY)
    again.train(images, truth)
    assert again.labels == ("blue", "green", "red")
    assert again.test(*_draw(60, 7)).accuracy > 0.9
    warm = ["cold" if label == "blue" else "warm" for label in truth]
    again.train(images, warm)
    assert again.labels == ("cold", "warm")
    assert again.classify(images).shape == (200, 2)


def test_numbers_are_named_by_their_names_where_given() -> None:
    """Whole numbers as labels: names by id, else the numbers themselves."""
    images, truth = _draw(60, 8)
    numbers = np.array([("red", "green", "blue").index(label) for label in truth])
    classifier = ImageClassifier("tiny", recipe=TINY)
    classifier.train(images, numbers, label_names=["red", "green", "blue"])
    assert classifier.labels == ("red", "green", "blue")
    classifier = ImageClassifier("tiny", recipe=TINY)
    classifier.train(images, numbers)
    assert classifier.labels == ("0", "1", "2")


def test_bad_arrays_are_refused_with_a_sentence(trained: ImageClassifier) -> None:
    """Each mistake is named before any time is spent."""
    images, truth = _draw(20, 9)
    fresh = ImageClassifier("tiny", recipe=TINY)
    with pytest.raises(DataSetUnavailable, match="20 images but 19 labels"):
        fresh.train(images, truth[1:])
    with pytest.raises(DataSetUnavailable, match="label"):
        fresh.train(images, ["red"] * 20)
    with pytest.raises(DataSetUnavailable, match="integers from 0 to 255"):
        fresh.train(np.full((2, 4, 4), np.nan), ["a", "b"])
    with pytest.raises(DataSetUnavailable, match="the model takes 9x11x3"):
        trained.classify(images[:, :8])
    with pytest.raises(DataSetUnavailable, match="takes 9x11x3"):
        trained.train(images[:, :8], truth)
    with pytest.raises(DataSetUnavailable):
        trained.test(images, ["purple"] * 20)
    with pytest.raises(SettingsInvalid, match="no preset 'fast'"):
        ImageClassifier("fast")


def test_what_is_not_there_cannot_be_used(saved: Path, tmp_path: Path) -> None:
    """Classifying before training, saving what was only loaded, and saving over something."""
    with pytest.raises(ArtifactInvalid, match="neither trained nor loaded"):
        ImageClassifier().classify(np.zeros((1, 9, 11, 3), np.uint8))
    with pytest.raises(ArtifactInvalid, match="Nothing was trained"):
        ImageClassifier.load(saved).save(tmp_path / "2", test=_draw(10, 1))
    fresh = ImageClassifier("tiny", recipe=TINY)
    fresh.train(*_draw(60, 1))
    with pytest.raises(SettingsInvalid, match="not empty"):
        fresh.save(saved, test=_draw(10, 1))
