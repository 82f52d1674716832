"""What a batch CSV is, cell by cell: the specification that the fast reader must agree with.

Slow, and exact about what is wrong: it names the row and the column.
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterator
from functools import lru_cache

import numpy as np

from handoff.contracts.errors import InvalidBatch, PayloadTooLarge
from handoff.contracts.images import MAX_NAME_LENGTH, Batch, ImageShape, default_image_ids, excerpt, place

BYTE_ORDER_MARK = b"\xef\xbb\xbf"
NAME_COLUMNS = ("image_id", "label")

# One to three digits: "7", "07" and "007" are one pixel; a sign, a space, a point or a fourth digit are none.
_PIXELS = {f"{value:0{width}}": value for value in range(256) for width in (1, 2, 3)}


@lru_cache(maxsize=8)
def pixel_names(count: int) -> list[str]:
    """The names of the pixel columns, row-major."""
    return [f"pixel_{index}" for index in range(count)]


def refuse_row_count(max_images: int) -> PayloadTooLarge:
    """The error for a batch of more rows than allowed."""
    return PayloadTooLarge(f"The batch holds more than {max_images} images, the most that one request may.")


def read_csv(data: bytes, *, image_shape: ImageShape, max_images: int) -> Batch:
    """Read a batch CSV, refusing the first thing that is not as specified.

    Raises: InvalidBatch: with row and column; PayloadTooLarge: more than `max_images` rows
    """
    # 16 bytes hold a quoted cell or column name and its comma; quoted names may double in size.
    records = _records(data, longest=16 * (math.prod(image_shape) + MAX_NAME_LENGTH))
    header = next(records, None)
    if not header:
        raise InvalidBatch("The batch is empty: its first line must name the columns.")
    names = _leading_names(header, image_shape)
    columns: dict[str, list[str]] = {name: [] for name in names}
    pixels = bytearray()
    for row, record in enumerate(records):
        if row >= max_images:
            raise refuse_row_count(max_images)
        _check_width(row, record, header)
        for name, cell in zip(names, record, strict=False):
            columns[name].append(cell)
        pixels += _pixels(row, record[len(names) :])
    if not pixels:
        raise InvalidBatch("The batch holds no images: there is no row after the header.")
    images = np.frombuffer(pixels, np.uint8).reshape(-1, *image_shape)
    return Batch(images, columns.get("image_id") or default_image_ids(len(images)), columns.get("label"))


def _records(data: bytes, longest: int) -> Iterator[list[str]]:
    """Yield the header and then the rows, decoding line by line: memory stays small whatever is sent."""
    file = io.BytesIO(data)
    begin = file.seek(len(BYTE_ORDER_MARK) if data.startswith(BYTE_ORDER_MARK) else 0)
    row = 0

    def lines() -> Iterator[str]:
        while line := file.readline(longest + 1):
            if file.tell() - begin > longest:
                raise InvalidBatch(f"{_line(row)} is over {longest} bytes, longer than any row of such images.")
            yield line.decode()

    try:
        for record in csv.reader(lines(), strict=True):
            yield record
            begin = file.tell()
            row += 1
    except UnicodeDecodeError as error:
        raise InvalidBatch(f"{_line(row)} is not UTF-8 text: {error.reason}.") from error
    except csv.Error as error:
        raise InvalidBatch(f"{_line(row)} is not a line of CSV: {error}.") from error


def _line(row: int) -> str:
    return f"Data row {row} (1 is the first after the header)" if row else "The header"


def _leading_names(header: list[str], image_shape: ImageShape) -> list[str]:
    """Check the header and give the columns before the pixels."""
    leading = next((index for index, name in enumerate(header) if name not in NAME_COLUMNS), len(header))
    expected = pixel_names(math.prod(image_shape))
    found = header[leading:]
    if len(set(header[:leading])) < leading:
        raise InvalidBatch(f"The header names a column twice: {', '.join(header[:leading])}.")
    for place_in_header, (name, wanted) in enumerate(zip(found, expected, strict=False), start=leading + 1):
        if name != wanted:
            raise InvalidBatch(f"Column {place_in_header} of the header is {excerpt(name)}, expected {wanted}.")
    if len(found) != len(expected):
        shape = "x".join(map(str, image_shape))
        raise InvalidBatch(
            f"The header has {len(found)} pixel columns, expected {len(expected)} (pixel_0 to {expected[-1]}): "
            f"the model takes images of {shape} (height x width x channels)."
        )
    return header[:leading]


def _check_width(row: int, record: list[str], header: list[str]) -> None:
    if len(record) == len(header):
        return
    if not record:
        raise InvalidBatch(f"{_line(row + 1)} is an empty line.")
    first = header[len(record)] if len(record) < len(header) else f"after {header[-1]}"
    missing = "missing" if len(record) < len(header) else "too many"
    raise InvalidBatch(
        f"{place(row, first)}: {missing}; the row has {len(record)} cells and the header {len(header)} columns."
    )


def _pixels(row: int, cells: list[str]) -> bytes:
    try:
        return bytes([_PIXELS[cell] for cell in cells])
    except KeyError:
        index = next(index for index, cell in enumerate(cells) if cell not in _PIXELS)
        found = excerpt(cells[index]) if cells[index] else "an empty cell"
        raise InvalidBatch(f"{place(row, f'pixel_{index}')}: {found} is not an integer 0-255.") from None
