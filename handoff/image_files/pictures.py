"""PNG and JPEG files, alone or in folders: one sub-folder a label."""

from __future__ import annotations

import io
import math
import os
import struct
import zlib
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from handoff.contracts.errors import DataSetUnavailable
from handoff.image_files.kinds import PICTURE_ENDINGS
from handoff.image_files.pixels import MAX_SIDE, PIXEL_LEVELS

if TYPE_CHECKING:
    from PIL.Image import Image as Picture

# What files called .png and .jpg are; others (EPS starts an interpreter) are not tried.
_FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "GIF")
# 67 million: a few hundred kilobytes of PNG can hold them, and laying them on white takes 1 GB.
MAX_PIXELS = 4 * MAX_SIDE * MAX_SIDE
_GRAY_MODES = frozenset({"1", "L", "LA", "La", "I", "I;16", "I;16B", "I;16L"})
_ALPHA_MODES = frozenset({"LA", "La", "PA", "RGBA", "RGBa"})
_ORIENTATION_TAG = 0x0112
# All that Pillow raises for files that others broke; its DecompressionBombError derives from none of these.
_BROKEN = (
    OSError,
    SyntaxError,
    ValueError,
    TypeError,
    LookupError,
    EOFError,
    OverflowError,
    MemoryError,
    struct.error,
    zlib.error,
)


def find_pictures(folder: Path) -> list[Path]:
    """List the pictures of a folder and its sub-folders, in the order of their names; hidden ones are left out.

    Raises: DataSetUnavailable: there are none, or a sub-folder cannot be looked into
    """
    found: list[Path] = []

    def refuse(error: OSError) -> None:
        raise DataSetUnavailable(f"{error.filename} cannot be read ({error.strerror}); check its permissions.")

    for place, folders, files in os.walk(folder, onerror=refuse):
        folders[:] = [name for name in folders if not name.startswith(".")]
        found += [
            Path(place, name)
            for name in files
            if name.lower().endswith(tuple(PICTURE_ENDINGS)) and not name.startswith(".")
        ]
    if not found:
        raise DataSetUnavailable(f"The folder {folder} holds no .png or .jpg files; name one that does.")
    return sorted(found)


def read_picture(path: Path, *, size: tuple[int, int] | None = None, channels: int | None = None) -> NDArray[np.uint8]:
    """Read a picture the way it is shown: turned as its camera says, on white where it is transparent.

    Gray stays gray and everything else becomes RGB, unless `channels` (1 or 3) says otherwise; of 16 bits the upper
    eight are kept. `size` (height, width) stretches or shrinks it to that.

    Shapes: uint8 (H, W, 1) or (H, W, 3)
    Raises: DataSetUnavailable: no picture, or over 4096 pixels a side where no `size` is given; begins with the path
    """
    return _read(path, name=str(path), size=size, channels=channels)


def decode_picture(
    data: bytes, *, name: str, size: tuple[int, int] | None = None, channels: int | None = None
) -> NDArray[np.uint8]:
    """Read a picture that is in memory as `read_picture` does; `name` is what an error calls it.

    Shapes: uint8 (H, W, 1) or (H, W, 3)
    Raises: DataSetUnavailable: as `read_picture`
    """
    return _read(io.BytesIO(data), name=name, size=size, channels=channels)


def _read(
    source: Path | io.BytesIO, *, name: str, size: tuple[int, int] | None, channels: int | None
) -> NDArray[np.uint8]:
    from PIL import Image

    try:
        if isinstance(source, Path) and source.is_fifo():  # in a folder of pictures nobody writes into it
            raise DataSetUnavailable(f"{name} is a pipe, and no picture that can be read.")
        with Image.open(source, formats=_FORMATS) as picture:
            if size is None and max(picture.size) > MAX_SIDE:
                raise DataSetUnavailable(f"{name} is {_say(picture.size)}, over {MAX_SIDE} a side; give a --size HxW.")
            if size is not None:  # a JPEG shrinks while it is decoded, in a fraction of the time
                picture.draft(None, (max(size), max(size)))
            if math.prod(picture.size) > MAX_PIXELS:
                raise DataSetUnavailable(f"{name} has {math.prod(picture.size)} pixels, over {MAX_PIXELS}; shrink it.")
            gray = picture.mode in _GRAY_MODES if channels is None else channels == 1
            shown = _turn(_flatten(_as_eight_bits(picture)), _orientation(picture)).convert("L" if gray else "RGB")
            return _as_pixels(shown, size)
    except (*_BROKEN, Image.DecompressionBombError) as error:
        raise DataSetUnavailable(f"{name} is no picture that can be read: {_reason(error, source)}.") from error


def read_png(path: Path) -> NDArray[np.uint8] | None:
    """Read a picture that `encode_png` has written, pixel for pixel; None for whatever else lies there.

    Shapes: uint8 (H, W, 1) or (H, W, 3)
    """
    from PIL import Image

    try:
        with Image.open(path, formats=("PNG",)) as picture:
            if picture.mode not in {"L", "RGB"} or math.prod(picture.size) > MAX_PIXELS:
                return None
            return _as_pixels(picture, None)
    except (*_BROKEN, Image.DecompressionBombError):
        return None


def encode_png(pixels: NDArray[np.uint8]) -> bytes:
    """Write an image as a PNG file's bytes.

    Shapes: uint8 (H, W, 1), which becomes gray, or (H, W, 3), which becomes RGB
    """
    from PIL import Image

    file = io.BytesIO()
    Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels).save(file, "PNG")
    return file.getvalue()


def resize(pixels: NDArray[np.uint8], size: tuple[int, int]) -> NDArray[np.uint8]:
    """Stretch or shrink an image.

    Shapes: (H, W, C) with 1 or 3 channels -> (*size, C)
    """
    from PIL import Image

    return _as_pixels(Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels), size)


def _as_pixels(picture: Picture, size: tuple[int, int] | None) -> NDArray[np.uint8]:
    if size is not None and picture.size != size[::-1]:
        picture = picture.resize(size[::-1])
    pixels = np.asarray(picture, np.uint8)
    return pixels[..., np.newaxis] if pixels.ndim == 2 else pixels  # noqa: PLR2004 - gray has no axis of channels


def _as_eight_bits(picture: Picture) -> Picture:
    if not picture.mode.startswith("I"):
        return picture
    from PIL import Image

    numbers = np.array(picture)
    numbers >>= 8
    return Image.fromarray(numbers.clip(0, PIXEL_LEVELS - 1, out=numbers).astype(np.uint8))


def _flatten(picture: Picture) -> Picture:
    """Lay a transparent picture on white, as a page shows it: what is under the transparency is often black."""
    if picture.mode not in _ALPHA_MODES and "transparency" not in picture.info:
        return picture
    from PIL import Image

    return Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture.convert("RGBA"))


def _orientation(picture: Picture) -> int:
    try:
        return int(picture.getexif().get(_ORIENTATION_TAG, 1))
    except _BROKEN:  # what a camera wrote beside the picture is no reason to refuse it
        return 1


def _turn(picture: Picture, orientation: int) -> Picture:
    """Source: Exif 2.32, section 4.6.4, tag Orientation."""
    from PIL.Image import Transpose

    turns = {
        2: Transpose.FLIP_LEFT_RIGHT,
        3: Transpose.ROTATE_180,
        4: Transpose.FLIP_TOP_BOTTOM,
        5: Transpose.TRANSPOSE,
        6: Transpose.ROTATE_270,
        7: Transpose.TRANSVERSE,
        8: Transpose.ROTATE_90,
    }
    return picture.transpose(turns[orientation]) if orientation in turns else picture


def _say(size: tuple[int, int]) -> str:
    return f"{size[1]}x{size[0]} (height x width)"


def _reason(error: BaseException, source: Path | io.BytesIO) -> str:
    """What Pillow said, on one line and without the source, whose name begins the sentence."""
    shown = repr(str(source) if isinstance(source, Path) else source)
    told = error.strerror if isinstance(error, OSError) and error.strerror else str(error)  # not its number and path
    said = " ".join(told.replace(shown, "").split())
    return said.rstrip(". ") or type(error).__name__
