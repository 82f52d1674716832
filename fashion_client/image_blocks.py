"""The images of one file or folder, a block at a time, from any place in it: for inputs larger than memory."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from itertools import groupby
from pathlib import Path, PurePosixPath

import numpy as np
import numpy.typing as npt

from fashion_client.sources import Size
from handoff.contracts.errors import DataSetUnavailable
from handoff.contracts.images import ImageShape
from handoff.image_files.blocks import open_image_array
from handoff.image_files.kinds import kind_of
from handoff.image_files.pictures import find_pictures, read_picture, resize
from handoff.image_files.pixels import guess_shape
from handoff.image_files.table import read_rows

# Pictures opened together, in as many threads: decoding is most of a picture's way, and needs no interpreter lock.
_PICTURE_READERS = 4
_PICTURES_TOGETHER = 16

Pixels = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Block:
    """Some images of one file or folder, one after another.

    Shapes: pixels uint8 (N, H, W, C); image_ids and labels N, "" for an image without one, None where none has one
    """

    pixels: npt.NDArray[np.uint8]
    image_ids: list[str] | None = None
    unreadable: str | None = None
    """Why the one picture that this stands for cannot be read; there are no pixels then."""
    labels: list[str] | None = None
    """Those that the file or folder itself knows."""

    def __len__(self) -> int:
        return 1 if self.unreadable is not None else len(self.pixels)


@dataclass(frozen=True)
class Reading:
    """How images are read: resized, and as gray or RGB (pictures only), where that is asked for.

    `shape` is that of images in CSV files, which do not say it; without, they are taken as squares.
    """

    size: Size | None = None
    channels: int | None = None
    shape: ImageShape | None = None


def read_file(path: Path, reading: Reading, *, start: int, most: int) -> Iterator[Block]:
    """Read the images of a file from `start` on, at most `most` at a time.

    Raises: DataSetUnavailable: it is of no known kind, or broken; what comes before the fault is given first
    """
    match kind_of(path):
        case "csv":
            blocks = _rows(path, start, reading.shape)
        case "picture":
            return read_pictures(path.parent, [path.name], reading, start=start)
        case "folder":
            return read_pictures(path, picture_names(path), reading, start=start)
        case kind:
            blocks = (Block(pixels) for pixels in open_image_array(path, kind).blocks(start=start, most=most))
    return blocks if reading.size is None else (_resized(block, reading.size) for block in blocks)


def picture_names(folder: Path) -> list[str]:
    """Name the pictures of a folder and its sub-folders, in order.

    Raises: DataSetUnavailable: there are none
    """
    return [path.relative_to(folder).as_posix() for path in find_pictures(folder)]


def read_pictures(folder: Path, names: Sequence[str], reading: Reading, *, start: int) -> Iterator[Block]:
    """Read pictures of a folder from the one at `start` on; each one's id is its name below the folder.

    One that cannot be read is a block of its own: among millions there is one, and it is no reason to stop. Those of a
    block have one shape; the next block's may be another.
    """
    read = partial(_read_or_reason, reading=reading)
    has_labels = any("/" in name for name in names)
    with ThreadPoolExecutor(_PICTURE_READERS, "picture") as readers:
        for place in range(start, len(names), _PICTURES_TOGETHER):
            some = list(names[place : place + _PICTURES_TOGETHER])
            found = zip(some, readers.map(read, (folder / name for name in some)), strict=True)
            for shape, group in groupby(found, key=lambda pair: None if isinstance(pair[1], str) else pair[1].shape):
                together = list(group)
                yield from _unreadable(together) if shape is None else [_stacked(together, has_labels=has_labels)]


def _read_or_reason(path: Path, *, reading: Reading) -> Pixels | str:
    try:
        return read_picture(path, size=reading.size, channels=reading.channels)
    except DataSetUnavailable as error:
        return str(error)


def _unreadable(found: Iterable[tuple[str, Pixels | str]]) -> Iterator[Block]:
    for name, reason in found:
        yield Block(np.empty((0, 0, 0, 0), np.uint8), [name], unreadable=str(reason))


def _stacked(found: Sequence[tuple[str, Pixels | str]], *, has_labels: bool) -> Block:
    names = [name for name, _ in found]
    labels = [PurePosixPath(name).parent.name for name in names] if has_labels else None
    return Block(np.stack([np.asarray(pixels, np.uint8) for _, pixels in found]), names, labels=labels)


def _rows(path: Path, start: int, shape: ImageShape | None) -> Iterator[Block]:
    position = 0
    for rows in read_rows(path):
        begin, position = max(0, start - position), position + len(rows.pixels)
        if begin >= len(rows.pixels):
            continue
        pixels = rows.pixels[begin:]
        # One row of pixels where they are no square: a CSV request carries no shape.
        shown = shape or guess_shape(pixels.shape[1]) or (1, pixels.shape[1], 1)
        if math.prod(shown) != pixels.shape[1]:
            said = "x".join(map(str, shown))
            raise DataSetUnavailable(f"{path} holds images of {pixels.shape[1]} pixels, which are no {said}.")
        image_ids = None if rows.image_ids is None else rows.image_ids[begin:]
        labels = None if rows.labels is None else rows.labels[begin:]
        yield Block(pixels.reshape(-1, *shown), image_ids, labels=labels)


def _resized(block: Block, size: Size) -> Block:
    return replace(block, pixels=np.stack([resize(image, size) for image in block.pixels]))
