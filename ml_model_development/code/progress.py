"""What a person sees while a network trains: a bar in a terminal, one line an epoch elsewhere."""

from __future__ import annotations

import sys
import time
from types import TracebackType
from typing import Self

from tqdm import tqdm

from ml_model_development.code.history import Epoch


class Progress:
    """Follows a training run; enter it where the run starts."""

    def __init__(self, *, epochs: int, image_count: int) -> None:
        """`image_count` images pass in each epoch."""
        self._epochs = epochs
        self._started_s = time.perf_counter()
        # disable=None: tqdm draws nothing where stderr is no terminal.
        self._bar = tqdm(total=epochs * image_count, unit=" images", unit_scale=True, disable=None, file=sys.stderr)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.close()

    def step(self, images: int) -> None:
        """Count images as trained on."""
        self._bar.update(images)

    def epoch(self, epoch: Epoch) -> None:
        """Report an epoch's figures."""
        spent_s = time.perf_counter() - self._started_s
        left_s = spent_s / epoch.epoch * (self._epochs - epoch.epoch)
        self._bar.write(
            f"epoch {epoch.epoch}/{self._epochs}  loss {epoch.loss:.4f}"
            f"  validation accuracy {epoch.validation_accuracy:.2%}  {epoch.seconds:.1f} s  {left_s:.0f} s left",
            file=sys.stderr,
        )
