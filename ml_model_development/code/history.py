"""What a training was, epoch by epoch, and the file that keeps it; importing it imports no Keras."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    import keras

HISTORY_NAME: Final = "history.csv"


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


def write_history(folder: Path, history: Sequence[Epoch]) -> None:
    """Write an artifact's history, a row an epoch."""
    with (folder / HISTORY_NAME).open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, [field.name for field in fields(Epoch)], lineterminator="\n")
        writer.writeheader()
        writer.writerows(asdict(epoch) for epoch in history)


def read_history(folder: Path) -> list[Epoch]:
    """Read an artifact's history; where it is not there, or not what was written, there is none."""
    try:
        with (folder / HISTORY_NAME).open(newline="", encoding="utf-8") as file:
            return [_read_row(row) for row in csv.DictReader(file)]
    except (OSError, ValueError, KeyError, TypeError, csv.Error):
        return []


def _read_row(row: dict[str, str]) -> Epoch:
    number, *figures = (field.name for field in fields(Epoch))
    return Epoch(epoch=int(row[number]), **{name: float(row[name]) for name in figures})
