"""New looks of the training images, made a whole epoch at a time."""

from __future__ import annotations

from itertools import product

import numpy as np
from numpy.typing import NDArray


def augment(images: NDArray[np.uint8], generator: np.random.Generator, *, shift_px: int) -> NDArray[np.uint8]:
    """Mirror half of the images and move each by up to `shift_px` pixels either way, black coming in at the edge.

    Shapes: (N, H, W, C) -> the same, a copy
    """
    mirrored = images.copy()
    which = generator.random(len(images)) < 0.5  # noqa: PLR2004 - half of them
    mirrored[which] = mirrored[which, :, ::-1]
    return shift(mirrored, generator.integers(0, 2 * shift_px + 1, (len(images), 2)), shift_px)


def shift(images: NDArray[np.uint8], corners: NDArray[np.int64], margin_px: int) -> NDArray[np.uint8]:
    """Cut each image out of itself with a black margin, from its own corner on.

    Shapes: images (N, H, W, C), corners (N, 2) of 0..2*margin_px -> (N, H, W, C)
    """
    if margin_px == 0:
        return images
    height, width = images.shape[1:3]
    edges = (margin_px, margin_px)
    padded = np.pad(images, ((0, 0), edges, edges, (0, 0)))
    moved = np.empty_like(images)
    for top, left in product(range(2 * margin_px + 1), repeat=2):
        which = np.flatnonzero((corners[:, 0] == top) & (corners[:, 1] == left))
        moved[which] = padded[which, top : top + height, left : left + width]
    return moved
