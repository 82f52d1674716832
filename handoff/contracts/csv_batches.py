"""Batches as CSV: the fast way for files as they usually are, the strict way for all others."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from itertools import chain, pairwise
from typing import NamedTuple

import numpy as np

from handoff.contracts.csv_cells import quote_cells
from handoff.contracts.csv_pixels import NEWLINE, Pixels, read_pixels, write_pixels
from handoff.contracts.csv_strict import BYTE_ORDER_MARK, pixel_names, read_csv, refuse_row_count
from handoff.contracts.errors import InvalidBatch
from handoff.contracts.images import Batch, ImageShape, default_image_ids

# Rows at a time: the intermediate arrays of 64 images of 28x28 stay in a core's cache (docs/measurements.md).
_BLOCK_ROWS = 64

_LEADING: dict[bytes, tuple[str, ...]] = {
    b"": (),
    b"image_id,": ("image_id",),
    b"label,": ("label",),
    b"image_id,label,": ("image_id", "label"),
    b"label,image_id,": ("label", "image_id"),
}


# The last column; a header that names as many as eight digits count is over every limit of bytes.
_LAST_PIXEL = re.compile(rb'"?pixel_([0-9]{1,8})"?\r?\Z')


class _Rows(NamedTuple):
    """Lines of pixels: how many, the longest with its end in bytes, and their text in blocks."""

    row_count: int
    longest: int
    blocks: Iterator[bytes | memoryview]


def encode_csv(batch: Batch) -> bytes:
    """Write a batch CSV; the image_id column is left out where the ids are only the places in the batch."""
    pixels = batch.images.reshape(len(batch), -1)
    image_ids = None if batch.image_ids == default_image_ids(len(batch)) else batch.image_ids
    header = encode_header(pixels.shape[1], with_ids=image_ids is not None, with_labels=batch.labels is not None)
    return b"".join(chain([header], encode_rows(pixels, image_ids=image_ids, labels=batch.labels)))


def encode_header(pixel_count: int, *, with_ids: bool, with_labels: bool) -> bytes:
    """Write the first line of a batch CSV."""
    names = ["image_id"] * with_ids + ["label"] * with_labels
    return ",".join([*names, *pixel_names(pixel_count)]).encode() + b"\n"


def encode_rows(pixels: Pixels, *, image_ids: Sequence[str] | None, labels: Sequence[str] | None) -> Iterator[bytes]:
    """Write the lines of a batch CSV below its header; None stands for a column that it does not have.

    Shapes: uint8 (N, P); N ids and labels
    Raises: UnicodeEncodeError: a name that is no text
    """
    columns = [quote_cells(names) for names in (image_ids, labels) if names is not None]
    blocks = (write_pixels(pixels[start : start + _BLOCK_ROWS]) for start in range(0, len(pixels), _BLOCK_ROWS))
    if not columns:
        yield from blocks
        return
    lines = chain.from_iterable(block.splitlines(keepends=True) for block in blocks)
    heads = (",".join(cells).encode() for cells in zip(*columns, strict=True))
    yield from (b"%b,%b" % pair for pair in zip(heads, lines, strict=True))


def announced_csv_shape(data: bytes) -> ImageShape:
    """Say what images a batch CSV holds by its own header: rows of so many pixels, whatever their height.

    Raises: InvalidBatch: its last column is no pixel
    """
    header = data[: data.find(b"\n")] if b"\n" in data else data
    last = _LAST_PIXEL.search(header.rpartition(b",")[2])
    count = 0 if last is None else int(last[1]) + 1
    # All names are made to be compared: no more than the header has room for.
    if not 0 < count * len("pixel_0,") <= len(header) + 1:
        raise InvalidBatch("The header does not end with the last pixel's column, such as pixel_783 for 28x28 pixels.")
    return 1, count, 1


def decode_csv(data: bytes, *, image_shape: ImageShape, max_images: int) -> Batch:
    """Read a batch CSV as `csv_strict.read_csv` does, only faster; too many rows are refused before any is read.

    Raises: InvalidBatch: with row and column; PayloadTooLarge: more than `max_images` rows
    """
    batch = _read_usual(data, image_shape=image_shape, max_images=max_images)
    return read_csv(data, image_shape=image_shape, max_images=max_images) if batch is None else batch


def _read_usual(data: bytes, *, image_shape: ImageShape, max_images: int) -> Batch | None:
    """Read a file without quotes and with numbers as we write them; None for any other."""
    text = data.removeprefix(BYTE_ORDER_MARK)
    if b"\r" in text:
        text = text.replace(b"\r\n", b"\n")
    width = math.prod(image_shape)
    leading = _leading_names(text, width)
    if leading is None or b'"' in text or b"\r" in text:
        return None
    # Counted before anything is made of the lines: a file of line ends alone would become millions of objects.
    if text.count(b"\n") > max_images + 1:
        raise refuse_row_count(max_images)
    names, rows = _cut_columns(text, leading) if leading else ({}, _cut_rows(text))
    if rows is None or not 0 < rows.row_count <= max_images:
        return None
    pixels = _read_blocks(rows, width=width)
    if pixels is None:
        return None
    image_ids = names.get("image_id") or default_image_ids(len(pixels))
    return Batch(pixels.reshape(-1, *image_shape), image_ids, names.get("label"))


def _leading_names(text: bytes, width: int) -> tuple[str, ...] | None:
    """Say which columns stand before the pixels; None where the first line is no usual header."""
    pixel_header = ",".join(pixel_names(width)).encode()
    header = text[: max(text.find(b"\n"), 0)]
    return _LEADING.get(header.removesuffix(pixel_header)) if header.endswith(pixel_header) else None


def _cut_rows(text: bytes) -> _Rows:
    """Cut the lines of pixels after the first line into blocks, where they lie."""
    lines = memoryview(text if text.endswith(b"\n") else text + b"\n")[text.find(b"\n") + 1 :]
    ends = np.flatnonzero(np.frombuffer(lines, np.uint8) == NEWLINE) + 1
    bounds = [0, *ends[_BLOCK_ROWS - 1 : -1 : _BLOCK_ROWS], *ends[-1:]]
    blocks = (lines[begin:end] for begin, end in pairwise(bounds))
    return _Rows(len(ends), int(np.diff(ends, prepend=0).max(initial=0)), blocks)


def _cut_columns(text: bytes, leading: tuple[str, ...]) -> tuple[dict[str, list[str]], _Rows | None]:
    """Cut the leading cells off every line after the first; no rows where one has too few, or they are not UTF-8."""
    _, *lines = text.split(b"\n")
    if not lines[-1]:
        lines.pop()
    try:
        *names, rows = zip(*(line.split(b",", len(leading)) for line in lines), strict=True)
        texts = (b"\n".join(column).decode().split("\n") for column in names)
        columns = dict(zip(leading, texts, strict=True))
    except ValueError:
        return {}, None
    blocks = (b"\n".join([*rows[start : start + _BLOCK_ROWS], b""]) for start in range(0, len(rows), _BLOCK_ROWS))
    return columns, _Rows(len(rows), max(map(len, rows)) + 1, blocks)


def _read_blocks(rows: _Rows, *, width: int) -> Pixels | None:
    if rows.longest > len("255,") * width:  # the longest cell; reading takes memory in proportion
        return None
    pixels = np.empty((rows.row_count, width), np.uint8)
    for start, block in zip(range(0, rows.row_count, _BLOCK_ROWS), rows.blocks, strict=True):
        read = read_pixels(block, row_count=min(_BLOCK_ROWS, rows.row_count - start))
        if read is None or read.shape[1] != width:
            return None
        pixels[start : start + len(read)] = read
    return pixels
