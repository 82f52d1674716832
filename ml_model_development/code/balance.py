"""How evenly images are spread over their labels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

# From here on a model gains more by guessing the common label than by learning the rare one; a rule of thumb.
LARGEST_RATIO = 10.0
# Fewer images than this hold no variety to learn from, and some of them are held back to choose by.
FEWEST_IMAGES = 20


@dataclass(frozen=True, kw_only=True)
class Balance:
    """How many images each label has.

    Units: ratio is the largest count divided by the smallest, infinite where a label has no image
    """

    counts: Mapping[str, int]
    ratio: float
    warning: str | None
    """A sentence where accuracy on a rare label will suffer."""


def describe_balance(labels: NDArray[np.int64], names: Sequence[str]) -> Balance:
    """Count images a label and say whether some have too few.

    Shapes: labels (N,), places in `names`
    """
    counted = np.bincount(labels, minlength=len(names)).tolist()
    counts = dict(zip(names, counted, strict=True))
    most, least = max(counts, key=counts.__getitem__), min(counts, key=counts.__getitem__)
    ratio = counts[most] / counts[least] if counts[least] else float("inf")
    warning = None
    if counts[least] < FEWEST_IMAGES:
        few = sum(count < FEWEST_IMAGES for count in counted)
        warning = (
            f"{few} of {len(names)} labels have fewer than {FEWEST_IMAGES} images (the fewest: {least}, "
            f"{counts[least]}); expect them to be missed, or add images."
        )
    elif ratio > LARGEST_RATIO:
        warning = (
            f"{most} has {ratio:.0f} times as many images as {least} ({counts[most]} and {counts[least]}); expect"
            f" {least} to be missed more often, or add images of it."
        )
    return Balance(counts=counts, ratio=ratio, warning=warning)
