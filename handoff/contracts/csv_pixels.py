"""Pixels to text and back, many rows at a time, in numpy operations that each touch a whole block.

Reading computes what the text says if it is exactly what `write_pixels` writes, and then whether it is. Anything else
(bad, or only unusual) is left to `csv_strict`. Measured against other ways and other libraries in docs/measurements.md,
"Payload formats".
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Pixels = npt.NDArray[np.uint8]

NEWLINE = 0x0A
_COMMA, _ZERO = 0x2C, 0x30


def _cells(separator: int) -> npt.NDArray[np.uint32]:
    """The text of each pixel value and its separator, NUL-padded to four bytes and seen as one word."""
    cells = [b"%d%c" % (value, separator) for value in range(256)]
    return np.array(cells, dtype="S4").view(np.uint32)


_CELLS, _LAST_CELLS = _cells(_COMMA), _cells(NEWLINE)


def write_pixels(pixels: Pixels) -> bytes:
    """Write rows of pixels as lines of integers with commas between them.

    Shapes: uint8 (N, P) -> N lines of P cells
    """
    cells = _CELLS.take(pixels)
    cells[:, -1] = _LAST_CELLS.take(pixels[:, -1])
    return cells.tobytes().translate(None, b"\0")


def read_pixels(text: bytes | memoryview, *, row_count: int) -> Pixels | None:
    """Read lines as `write_pixels` writes them; None for any other text.

    Shapes: `row_count` lines of P cells -> uint8 (row_count, P)
    """
    # Three separators in front let every cell look back over three digits without leaving the buffer.
    buffer = np.frombuffer(b",,," + text, np.uint8)
    digits = buffer - np.uint8(_ZERO)
    is_digit = digits < 10  # noqa: PLR2004 - unsigned: whatever sorts before "0" wraps to over 200
    digits *= is_digit
    characters, ends = buffer[3:], ~is_digit[3:]
    # `take` at the found places takes 1.2 us an image of 28x28, indexing with the mask itself 4.2 us.
    places = np.flatnonzero(ends)
    if not places.size or places.size % row_count:
        return None
    # At each place: what the three digits before it say.
    hundreds = digits[:-3] * is_digit[1:-2]
    values = digits[1:-2] * np.uint8(10)
    values += digits[2:-1]
    # From 300 on; 256 to 299 wrap to values that need fewer digits.
    too_large = (hundreds > 2) & ends  # noqa: PLR2004
    hundreds *= np.uint8(100)
    values += hundreds
    pixels = values.take(places)
    width = places.size // row_count
    if too_large.any() or not (_separated(characters, places, width=width) and _shortest(pixels, ends)):
        return None
    return pixels.reshape(row_count, width)


def _separated(characters: Pixels, places: npt.NDArray[np.intp], *, width: int) -> bool:
    """Whether what is no digit is a comma, but for a newline after every `width`-th cell."""
    newlines = characters == NEWLINE
    newline_count, comma_count = np.count_nonzero(newlines), np.count_nonzero(characters == _COMMA)
    return bool(
        newline_count * width == places.size
        and newline_count + comma_count == places.size
        and newlines[places[width - 1 :: width]].all()
    )


def _shortest(pixels: Pixels, ends: npt.NDArray[np.bool_]) -> bool:
    """Whether no cell is empty and none has more digits than its value needs.

    A cell that is not empty never has fewer digits than that: it is enough to count them all.
    """
    empty = ends[0] or (ends[1:] & ends[:-1]).any()
    needed = pixels.size + np.count_nonzero(pixels >= 10) + np.count_nonzero(pixels >= 100)  # noqa: PLR2004 - digits
    return bool(not empty and ends.size - pixels.size == needed)
