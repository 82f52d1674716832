"""Training, part by part: the network for any images, its optimizer, augmentation, and how long a small set takes."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from ml_model_development.code.data_set import Split
from ml_model_development.code.division import hold_back
from ml_model_development.code.recipe import PRESETS, Recipe

pytest.importorskip("keras", reason="the trainer's packages are not installed")

import keras

from ml_model_development.code.models import build_classifier, continue_scorer, count_macs
from ml_model_development.code.training import (
    OrthogonalSGD,
    Trainer,
    _orthogonalise,
    augment,
    build_scorer,
    erase,
    shift,
)

TINY = Recipe(entry=8, stem=16, stages=((16, 1), (32, 0)), epochs=1, batch_size=32, least_steps=1)


def _noise(count: int, shape: tuple[int, int, int], label_count: int = 3) -> Split:
    generator = np.random.default_rng(0)
    images = generator.integers(0, 256, (count, *shape), dtype=np.uint8)
    return Split(images, generator.integers(0, label_count, count))


@pytest.mark.parametrize("shape", [(1, 1, 1), (8, 8, 1), (28, 28, 1), (32, 32, 3), (7, 61, 3), (96, 80, 3)])
def test_the_network_takes_images_of_any_shape(shape: tuple[int, int, int]) -> None:
    """Any height, width and channels in, a row of probabilities an image out."""
    images = _noise(6, shape).images
    classifier = build_classifier(build_scorer(TINY, images, 5))
    found = np.asarray(classifier.predict_on_batch(images))
    assert found.shape == (6, 5)
    assert found.sum(axis=1) == pytest.approx(1.0, abs=1e-5)


def test_large_images_cost_little_more_than_small_ones() -> None:
    """Further halvings keep the stages' work near that of 28x28."""
    small, large = (count_macs(build_scorer(TINY, _noise(2, (side, side, 1)).images, 3)) for side in (28, 112))
    assert large < 6 * small


def test_pixels_are_standardised_by_channel() -> None:
    """A dark and a bright channel reach the first convolution alike."""
    images = np.concatenate([_noise(50, (8, 8, 1)).images // 16, 255 - _noise(50, (8, 8, 2)).images // 8], axis=3)
    scorer = build_scorer(TINY, images, 3)
    standardised = keras.Model(scorer.input, scorer.get_layer("standardise").output)
    found = np.asarray(standardised.predict_on_batch(images))
    assert found.mean(axis=(0, 1, 2)) == pytest.approx([0, 0, 0], abs=1e-3)
    assert found.std(axis=(0, 1, 2)) == pytest.approx([1, 1, 1], abs=1e-3)


@pytest.mark.parametrize("shape", [(144, 32), (16, 64), (64, 64)])
def test_a_step_is_brought_near_orthogonal(shape: tuple[int, int]) -> None:
    """Whatever a gradient's singular values, those of its step lie around 1."""
    matrix = np.random.default_rng(1).normal(size=shape).astype(np.float32) * 1e-3
    made = np.asarray(keras.ops.convert_to_numpy(_orthogonalise(keras.ops.convert_to_tensor(matrix))))
    singular = np.linalg.svd(made, compute_uv=False)
    assert made.shape == shape
    assert singular.max() < 1.4
    assert np.median(singular) > 0.6


def test_kernels_take_orthogonal_steps_and_the_rest_plain_ones() -> None:
    """A convolution's kernel moves as far whatever its gradient's size; a bias moves in proportion."""
    moved = {}
    for scale in (1.0, 100.0):
        kernel = keras.Variable(np.zeros((3, 3, 8, 8), np.float32))
        bias = keras.Variable(np.zeros(8, np.float32))
        optimizer = OrthogonalSGD(learning_rate=0.1, kernel_rate=0.1)
        optimizer.build([kernel, bias])
        gradient = np.random.default_rng(2).normal(size=kernel.shape).astype(np.float32) * scale
        optimizer.apply([keras.ops.convert_to_tensor(gradient), keras.ops.full((8,), scale)])
        moved[scale] = [float(np.abs(np.asarray(keras.ops.convert_to_numpy(it))).sum()) for it in (kernel, bias)]
    assert moved[100.0][0] == pytest.approx(moved[1.0][0], rel=1e-3)
    assert moved[100.0][1] == pytest.approx(100 * moved[1.0][1], rel=1e-3)


def test_the_optimizer_can_be_stored() -> None:
    """What Keras writes of it makes it again."""
    optimizer = OrthogonalSGD(learning_rate=0.3, kernel_rate=0.2, kernel_momentum=0.8, momentum=0.5, nesterov=True)
    again = OrthogonalSGD.from_config(optimizer.get_config())
    assert again.get_config() == optimizer.get_config()


def test_going_on_keeps_the_features_and_replaces_the_head_where_labels_differ() -> None:
    """The same labels: the same scores; other labels: as many scores as labels, from the same features."""
    images = _noise(4, (8, 8, 1)).images
    classifier = build_classifier(build_scorer(TINY, images, 3))
    same = continue_scorer(classifier, 3, same_labels=True)
    other = continue_scorer(classifier, 7, same_labels=False)
    probabilities = np.asarray(classifier.predict_on_batch(images))
    scores = np.asarray(same.predict_on_batch(images))
    assert np.exp(scores) / np.exp(scores).sum(axis=1, keepdims=True) == pytest.approx(probabilities, abs=1e-5)
    assert np.asarray(other.predict_on_batch(images)).shape == (4, 7)
    assert other.get_layer("stem") is classifier.get_layer("stem")


@pytest.mark.parametrize(
    ("count", "batch_size", "steps", "epochs"),
    [(55_000, 256, 214, 6), (1_437, 44, 32, 25), (100, 8, 12, 67), (5, 5, 1, 800)],
)
def test_small_data_sets_are_seen_more_often(count: int, batch_size: int, steps: int, epochs: int) -> None:
    """Fewer images make smaller batches and more epochs, so that there are enough steps to learn from."""
    split = _noise(count, (1, 1, 1))
    trainer = Trainer(recipe=PRESETS["quick"], train=split, validation=split, label_count=3, seed=1)
    assert (trainer.batch_size, trainer.steps, trainer.epochs) == (batch_size, steps, epochs)


def test_equal_seeds_train_equally() -> None:
    """Two runs of one seed see the same images in the same order: the same loss but for the order of additions."""
    split = _noise(96, (8, 8, 1))
    runs = [
        Trainer(recipe=TINY, train=split, validation=split.take(slice(0, 20)), label_count=3, seed=seed).run()
        for seed in (4, 4, 5)
    ]
    losses = [run.history[0].loss for run in runs]
    assert losses[0] == pytest.approx(losses[1], rel=1e-3)
    assert losses[0] != pytest.approx(losses[2], rel=1e-3)


def test_a_mixed_precision_training_is_finished_in_32_bits(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a GPU: layers compute in 16 bits while they learn, and in 32 when they are served."""
    monkeypatch.setattr("ml_model_development.code.training.training_dtype", lambda: "mixed_bfloat16")
    split = _noise(64, (8, 8, 1))
    trainer = Trainer(recipe=TINY, train=split, validation=split, label_count=3, seed=1)
    assert trainer._compiled_scorer().get_layer("stem").compute_dtype == "bfloat16"
    assert {layer.compute_dtype for layer in trainer.run().scorer.layers} <= {"float32", "uint8"}


def test_shifting_moves_and_fills_with_black() -> None:
    """The corner (0, 0) moves an image down and right, (2, 2) up and left, (1, 1) not at all."""
    image = np.arange(1, 10, dtype=np.uint8).reshape(1, 3, 3, 1)
    images = np.repeat(image, 3, axis=0)
    moved = shift(images, np.array([[0, 0], [2, 2], [1, 1]]), 1)[..., 0]
    assert moved[0].tolist() == [[0, 0, 0], [0, 1, 2], [0, 4, 5]]
    assert moved[1].tolist() == [[5, 6, 0], [8, 9, 0], [0, 0, 0]]
    assert moved[2].tolist() == image[0, ..., 0].tolist()


def test_augmentation_mirrors_some_and_leaves_the_original() -> None:
    """Every image is itself or its mirror, both occur, and the same generator gives the same."""
    images = _noise(50, (4, 4, 1)).images
    before = images.copy()
    still = replace(TINY, shift=0.0)
    made = augment(images, np.random.default_rng(1), still)
    same = (made == images).all(axis=(1, 2, 3))
    mirrored = (made == images[:, :, ::-1]).all(axis=(1, 2, 3))
    assert (same | mirrored).all()
    assert 5 < same.sum() < 45
    assert (images == before).all()
    assert (augment(images, np.random.default_rng(1), still) == made).all()
    assert (augment(images, np.random.default_rng(1), replace(still, mirror=False)) == images).all()


@pytest.mark.parametrize("shape", [(28, 28, 1), (3, 40, 3), (1, 1, 1)])
def test_erasing_covers_a_rectangle_of_some_images(shape: tuple[int, int, int]) -> None:
    """Each image named has one shade in one rectangle and is itself elsewhere; the others stay."""
    images = _noise(40, shape).images
    before = images.copy()
    erase(images, np.arange(20), np.random.default_rng(3))
    assert (images[20:] == before[20:]).all()
    for image, old in zip(images[:20], before[:20], strict=True):
        changed = (image != old).any(axis=2)
        rows, columns = np.flatnonzero(changed.any(axis=1)), np.flatnonzero(changed.any(axis=0))
        if len(rows):
            covered = image[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
            assert len(np.unique(covered)) == 1
            assert covered.size <= max(0.3 * image.size, image.shape[2] * max(shape[:2]))


def test_images_to_choose_by_are_not_trained_on() -> None:
    """The two parts are disjoint, a tenth of a small set, and the same for the same seed."""
    numbered = replace(_noise(240, (1, 1, 1)), labels=np.arange(240))
    kept, held_back = hold_back(numbered, 5_000, seed=3)
    assert sorted([*kept.labels, *held_back.labels]) == list(range(240))
    assert len(held_back) == 24
    assert (hold_back(numbered, 5_000, seed=3)[1].labels == held_back.labels).all()
    assert len(hold_back(numbered, 7, seed=3)[1]) == 7
