"""The images of one file or folder, a block at a time, from any place in it: for inputs larger than memory."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt

from fashion_client.sources import Size, refuse_shapes
from handoff.image_files.blocks import open_image_array
from handoff.image_files.kinds import kind_of
from handoff.image_files.pictures import find_pictures, read_picture, resize
from handoff.image_files.pixels import guess_shape
from handoff.image_files.table import read_rows

# Pictures opened together, in as many threads: decoding is most of a picture's way, and needs no interpreter lock.
_PICTURE_READERS = 4
_PICTURES_TOGETHER = 16


@dataclass(frozen=True)
class Block:
    """Some images of one file or folder, one after another.

    Shapes: pixels uint8 (N, H, W, C); image_ids N, "" for an image without one, None where none has one
    """

    pixels: npt.NDArray[np.uint8]
    image_ids: list[str] | None = None

    def __len__(self) -> int:
        return len(self.pixels)


@dataclass(frozen=True)
class Reading:
    """How images are read: resized, and as gray or RGB (pictures only), where that is asked for."""

    size: Size | None = None
    channels: int | None = None


def read_file(path: Path, reading: Reading, *, start: int, most: int) -> Iterator[Block]:
    """Read the images of a file from `start` on, at most `most` at a time.

    Raises: DataSetUnavailable: it is of no known kind, or broken; what comes before the fault is given first
    """
    match kind_of(path):
        case "csv":
            blocks = _rows(path, start)
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

    Raises: DataSetUnavailable: one cannot be read, or has another size than the one before it
    """
    read = partial(read_picture, size=reading.size, channels=reading.channels)
    with ThreadPoolExecutor(_PICTURE_READERS, "picture") as readers:
        for place in range(start, len(names), _PICTURES_TOGETHER):
            some = list(names[place : place + _PICTURES_TOGETHER])
            pixels = list(readers.map(read, (folder / name for name in some)))
            for name, image in zip(some, pixels, strict=True):
                if image.shape != pixels[0].shape:
                    raise refuse_shapes(name, image.shape, some[0], pixels[0].shape)
            yield Block(np.stack(pixels), some)


def _rows(path: Path, start: int) -> Iterator[Block]:
    position = 0
    for rows in read_rows(path):
        begin, position = max(0, start - position), position + len(rows.pixels)
        if begin >= len(rows.pixels):
            continue
        # One row of pixels where they are no square: a CSV request carries no shape.
        shape = guess_shape(rows.pixels.shape[1]) or (1, rows.pixels.shape[1], 1)
        image_ids = None if rows.image_ids is None else rows.image_ids[begin:]
        yield Block(rows.pixels[begin:].reshape(-1, *shape), image_ids)


def _resized(block: Block, size: Size) -> Block:
    return Block(np.stack([resize(image, size) for image in block.pixels]), block.image_ids)
