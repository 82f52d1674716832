"""Images into files: the batch CSV, idx and npy, a chunk at a time."""

from __future__ import annotations

import io
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import IO, Protocol

import numpy as np
import numpy.typing as npt
from numpy.lib import format as npy_format

from fashion_client.converted_images import Chunk
from fashion_client.sources import refuse_shapes
from fashion_client.whole_outputs import WholeOutputs, refusals
from handoff.contracts.csv_batches import encode_header, encode_rows
from handoff.contracts.errors import DataSetUnavailable, SettingsInvalid
from handoff.contracts.idx import idx_header
from handoff.contracts.images import MAX_NAME_LENGTH, excerpt
from handoff.image_files.pixels import guess_shape

# Level 9 takes ten times as long and saves one in a hundred of the bytes of Fashion-MNIST.
_GZIP_LEVEL = 6
# As batches are packed, for the same reason (handoff.contracts.batches).
_TEXT_GZIP_LEVEL = 1
_COPIED_BYTES = 1 << 20

Header = Callable[[Sequence[int]], bytes]
"""Writes what stands before an array of a shape: as many bytes however many rows there are."""


class ImageWriter(Protocol):
    """Writes images, in their order."""

    def write(self, chunk: Chunk) -> None:
        """Write some images.

        Raises: DataSetUnavailable: the format does not hold them; SettingsInvalid: the disk does not take them
        """

    def finish(self) -> list[str]:
        """Complete what was written; a sentence for each thing that the format could not keep."""


class OneShape:
    """Holds images to the shape of the first one."""

    def __init__(self) -> None:
        self.shape: tuple[int, ...] | None = None
        self._first = ""

    def check(self, chunk: Chunk) -> None:
        """Look at some images.

        Raises: DataSetUnavailable: they have another shape
        """
        shape = chunk.pixels.shape[1:]
        if self.shape is None:
            self.shape, self._first = shape, chunk.image_ids[0]
        elif shape != self.shape:
            raise refuse_shapes(chunk.image_ids[0], shape, self._first, self.shape)


class ArrayFile:
    """An array of one type that grows row by row, behind a header that says how many there are."""

    def __init__(self, path: Path, outputs: WholeOutputs, *, header: Header, packed: bool) -> None:
        """`write` and `finish` it; where it is to be packed, it is so at the end."""
        self._path = path
        self._header = header
        self._raw = outputs.open_scratch(path) if packed else outputs.open(path)
        self._packed = outputs.open_packed(path, level=_GZIP_LEVEL) if packed else None
        self._shape: tuple[int, ...] = ()
        self._count = 0

    def write(self, rows: npt.NDArray[np.uint8]) -> None:
        """Add rows.

        Raises: SettingsInvalid: the disk does not take them
        """
        with refusals(self._path):
            if not self._count:
                self._shape = rows.shape[1:]
                self._raw.write(self._header((0, *self._shape)))
            self._raw.write(np.ascontiguousarray(rows).data)
        self._count += len(rows)

    def finish(self) -> None:
        """Write how many rows there are.

        Raises: SettingsInvalid: the disk does not take it
        """
        with refusals(self._path):
            self._raw.seek(0)
            self._raw.write(self._header((self._count, *self._shape)))
            if self._packed is not None:
                self._raw.seek(0)
                shutil.copyfileobj(self._raw, self._packed, _COPIED_BYTES)
                self._packed.close()


class ArrayWriter:
    """Writes pixels alone: idx, perhaps packed, or npy. Gray images have no axis of channels."""

    def __init__(self, path: Path, outputs: WholeOutputs, *, header: Header, packed: bool = False) -> None:
        self._file = ArrayFile(path, outputs, header=header, packed=packed)
        self._alike = OneShape()
        self._loses_ids = False

    def write(self, chunk: Chunk) -> None:
        """Write some images."""
        self._alike.check(chunk)
        self._loses_ids |= chunk.is_named
        self._file.write(chunk.pixels[..., 0] if chunk.pixels.shape[3] == 1 else chunk.pixels)

    def finish(self) -> list[str]:
        """Complete the file."""
        self._file.finish()
        return ["The ids of the images are left out: an array has none."] * self._loses_ids


class CsvWriter:
    """Writes the batch CSV of docs/CONTRACT.md, perhaps packed."""

    def __init__(self, path: Path, outputs: WholeOutputs) -> None:
        self._path = path
        self._file, self._is_packed = open_text(path, outputs)
        self._alike = OneShape()

    def write(self, chunk: Chunk) -> None:
        """Write some rows."""
        is_first = self._alike.shape is None
        self._alike.check(chunk)
        pixels = chunk.pixels.reshape(len(chunk), -1)
        _check_names(chunk)
        with refusals(self._path):
            if is_first:
                has_labels = chunk.labels is not None
                self._file.write(encode_header(pixels.shape[1], with_ids=True, with_labels=has_labels))
            self._file.writelines(encode_rows(pixels, image_ids=chunk.image_ids, labels=chunk.labels))

    def finish(self) -> list[str]:
        """Complete the file."""
        if self._is_packed:
            with refusals(self._path):
                self._file.close()
        height, width, channels = self._alike.shape or (0, 0, 0)
        if guess_shape(height * width * channels) == (height, width, channels):
            return []
        said = f"{height}x{width}x{channels}"
        return [f"CSV says no height and width: whoever reads these again has to name --shape {said}."]


def npy_header(shape: Sequence[int]) -> bytes:
    """Write what stands before the elements of an npy file of unsigned bytes; numpy leaves room for more rows."""
    header = io.BytesIO()
    described = {"descr": "|u1", "fortran_order": False, "shape": tuple(shape)}
    npy_format.write_array_header_1_0(header, described)
    return header.getvalue()


def open_text(path: Path, outputs: WholeOutputs) -> tuple[IO[bytes], bool]:
    """Open a file for lines; whether they are packed, and the file has to be closed when the last is written.

    Raises: SettingsInvalid
    """
    if path.suffix == ".gz":
        return outputs.open_packed(path, level=_TEXT_GZIP_LEVEL), True
    return outputs.open(path), False


def open_writer(path: Path, outputs: WholeOutputs, format: str) -> ImageWriter:
    """Open a file in the format `csv`, `npy` or `idx`.

    Raises: SettingsInvalid
    """
    match format:
        case "csv":
            return CsvWriter(path, outputs)
        case "npy" if path.suffix == ".gz":
            raise SettingsInvalid(f"{path} would be packed, which no npy file is; name it .npy.")
        case "npy":
            return ArrayWriter(path, outputs, header=npy_header)
        case _:
            return ArrayWriter(path, outputs, header=idx_header, packed=path.suffix == ".gz")


def _check_names(chunk: Chunk) -> None:
    for name in (*chunk.image_ids, *(chunk.labels or ())):
        if len(name) > MAX_NAME_LENGTH:
            raise DataSetUnavailable(
                f"The name {excerpt(name)} has {len(name)} characters, a batch's may have {MAX_NAME_LENGTH}; rename it."
            )
        if not name.isascii() and any("\ud800" <= each <= "\udfff" for each in name):
            raise DataSetUnavailable(f"The name {ascii(name)[:60]} is no text that CSV could hold; rename the file.")
