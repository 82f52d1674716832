"""What a training does, as values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """One way to train: the network's size, how long, and with which settings."""

    widths: tuple[int, int, int]
    """Channels of the stem, of the 14x14 stage and of the 7x7 stage; multiples of 16 fill a vector register."""
    epochs: int
    batch_size: int = 128
    peak_learning_rate: float = 0.1
    warm_up_fraction: float = 0.2
    """Share of the steps in which the learning rate rises; it falls to zero over the rest."""
    momentum: float = 0.9
    weight_decay: float = 5e-3
    """Taken off the kernels at each step, times the learning rate."""
    label_smoothing: float = 0.05
    shift_px: int = 0
    """Images are moved by up to this many pixels either way; half of them are mirrored in any case."""
    validation_count: int = 5_000
    """Images of the training split held back to choose by."""


PRESETS: Mapping[str, Recipe] = MappingProxyType(
    {
        "quick": Recipe(widths=(32, 48, 96), epochs=8),
        "standard": Recipe(widths=(32, 48, 96), epochs=30, label_smoothing=0.1, shift_px=1),
    }
)
