"""The epochs of a training as its artifact keeps them."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path
from typing import Final

HISTORY_NAME: Final = "history.csv"


@dataclass(frozen=True, kw_only=True)
class PastEpoch:
    """The figures of one pass over the training images."""

    epoch: int
    loss: float
    accuracy: float
    validation_loss: float
    validation_accuracy: float


def read_past_training(folder: Path) -> list[PastEpoch]:
    """Read an artifact's history; where it is not there, or not what was written, there is none."""
    try:
        with (folder / HISTORY_NAME).open(newline="", encoding="utf-8") as file:
            return [_read_row(row) for row in csv.DictReader(file)]
    except (OSError, ValueError, KeyError, TypeError, csv.Error):
        return []


def _read_row(row: dict[str, str]) -> PastEpoch:
    return PastEpoch(
        epoch=int(row["epoch"]),
        loss=float(row["loss"]),
        accuracy=float(row["accuracy"]),
        validation_loss=float(row["validation_loss"]),
        validation_accuracy=float(row["validation_accuracy"]),
    )
