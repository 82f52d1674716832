"""Train a network and keep the weights that did best on images it did not train on."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

import keras
import numpy as np
from keras import ops
from numpy.typing import NDArray

from ml_model_development.code.augmentation import augment
from ml_model_development.code.data_set import Split
from ml_model_development.code.network import build_scorer
from ml_model_development.code.recipe import Recipe

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


@keras.saving.register_keras_serializable("fashion")
class OneCycle(keras.optimizers.schedules.LearningRateSchedule):  # type: ignore[misc] # untyped base
    """A learning rate that rises from a tenth to its peak, then falls to zero, both in straight lines.

    Source: Smith and Topin 2017, "Super-Convergence", arXiv:1708.07120
    """

    def __init__(self, peak: float, *, steps: int, warm_up_steps: int) -> None:
        self.peak, self.steps, self.warm_up_steps = peak, steps, warm_up_steps

    def __call__(self, step: keras.KerasTensor) -> keras.KerasTensor:
        """The learning rate of a step."""
        step = ops.cast(step, "float32")
        rising = 0.1 + 0.9 * step / max(self.warm_up_steps, 1)
        falling = (self.steps - step) / max(self.steps - self.warm_up_steps, 1)
        return self.peak * ops.maximum(ops.minimum(rising, falling), 0.0)

    def get_config(self) -> dict[str, float]:
        """What Keras stores to build it again."""
        return {"peak": self.peak, "steps": self.steps, "warm_up_steps": self.warm_up_steps}


@dataclass(kw_only=True)
class Trainer:
    """One training run: a recipe applied to a training split."""

    recipe: Recipe
    train: Split
    validation: Split
    label_count: int
    seed: int
    on_step: Callable[[int], None] = lambda _images: None
    on_epoch: Callable[[Epoch], None] = lambda _epoch: None
    history: list[Epoch] = field(default_factory=list)

    def run(self) -> Training:
        """Train from a fresh start; equal seeds give equal runs on one machine, up to the order of float additions."""
        keras.utils.set_random_seed(self.seed)
        generator = np.random.default_rng(self.seed)
        scorer = build_scorer(self.train.images.shape[1:], self.label_count, self.recipe)
        self._compile(scorer)
        best: list[NDArray[np.float32]] = []
        for number in range(1, self.recipe.epochs + 1):
            self._run_epoch(scorer, number, generator)
            if self.history[-1].validation_accuracy >= max(e.validation_accuracy for e in self.history):
                best = scorer.get_weights()
        scorer.set_weights(best)
        return Training(scorer, self.history, self.recipe.epochs * self._steps * self._batch_size)

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
            # Measured on CPUs: XLA compiles these convolutions to half the speed of the backend's own.
            jit_compile=False,
            steps_per_execution=min(10, self._steps),
        )

    def _run_epoch(self, scorer: keras.Model, number: int, generator: np.random.Generator) -> None:
        started_s = time.perf_counter()
        order = generator.permutation(len(self.train))[: self._steps * self._batch_size]
        shuffled = self.train.take(order)
        fitted = scorer.fit(
            augment(shuffled.images, generator, shift_px=self.recipe.shift_px),
            keras.utils.to_categorical(shuffled.labels, self.label_count),
            batch_size=self._batch_size,
            shuffle=False,
            verbose=0,
            callbacks=[self._step_callback()],
        ).history
        held_back = scorer.evaluate(
            self.validation.images,
            keras.utils.to_categorical(self.validation.labels, self.label_count),
            batch_size=EVALUATION_BATCH_SIZE,
            verbose=0,
            return_dict=True,
        )
        epoch = Epoch(
            epoch=number,
            loss=fitted["loss"][-1],
            accuracy=fitted["accuracy"][-1],
            validation_loss=held_back["loss"],
            validation_accuracy=held_back["accuracy"],
            seconds=time.perf_counter() - started_s,
        )
        self.history.append(epoch)
        self.on_epoch(epoch)

    def _step_callback(self) -> keras.callbacks.Callback:
        done = 0

        def report(batch: int, logs: object) -> None:
            nonlocal done
            del logs  # Keras names its arguments
            self.on_step((batch + 1 - done) * self._batch_size)
            done = batch + 1

        return keras.callbacks.LambdaCallback(on_train_batch_end=report)


def hold_back(split: Split, count: int, *, seed: int) -> tuple[Split, Split]:
    """Divide a training split into what is trained on and `count` images to choose by."""
    order = np.random.default_rng(seed).permutation(len(split))
    return split.take(order[count:]), split.take(order[:count])
