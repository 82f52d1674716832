"""What pixels are: whole numbers from 0 to 255, in images of a shape that a model can have."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from handoff.contracts.errors import DataSetUnavailable
from handoff.contracts.images import ImageShape

# As a model's manifest allows (handoff.contracts.manifest.Side).
MAX_SIDE = 4096
RGB_CHANNELS = 3
PIXEL_LEVELS = 256
# Array elements looked at together: what is made on the way to unsigned bytes stays at some megabytes.
_BLOCK_ELEMENTS = 1 << 20


def as_images(array: NDArray[Any], *, name: str, shape: ImageShape | None = None, first: int = 0) -> NDArray[np.uint8]:
    """Take an array as images; `name` is what an error calls it, `shape` makes images of flat rows.

    Unsigned bytes are not copied. `first` is the place of a block's first image in the whole array.

    Shapes: (N, H, W), (N, H, W, C), or (N, H*W*C) where `shape` is given -> (N, H, W, C)
    Raises: DataSetUnavailable: another number of axes, or elements that are no pixels
    """
    if array.ndim == 2 and shape is not None:  # noqa: PLR2004 - flat rows
        if array.shape[1] != math.prod(shape):
            said = "x".join(map(str, shape))
            raise DataSetUnavailable(
                f"{name} holds rows of {array.shape[1]} numbers, images of {said} need {math.prod(shape)}."
            )
        array = array.reshape(-1, *shape)
    if array.ndim not in {3, 4}:
        hint = "; flat rows need their --shape HxWxC" if array.ndim == 2 else ""  # noqa: PLR2004
        raise DataSetUnavailable(
            f"{name} must hold images, (N, H, W) or (N, H, W, C); its shape is {array.shape}{hint}."
        )
    pixels = as_pixels(array, name=name, first=first)
    return pixels if pixels.ndim == 4 else pixels[..., np.newaxis]  # noqa: PLR2004 - has its channels


def as_pixels(array: NDArray[Any], *, name: str, first: int = 0) -> NDArray[np.uint8]:
    """Turn numbers into unsigned bytes without changing any; whole numbers stored as floats will do.

    Raises: DataSetUnavailable: another type, NaN, a fraction, or outside 0-255, with its place in the array
    """
    if array.dtype == np.uint8:
        return array
    if array.dtype.kind not in "iuf":
        raise DataSetUnavailable(f"{_demand(name, array)}.")
    pixels = np.empty(array.shape, np.uint8)
    step = max(1, _BLOCK_ELEMENTS // max(1, math.prod(array.shape[1:])))
    for start in range(0, len(array), step):
        block = array[start : start + step]
        fits = are_pixels(block)
        if not fits.all():
            _refuse(array, name, start, fits, first)
        pixels[start : start + step] = block
    # Later blocks may well be black; the first tells how the array was scaled.
    if array.dtype.kind == "f" and array.size and not first and pixels.max() <= 1:
        _refuse_scaled(array, name)
    return pixels


def are_pixels(numbers: NDArray[Any]) -> NDArray[np.bool_]:
    """Say of each number whether it is a whole one from 0 to 255; NaN is not."""
    fits: NDArray[np.bool_] = (numbers >= 0) & (numbers < PIXEL_LEVELS)
    return fits & (numbers == np.trunc(numbers)) if numbers.dtype.kind == "f" else fits


def guess_shape(pixel_count: int) -> ImageShape | None:
    """Guess an image's shape from its size: square gray, else square RGB; None where it is neither."""
    for channels in (1, RGB_CHANNELS):
        side = math.isqrt(pixel_count // channels)
        if pixel_count and side * side * channels == pixel_count:
            return side, side, channels
    return None


def check_shape(shape: ImageShape, *, name: str) -> None:
    """Hold images to the shapes that a model can be trained on.

    Raises: DataSetUnavailable: a side of 0 or over 4096, or neither 1 nor 3 channels
    """
    height, width, channels = shape
    said = "x".join(map(str, shape))
    if channels not in {1, RGB_CHANNELS}:
        first = " (channels come last: transpose the array)" if height in {1, RGB_CHANNELS} else ""
        raise DataSetUnavailable(
            f"{name} holds images of {said} (height x width x channels); they must have 1 or 3 channels{first}."
        )
    if not (0 < height <= MAX_SIDE and 0 < width <= MAX_SIDE):
        raise DataSetUnavailable(
            f"{name} holds images of {said} (height x width x channels); a side must have 1 to {MAX_SIDE} pixels."
        )


def _demand(name: str, array: NDArray[Any]) -> str:
    return f"{name} must hold integers from 0 to 255; it holds {array.dtype}"


def _refuse(array: NDArray[Any], name: str, start: int, fits: NDArray[np.bool_], first: int) -> None:
    if array.dtype.kind == "f" and array.min() >= 0 and array.max() <= 1:  # both are false where there is NaN
        _refuse_scaled(array, name)
    row, *rest = map(int, np.unravel_index(int(np.argmin(fits)), fits.shape))
    found = array[(start + row, *rest)]
    raise DataSetUnavailable(f"{_demand(name, array)}, and {found} at {[first + start + row, *rest]}.")


def _refuse_scaled(array: NDArray[Any], name: str) -> None:
    raise DataSetUnavailable(
        f"{_demand(name, array)} from {array.min()} to {array.max()}; multiply by 255 and round first."
    )
