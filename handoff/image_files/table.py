"""CSV files with one image a row, a block of rows at a time.

Rows as programs write them go through `csv_pixels`, whole blocks at once; all others through `csv`, row by row, to the
same pixels or to a sentence that names row and column.
"""

from __future__ import annotations

import csv
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from handoff.contracts.csv_pixels import read_pixels
from handoff.contracts.errors import DataSetUnavailable
from handoff.contracts.images import excerpt
from handoff.image_files.lines import open_text
from handoff.image_files.pixels import are_pixels

# Cells at a time: 64 rows of 28x28 stay in a core's cache (docs/measurements.md, "Payload formats").
_BLOCK_CELLS = 64 * 784
# "255," is the longest cell that the fast way takes.
_CELL_CHARACTERS = 4
# pixel_0, pixel1, Pixel 17, and 1x1 to 28x28
_PIXEL_NAME = re.compile(r"pixel.*|\d+x\d+", re.ASCII)
_NUMBER = re.compile(r"\d+", re.ASCII)
# More digits than any place among pixels has; int() takes no more than 4,300.
_MAX_NAME_CHARACTERS = 64


@dataclass(frozen=True)
class Rows:
    """Some rows of a table, one after another.

    Shapes: pixels uint8 (N, P), in the order of their columns' numbers; image_ids and labels N, None where there is no
        such column
    """

    pixels: NDArray[np.uint8]
    image_ids: list[str] | None
    labels: list[str] | None


@dataclass(frozen=True)
class _Header:
    names: list[str]
    pixels: list[int]
    """Their columns, in the order of their numbers."""
    image_id: int | None
    label: int | None

    @property
    def first(self) -> int:
        """The first column of pixels, and so the number of those before it."""
        return min(self.pixels)

    @property
    def trailing(self) -> int:
        """How many columns follow the last of pixels."""
        return len(self.names) - max(self.pixels) - 1

    @property
    def contiguous(self) -> bool:
        """Whether no other column stands among those of pixels."""
        return len(self.names) == self.first + len(self.pixels) + self.trailing


def read_rows(path: Path, *, label_column: str = "label") -> Iterator[Rows]:
    """Read a CSV file (.gz or not) below a header with `image_id`, the label's column and pixels, in any order.

    Pixel columns are called pixel and something, or by row and column (1x1 to 28x28); rows before a bad one are yielded
    before it is refused.

    Raises: DataSetUnavailable: no such header, or a cell that is no pixel, by row (1 is the first below the header)
    """
    with open_text(path) as lines:
        header = _read_header(next(csv.reader(lines), []), path, label_column.strip().lower())
        block_rows = max(1, _BLOCK_CELLS // len(header.pixels))
        number = 0
        while block := list(islice(lines, block_rows)):
            if any('"' in line for line in block):  # a cell may run over line ends: no block is whole any more
                yield from _read_carefully(chain(block, lines), header, path, number)
                return
            rows = _read_usual(block, header)
            yield from _read_carefully(iter(block), header, path, number) if rows is None else [rows]
            number += len(block)


def _read_header(cells: list[str], path: Path, label_column: str) -> _Header:
    names = [name.strip().lower() for name in cells]
    pixels = [column for column, name in enumerate(names) if _is_pixel(name) and name != label_column]
    if not pixels:
        raise DataSetUnavailable(f"{path} has no header with columns pixel_0, pixel_1 and so on; add one.")
    if len(set(names)) < len(names):
        twice = Counter(names).most_common(1)[0][0]
        raise DataSetUnavailable(f"{path} names the column {excerpt(twice)} twice in its header.")
    numbers = {column: [int(digits) for digits in _NUMBER.findall(names[column])] for column in pixels}
    return _Header(
        names,
        sorted(pixels, key=numbers.__getitem__),
        names.index("image_id") if "image_id" in names else None,
        names.index(label_column) if label_column in names else None,
    )


def _is_pixel(name: str) -> bool:
    return len(name) <= _MAX_NAME_CHARACTERS and _PIXEL_NAME.fullmatch(name) is not None


def _read_usual(block: list[str], header: _Header) -> Rows | None:
    """Read rows without quotes and with pixels as `write_pixels` writes them; None for any others."""
    first, trailing, count = header.first, header.trailing, len(header.pixels)
    if not header.contiguous:
        return None
    heads = [line.rstrip("\r\n").split(",", first) for line in block]
    tails = [head.pop().rsplit(",", trailing) for head in heads]
    if any(len(head) != first for head in heads) or any(len(tail) != trailing + 1 for tail in tails):
        return None
    if max(len(tail[0]) for tail in tails) > _CELL_CHARACTERS * count:
        return None
    pixels = read_pixels("\n".join([*(tail[0] for tail in tails), ""]).encode(), row_count=len(block))
    if pixels is None or pixels.shape[1] != count:
        return None

    def column(place: int | None) -> list[str] | None:
        if place is None:
            return None
        return [head[place] for head in heads] if place < first else [tail[place - first - count + 1] for tail in tails]

    order = [column - first for column in header.pixels]
    in_order = pixels if order == list(range(count)) else pixels[:, order]
    return Rows(in_order, column(header.image_id), column(header.label))


def _read_carefully(lines: Iterator[str], header: _Header, path: Path, number: int) -> Iterator[Rows]:
    """Read row by row; `number` rows came before."""
    for row, record in enumerate(csv.reader(lines), number + 1):
        if len(record) != len(header.names):
            counts = f"the row has {len(record)} cells, the header {len(header.names)} columns"
            raise _refuse(path, row, counts if record else "the line is empty")
        cells = [record[column] for column in header.pixels]
        pixels = _read_cells(cells)
        if pixels is None:
            column = next(column for column in header.pixels if _read_cells([record[column]]) is None)
            found = excerpt(record[column]) if record[column] else "an empty cell"
            raise _refuse(path, row, f"column {header.names[column]} holds {found}")
        yield Rows(
            pixels[np.newaxis],
            None if header.image_id is None else [record[header.image_id]],
            None if header.label is None else [record[header.label]],
        )


def _read_cells(cells: list[str]) -> NDArray[np.uint8] | None:
    """Read cells that hold whole numbers, perhaps written as 12.0 or with spaces; None where one does not."""
    text = "".join(cells)
    if "_" in text or not text.isascii():  # Python takes 1_0 as a number, a CSV file does not
        return None
    try:
        numbers = np.array(cells, np.float64)
    except ValueError:
        return None
    return numbers.astype(np.uint8) if are_pixels(numbers).all() else None


def _refuse(path: Path, row: int, why: str) -> DataSetUnavailable:
    return DataSetUnavailable(f"{path}, row {row}: every pixel must be an integer from 0 to 255, but {why}.")
