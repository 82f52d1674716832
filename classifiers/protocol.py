"""What is asked of whatever classifies images."""

from __future__ import annotations

from typing import Protocol

import numpy as np
import numpy.typing as npt

Images = npt.NDArray[np.uint8]
Probabilities = npt.NDArray[np.float32]


class Classifier(Protocol):
    """One loaded model; used by one thread."""

    def classify(self, images: Images) -> Probabilities:
        """Classify images.

        Shapes: uint8 (N, H, W, C) -> float32 (N, K), rows summing to 1
        Raises: RuntimeUnavailable: a remote runtime did not answer
        """

    def warm_up(self, sizes: list[int]) -> None:
        """Run once at each micro-batch size, so that no request pays for a first run."""
