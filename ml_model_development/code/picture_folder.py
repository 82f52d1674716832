"""A folder of pictures as one array, its sub-folders as labels."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from handoff.contracts.errors import DataSetUnavailable
from handoff.image_files.pictures import find_pictures, read_picture
from handoff.progress import Progress

# Pictures decoded ahead of the array they go into: memory stays bounded whatever their size.
_AHEAD = 64
_SHOWN = 3


@dataclass(frozen=True)
class Unreadable:
    """A picture that was left out, and why: `path` and `reason` make a sentence."""

    path: Path
    reason: str


@dataclass(frozen=True)
class PictureFolder:
    """What a folder holds.

    Shapes: images uint8 (N, H, W, C), labels N
    """

    images: NDArray[np.uint8]
    labels: list[str]
    unreadable: tuple[Unreadable, ...]


def read_picture_folder(folder: Path, *, size: tuple[int, int] | None, max_unreadable: float) -> PictureFolder:
    """Read every picture; the folder right above it is its label. All become RGB where one is.

    Raises: DataSetUnavailable: no pictures, pictures outside a label's folder, a label in two folders, pictures of
        different sizes without `size`, or more than the share `max_unreadable` of them unreadable
    """
    paths = find_pictures(folder)
    _check_places(paths, folder)
    stack, labels, unreadable = _Stack(len(paths)), [], []
    with Progress("pictures", total=len(paths), unit="pictures") as progress:
        for path, found in _read_all(paths, size):
            if isinstance(found, DataSetUnavailable):
                unreadable.append(Unreadable(path, str(found).removeprefix(f"{path} ")))
            else:
                stack.add(path, found)
                labels.append(path.parent.name)
            progress.advance(1)
    _check_share(folder, unreadable, len(paths), max_unreadable)
    return PictureFolder(stack.images, labels, tuple(unreadable))


class _Stack:
    """Pictures of one size in one array, which becomes RGB with the first of them that is."""

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._count = 0
        self._first = Path()
        self._array = np.empty((0, 0, 0, 1), np.uint8)

    @property
    def images(self) -> NDArray[np.uint8]:
        """Those added so far."""
        return self._array[: self._count]

    def add(self, path: Path, pixels: NDArray[np.uint8]) -> None:
        """Put a picture behind the others; `path` is what an error calls it."""
        if not self._count:
            self._first, self._array = path, self._allocate(pixels.shape)
        if pixels.shape[:2] != self._array.shape[1:3]:
            height, width = self._array.shape[1:3]
            raise DataSetUnavailable(
                f"{path} is {pixels.shape[0]}x{pixels.shape[1]} and {self._first} is {height}x{width} (height x width);"
                " name the --size HxW that all pictures are to be resized to."
            )
        if pixels.shape[2] > self._array.shape[3]:
            coloured = self._allocate(pixels.shape)
            coloured[: self._count] = self.images
            self._array = coloured
        self._array[self._count] = pixels
        self._count += 1

    def _allocate(self, shape: tuple[int, ...]) -> NDArray[np.uint8]:
        try:
            return np.empty((self._capacity, *shape), np.uint8)
        except MemoryError as error:
            said = "x".join(map(str, shape))
            raise DataSetUnavailable(
                f"{self._capacity} pictures of {said} do not fit into memory; name a smaller --size HxW."
            ) from error


def _read_all(
    paths: Sequence[Path], size: tuple[int, int] | None
) -> Iterator[tuple[Path, NDArray[np.uint8] | DataSetUnavailable]]:
    """Read pictures in their order, a few at a time: decoding holds no lock."""

    def read(path: Path) -> NDArray[np.uint8] | DataSetUnavailable:
        try:
            return read_picture(path, size=size)
        except DataSetUnavailable as error:
            return error

    with ThreadPoolExecutor(min(8, os.cpu_count() or 1), "pictures") as pool:
        for start in range(0, len(paths), _AHEAD):
            block = paths[start : start + _AHEAD]
            yield from zip(block, pool.map(read, block), strict=True)


def _check_places(paths: Sequence[Path], folder: Path) -> None:
    outside = [path for path in paths if path.parent == folder]
    if outside:
        raise DataSetUnavailable(
            f"{len(outside)} pictures lie in {folder} itself (the first: {outside[0].name}); each must lie in a"
            " sub-folder that is called like its label."
        )
    places: dict[str, Path] = {}
    for path in paths:
        other = places.setdefault(path.parent.name, path.parent)
        if other != path.parent:
            raise DataSetUnavailable(
                f"The label {path.parent.name} has two folders, {other} and {path.parent}; name the folder above one"
                " of them, as --images or as --test-images."
            )


def _check_share(folder: Path, unreadable: Sequence[Unreadable], count: int, allowed: float) -> None:
    share = len(unreadable) / count
    if share > allowed or len(unreadable) == count:
        shown = "; ".join(f"{left.path} {left.reason}" for left in unreadable[:_SHOWN])
        raise DataSetUnavailable(
            f"{len(unreadable)} of {count} pictures in {folder} cannot be read ({share:.1%}, allowed are {allowed:.1%}"
            f" with --max-unreadable): {shown}{'; …' if len(unreadable) > _SHOWN else '.'}"
        )
