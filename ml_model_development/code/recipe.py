"""What a training does, as values; importing it imports no Keras."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """One way to train: the network's size, how long, and with which settings."""

    entry: int
    """Channels of the convolution at full size; none where it is 0."""
    stem: int
    """Channels of the convolution that halves height and width; multiples of 16 fill a vector register."""
    stages: tuple[tuple[int, int], ...]
    """Channels and residual blocks of each stage; a stage halves height and width, except for the first."""
    epochs: int
    batch_size: int = 256
    least_steps: int = 800
    """A small data set is passed through more often than `epochs` says, until this many batches were seen."""
    kernel_learning_rate: float = 0.04
    """Peak, of the convolutions' kernels, whose steps are orthogonalised."""
    learning_rate: float = 0.2
    """Peak, of everything else."""
    warm_up_fraction: float = 0.2
    """Share of the steps in which the learning rates rise; they fall to zero over the rest."""
    kernel_weight_decay: float = 0.03
    """Taken off the convolutions' kernels at each step, times their learning rate."""
    label_smoothing: float = 0.1
    shift: float = 1 / 28
    """Images are moved by up to this share of their side either way: one pixel of 28."""
    erase_share: float = 0.0
    """Share of the images in which a rectangle is covered."""
    mirror: bool = True
    """Mirror half of the images: right where a mirrored image keeps its label, as clothes do and digits do not."""
    validation_count: int = 5_000
    """Images of the training split held back to choose by; a tenth of it where it is small."""


PRESETS: Mapping[str, Recipe] = MappingProxyType(
    {
        "quick": Recipe(entry=0, stem=32, stages=((48, 0), (96, 1)), epochs=6),
        "standard": Recipe(entry=16, stem=64, stages=((64, 1), (128, 1)), epochs=50, shift=2 / 28, erase_share=0.3),
        "best": Recipe(entry=16, stem=64, stages=((64, 1), (128, 1)), epochs=110, shift=2 / 28, erase_share=0.5),
    }
)
