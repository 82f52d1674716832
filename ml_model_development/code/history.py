"""What a training was, epoch by epoch."""

from __future__ import annotations

from dataclasses import dataclass

import keras


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
