"""Arrays in files: idx, npy and npz, never with pickled objects."""

from __future__ import annotations

import lzma
import math
import struct
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from tokenize import TokenError
from typing import IO, Any, Literal

import numpy as np
from numpy.lib import format as npy_format
from numpy.typing import NDArray

from handoff.contracts.errors import DataSetUnavailable
from handoff.contracts.idx import decode_idx

# Five million images of 28x28: room for every published IDX file, none for a decompression bomb.
MAX_UNPACKED_BYTES = 4 << 30

Part = Literal["train", "test"]
"""Which images are wanted of a file that holds both."""

_WHOLE = (("images", "labels"), ("x", "y"), ("data", "labels"), ("data", "target"))
_TRAIN = (("x_train", "y_train"), ("train_images", "train_labels"))
_TEST = (("x_test", "y_test"), ("test_images", "test_labels"))
_LABEL_NAMES = "label_names"

# All that zipfile, its decompressors and numpy (whose headers are Python literals) raise for files that others broke.
BROKEN = (
    OSError,
    ValueError,
    TypeError,
    LookupError,
    EOFError,
    OverflowError,
    MemoryError,
    RuntimeError,
    SyntaxError,
    TokenError,
    zipfile.BadZipFile,
    zlib.error,
    lzma.LZMAError,
    struct.error,
)


@dataclass(frozen=True)
class Archive:
    """What an npz file holds of one part.

    Shapes: images as stored, labels of as many, both unchecked
    """

    images: NDArray[Any]
    labels: NDArray[Any] | None = None
    label_names: NDArray[Any] | None = None
    """By id, where the file names them."""


def read_idx(path: Path) -> NDArray[np.uint8]:
    """Read an IDX file, compressed or not.

    Raises: DataSetUnavailable
    """
    try:
        return decode_idx(path.read_bytes(), name=str(path), max_bytes=MAX_UNPACKED_BYTES)
    except OSError as error:
        raise DataSetUnavailable(f"{path} cannot be read: {error.strerror}.") from error


def read_npy(path: Path) -> NDArray[Any]:
    """Open an npy file as an array that is read from disk where it is looked at.

    Raises: DataSetUnavailable
    """
    try:
        array: NDArray[Any] = npy_format.open_memmap(path, mode="r")
    except BROKEN as error:
        raise DataSetUnavailable(f"{path} is no .npy file of plain numbers: {say_reason(error)}.") from error
    return array


def read_npz(path: Path, *, part: Part = "train") -> Archive:
    """Read the images and labels of an npz file: its only ones, or those of `part` where it holds two.

    Known names: images and labels, x and y, data and labels or target; x_train and y_train, x_test and y_test,
    train_images and train_labels, test_images and test_labels; label_names beside any of them.

    Raises: DataSetUnavailable: no npz file, none of these names, an array too large, or pickled objects
    """
    try:
        with zipfile.ZipFile(path) as archive:
            names = _names(archive)
            images, labels = _choose(names, part, path)
            return Archive(
                _read_member(archive, images, path),
                _read_member(archive, labels, path) if labels in names else None,
                _read_member(archive, _LABEL_NAMES, path) if _LABEL_NAMES in names else None,
            )
    except BROKEN as error:
        raise DataSetUnavailable(f"{path} is no .npz file of plain numbers: {say_reason(error)}.") from error


def read_npz_labels(path: Path, *, part: Part = "train") -> NDArray[Any] | None:
    """Read the labels alone that `read_npz` finds; None where there are none.

    Raises: DataSetUnavailable
    """
    try:
        with zipfile.ZipFile(path) as archive:
            names = _names(archive)
            labels = _choose(names, part, path)[1]
            return _read_member(archive, labels, path) if labels in names else None
    except BROKEN as error:
        raise DataSetUnavailable(f"{path} is no .npz file of plain numbers: {say_reason(error)}.") from error


def holds_both_parts(path: Path) -> bool:
    """Whether an npz file brings test images beside those to train on.

    Raises: DataSetUnavailable
    """
    try:
        with zipfile.ZipFile(path) as archive:
            names = _names(archive)
    except BROKEN as error:
        raise DataSetUnavailable(f"{path} is no .npz file of plain numbers: {say_reason(error)}.") from error
    return all(any(images in names for images, _ in part) for part in (_TRAIN, _TEST))


def count_npz_images(path: Path, *, part: Part = "train") -> int:
    """Say how many images `read_npz` will find, from the header of their array.

    Raises: DataSetUnavailable
    """
    try:
        with zipfile.ZipFile(path) as archive, archive.open(images_member(archive, path, part=part)) as member:
            return next(iter(read_npy_header(member)[0]), 0)
    except BROKEN as error:
        raise DataSetUnavailable(f"{path} is no .npz file of plain numbers: {say_reason(error)}.") from error


def images_member(archive: zipfile.ZipFile, path: Path, *, part: Part = "train") -> str:
    """Say which file of an open npz archive holds the images that `read_npz` finds.

    Raises: DataSetUnavailable: none does
    """
    return f"{_choose(_names(archive), part, path)[0]}.npy"


def read_npy_header(member: IO[bytes]) -> tuple[tuple[int, ...], np.dtype[Any], bool]:
    """Read shape, dtype and whether columns come first (Fortran order); the elements follow where it stops reading.

    Raises: ValueError
    """
    version = npy_format.read_magic(member)
    read = npy_format.read_array_header_1_0 if version == (1, 0) else npy_format.read_array_header_2_0
    shape, fortran_order, dtype = read(member)
    if any(side < 0 for side in shape):
        raise ValueError(f"its header announces the shape {shape}")
    return shape, dtype, fortran_order


def _names(archive: zipfile.ZipFile) -> set[str]:
    return {name.removesuffix(".npy") for name in archive.namelist() if name.endswith(".npy")}


def _choose(names: set[str], part: Part, path: Path) -> tuple[str, str]:
    wanted = (*_TEST, *_WHOLE, *_TRAIN) if part == "test" else (*_WHOLE, *_TRAIN, *_TEST)
    usable = [pair for pair in wanted if pair[0] in names]
    if not usable:
        raise DataSetUnavailable(
            f"{path} holds no images: none of its arrays ({', '.join(sorted(names)[:8]) or 'it has none'}) is called"
            f" {', '.join(dict.fromkeys(images for images, _ in wanted))}."
        )
    images = usable[0][0]  # "data" stands with two names of labels
    return next((pair for pair in usable if pair[0] == images and pair[1] in names), usable[0])


def _read_member(archive: zipfile.ZipFile, name: str, path: Path) -> NDArray[Any]:
    with archive.open(f"{name}.npy") as member:
        shape, dtype, _ = read_npy_header(member)
    if math.prod(shape) * dtype.itemsize > MAX_UNPACKED_BYTES:
        raise DataSetUnavailable(
            f"{name} in {path} is over {MAX_UNPACKED_BYTES} bytes, the most that is unpacked into memory;"
            " save the array as .npy, which is read from disk."
        )
    with archive.open(f"{name}.npy") as member:
        return npy_format.read_array(member, allow_pickle=False)


def say_reason(error: Exception) -> str:
    """What went wrong, on one line and without a full stop."""
    return " ".join(str(error).split())[:200].rstrip(".") or type(error).__name__
