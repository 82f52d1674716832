"""Train a network and keep the weights that did best on images it did not train on."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import keras
import numpy as np
from numpy.typing import NDArray

from ml_model_development.code.augmentation import augment
from ml_model_development.code.data_set import Split
from ml_model_development.code.network import build_scorer
from ml_model_development.code.recipe import Recipe
from ml_model_development.code.schedule import OneCycle

EVALUATION_BATCH_SIZE = 1_000


@dataclass(frozen=True, kw_only=True)
class Epoch:
    """The figures of one pass over the training images."""

    epoch: int
    loss: float
    accuracy: float
    validation_loss: float
    validation_accuracy: float
    seconds: float


@dataclass(frozen=True)
class Training:
    """A trained scorer with its history."""

    scorer: keras.Model
    history: list[Epoch]
    images_trained: int

    @property
    def best(self) -> Epoch:
        """The epoch whose weights were kept: the best on the validation images, the later of equals."""
        return max(self.history, key=lambda epoch: (epoch.validation_accuracy, epoch.epoch))


@dataclass(frozen=True, kw_only=True)
class Trainer:
    """A recipe applied to a training split."""

    recipe: Recipe
    train: Split
    validation: Split
    label_count: int
    seed: int
    on_step: Callable[[int], None] = lambda _images: None
    """Told how many more images were trained on."""
    on_epoch: Callable[[Epoch], None] = lambda _epoch: None

    def run(self) -> Training:
        """Train from a fresh start; equal seeds give equal choices, and runs equal up to the order of additions."""
        keras.utils.set_random_seed(self.seed)
        generator = np.random.default_rng(self.seed)
        scorer = build_scorer(self.train.images.shape[1:], self.label_count, self.recipe)
        self._compile(scorer)
        kept: list[NDArray[np.float32]] = []
        training = Training(scorer, [], self.recipe.epochs * self._steps * self._batch_size)
        for number in range(1, self.recipe.epochs + 1):
            training.history.append(self._run_epoch(scorer, number, generator))
            if training.best.epoch == number:
                kept = scorer.get_weights()
        scorer.set_weights(kept)
        return training

    @property
    def _batch_size(self) -> int:
        return min(self.recipe.batch_size, len(self.train))

    @property
    def _steps(self) -> int:
        return len(self.train) // self._batch_size

    def _compile(self, scorer: keras.Model) -> None:
        recipe, steps = self.recipe, self._steps * self.recipe.epochs
        schedule = OneCycle(recipe.peak_learning_rate, steps=steps, warm_up_steps=int(steps * recipe.warm_up_fraction))
        optimizer = keras.optimizers.SGD(
            schedule, momentum=recipe.momentum, nesterov=True, weight_decay=recipe.weight_decay
        )
        optimizer.exclude_from_weight_decay(var_names=["gamma", "beta", "bias"])
        scorer.compile(
            optimizer=optimizer,
            loss=keras.losses.CategoricalCrossentropy(from_logits=True, label_smoothing=recipe.label_smoothing),
            metrics=["accuracy"],
            # Measured on CPUs: XLA runs these convolutions at half the speed of the backend's own.
            jit_compile=False,
        )

    def _run_epoch(self, scorer: keras.Model, number: int, generator: np.random.Generator) -> Epoch:
        started_s = time.perf_counter()
        fitted = self._fit(scorer, generator)
        held_back = self._validate(scorer)
        epoch = Epoch(
            epoch=number,
            loss=round(fitted["loss"], 6),
            accuracy=round(fitted["accuracy"], 6),
            validation_loss=round(held_back["loss"], 6),
            validation_accuracy=round(held_back["accuracy"], 6),
            seconds=round(time.perf_counter() - started_s, 2),
        )
        self.on_epoch(epoch)
        return epoch

    def _fit(self, scorer: keras.Model, generator: np.random.Generator) -> Mapping[str, float]:
        """One pass, step by step.

        Measured on two cores: 100 steps take 2.7 s this way each time; with `Model.fit` the TensorFlow backend takes
        2.7 or 5.2 s, since for some iterators it runs every operation on one thread.
        """
        shuffled = self.train.take(generator.permutation(len(self.train)))
        images = augment(shuffled.images, generator, shift_px=self.recipe.shift_px)
        targets = keras.utils.to_categorical(shuffled.labels, self.label_count)
        figures = []
        for step in range(self._steps):
            rows = slice(step * self._batch_size, (step + 1) * self._batch_size)
            scorer.reset_metrics()  # some releases of Keras go on counting from the step before
            figures.append(scorer.train_on_batch(images[rows], targets[rows], return_dict=True))
            self.on_step(self._batch_size)
        return {name: float(np.mean([figure[name] for figure in figures])) for name in figures[0]}

    def _validate(self, scorer: keras.Model) -> Mapping[str, float]:
        figures: Mapping[str, float] = scorer.evaluate(
            self.validation.images,
            keras.utils.to_categorical(self.validation.labels, self.label_count),
            batch_size=EVALUATION_BATCH_SIZE,
            verbose=0,
            return_dict=True,
        )
        return figures


def hold_back(split: Split, count: int, *, seed: int) -> tuple[Split, Split]:
    """Divide a training split into what is trained on and `count` images to choose by."""
    order = np.random.default_rng(seed).permutation(len(split))
    return split.take(order[count:]), split.take(order[:count])
