"""Images in idx, npy and npz files, a block at a time: any number of them in the memory of one block."""

from __future__ import annotations

import gzip
import math
import sys
import zipfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, cast

import numpy as np
from numpy.typing import NDArray

from handoff.contracts.errors import DataSetUnavailable
from handoff.contracts.idx import MAX_HEADER_BYTES, parse_idx_header, refuse_length
from handoff.image_files.arrays import (
    BROKEN,
    images_member,
    read_npy,
    read_npy_header,
    read_npz,
    say_reason,
)
from handoff.image_files.kinds import Kind
from handoff.image_files.pixels import as_images

_GZIP_MAGIC = b"\x1f\x8b"
# A block of 28x28 images that fills this holds 21,000 of them.
MAX_BLOCK_BYTES = 16 * 1024 * 1024

Open = Callable[[], AbstractContextManager[IO[bytes]]]


@dataclass(frozen=True)
class ImageArray:
    """An array of images in a file, compressed or not; nothing of it is held in memory."""

    name: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    read: Callable[[int, int], Iterator[NDArray[Any]]]
    """Give the rows from one on, so many at a time."""

    def __len__(self) -> int:
        return self.shape[0]

    def blocks(self, *, start: int = 0, most: int) -> Iterator[NDArray[np.uint8]]:
        """Read the images from `start` on, at most `most` and 16 MiB at a time.

        Shapes: uint8 (N, H, W, C)
        Raises: DataSetUnavailable: the file is cut off, or holds what is no pixel, by its place
        """
        if start >= len(self):
            return
        fit = MAX_BLOCK_BYTES // (math.prod(self.shape[1:]) * self.dtype.itemsize)
        for block in self.read(start, max(1, min(most, fit))):
            yield as_images(block, name=self.name, first=start)
            start += len(block)


def open_image_array(path: Path, kind: Kind) -> ImageArray:
    """Look at the header of an idx, npy or npz file; of one with images to train on and to test with, the latter.

    Raises: DataSetUnavailable: it holds no images
    """
    try:
        match kind:
            case "idx":
                found = _open_idx(path)
            case "npy":
                found = _open_npy(path, lambda: path.open("rb"), lambda: read_npy(path))
            case _:
                found = _open_npz(path)
        as_images(np.empty((0, *found.shape[1:]), found.dtype), name=found.name)
    except BROKEN as error:
        raise _refuse(path, error) from error
    if found.shape[0] > sys.maxsize:
        raise DataSetUnavailable(f"{path} announces {found.shape[0]} images, which no file can hold.")
    if not math.prod(found.shape[1:]):
        raise DataSetUnavailable(f"{path} holds images without pixels: its shape is {found.shape}.")
    return found


def _open_idx(path: Path) -> ImageArray:
    with path.open("rb") as file:
        packed = file.read(len(_GZIP_MAGIC)) == _GZIP_MAGIC

    def open_file() -> IO[bytes]:
        return cast("IO[bytes]", gzip.open(path)) if packed else path.open("rb")

    with open_file() as unpacked:
        shape, start = parse_idx_header(unpacked.read(MAX_HEADER_BYTES), name=str(path))
    if not packed and path.stat().st_size - start != math.prod(shape):
        raise refuse_length(str(path), shape, path.stat().st_size - start)
    return _streamed(path, open_file, start=start, shape=shape, dtype=np.dtype(np.uint8))


def _open_npz(path: Path) -> ImageArray:
    with zipfile.ZipFile(path) as archive:
        name = images_member(archive, path, part="test")

    @contextmanager
    def open_member() -> Iterator[IO[bytes]]:
        with zipfile.ZipFile(path) as archive, archive.open(name) as member:
            yield member

    return _open_npy(path, open_member, lambda: read_npz(path, part="test").images)


def _open_npy(path: Path, open_file: Open, read_whole: Callable[[], NDArray[Any]]) -> ImageArray:
    with open_file() as file:
        shape, dtype, fortran_order = read_npy_header(file)
        start = file.tell()
    if not shape or dtype.hasobject:
        raise DataSetUnavailable(f"{path} holds no array of plain numbers; save the images as uint8.")
    if fortran_order:  # the pixels of one image lie far apart, so the file is no stream of images
        return ImageArray(str(path), shape, dtype, lambda first, most: _slices(read_whole(), first, most))
    return _streamed(path, open_file, start=start, shape=shape, dtype=dtype)


def _streamed(path: Path, open_file: Open, *, start: int, shape: tuple[int, ...], dtype: np.dtype[Any]) -> ImageArray:
    row_bytes = math.prod(shape[1:]) * dtype.itemsize

    def read(first: int, most: int) -> Iterator[NDArray[Any]]:
        try:
            with open_file() as file:
                file.seek(start + first * row_bytes)
                for row in range(first, shape[0], most):
                    count = min(most, shape[0] - row)
                    data = file.read(count * row_bytes)
                    if len(data) < count * row_bytes:
                        raise DataSetUnavailable(f"{path} is cut off after image {row + len(data) // row_bytes}.")
                    yield np.frombuffer(data, dtype).reshape(count, *shape[1:])
                if file.read(1):
                    raise DataSetUnavailable(f"{path} goes on after its {shape[0]} images; write it again.")
        except BROKEN as error:
            raise _refuse(path, error) from error

    return ImageArray(str(path), shape, dtype, read)


def _slices(array: NDArray[Any], first: int, most: int) -> Iterator[NDArray[Any]]:
    for row in range(first, len(array), most):
        yield np.ascontiguousarray(array[row : row + most])


def _refuse(path: Path, error: Exception) -> DataSetUnavailable:
    return DataSetUnavailable(f"{path} is no file of images that can be read: {say_reason(error)}.")
