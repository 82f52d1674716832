"""The IDX format in which Fashion-MNIST and MNIST are published: unsigned bytes with a header of dimensions."""

from __future__ import annotations

import gzip
import math
import struct
import zlib
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from handoff.contracts.errors import DataSetUnavailable

# Ten times Fashion-MNIST's training images (47 MB): room for other data sets, none for a decompression bomb.
MAX_IDX_BYTES = 512 * 1024 * 1024
_GZIP_MAGIC = b"\x1f\x8b"
_GZIP_WBITS = 16 + zlib.MAX_WBITS
_UNSIGNED_BYTE = 0x08
_MAGIC = struct.Struct(">HBB")
MAX_HEADER_BYTES = _MAGIC.size + 4 * 4


def decode_idx(raw: bytes, *, name: str, max_bytes: int = MAX_IDX_BYTES) -> NDArray[np.uint8]:
    """Read the array of an IDX file, gzip-compressed or not; `name` is what an error calls it.

    Shapes: labels (N,), images (N, H, W) or (N, H, W, C)
    Raises: DataSetUnavailable: see `decompress_idx` and `parse_idx`
    """
    return parse_idx(decompress_idx(raw, name=name, max_bytes=max_bytes), name=name)


def decompress_idx(raw: bytes, *, name: str, max_bytes: int = MAX_IDX_BYTES) -> bytes:
    """Unpack a gzip-compressed IDX file; bytes that are not gzip come back as they are.

    Raises: DataSetUnavailable: broken or cut-off gzip, bytes after it, or over `max_bytes`
    """
    if not raw.startswith(_GZIP_MAGIC):
        if len(raw) > max_bytes:
            raise DataSetUnavailable(_too_large(name, max_bytes))
        return raw
    stream = zlib.decompressobj(wbits=_GZIP_WBITS)
    try:
        content = stream.decompress(raw, max_bytes + 1)
    except zlib.error as error:
        raise DataSetUnavailable(f"{name} is no readable gzip file ({error}); fetch it again.") from error
    if len(content) > max_bytes:
        raise DataSetUnavailable(_too_large(name, max_bytes))
    if not stream.eof or stream.unused_data:
        raise DataSetUnavailable(f"{name} is cut off, or followed by other bytes; fetch it again.")
    return content


def parse_idx(content: bytes, *, name: str) -> NDArray[np.uint8]:
    """Read the array of a decompressed IDX file; read-only, over the same bytes.

    Shapes: labels (N,), images (N, H, W) or (N, H, W, C)
    Raises: DataSetUnavailable: another magic number or element type, or another length than the header says
    """
    shape, start = parse_idx_header(content, name=name)
    expected, found = math.prod(shape), len(content) - start
    if found != expected:
        raise refuse_length(name, shape, found)
    try:
        return np.frombuffer(content, dtype=np.uint8, offset=start).reshape(shape)
    except ValueError as error:  # no elements, but other sides whose product no array can have
        raise refuse_length(name, shape, found) from error


def parse_idx_header(content: bytes, *, name: str) -> tuple[tuple[int, ...], int]:
    """Read the shape of a decompressed IDX file, and where its elements begin, from its first `MAX_HEADER_BYTES`.

    Raises: DataSetUnavailable: another magic number or element type
    Source: the format's description by LeCun, Cortes and Burges, "The MNIST database", section FILE FORMATS
    """
    if len(content) < _MAGIC.size:
        raise DataSetUnavailable(f"{name} is too short to be an IDX file.")
    zeros, element, rank = _MAGIC.unpack_from(content)
    if zeros != 0 or element != _UNSIGNED_BYTE or not 1 <= rank <= 4:  # noqa: PLR2004 - (N, H, W, C) at most
        raise DataSetUnavailable(
            f"{name} does not begin like an IDX file of unsigned bytes (0x{content[: _MAGIC.size].hex()})."
        )
    start = _MAGIC.size + 4 * rank
    if len(content) < start:
        raise DataSetUnavailable(f"{name} ends within its IDX header.")
    return struct.unpack_from(f">{rank}I", content, _MAGIC.size), start


def refuse_length(name: str, shape: tuple[int, ...], found: int) -> DataSetUnavailable:
    """Say that a file holds another number of elements than its header announces."""
    said = "x".join(map(str, shape))
    return DataSetUnavailable(f"{name} announces {math.prod(shape)} bytes ({said}) but holds {found}.")


def encode_idx(array: NDArray[np.uint8]) -> bytes:
    """Write an array of unsigned bytes as gzip-compressed IDX; equal arrays give equal bytes.

    Shapes: labels (N,), images (N, H, W) or (N, H, W, C)
    """
    return gzip.compress(idx_header(array.shape) + array.tobytes(), compresslevel=9, mtime=0)


def idx_header(shape: Sequence[int]) -> bytes:
    """Write what stands before the elements of an IDX file of unsigned bytes."""
    return _MAGIC.pack(0, _UNSIGNED_BYTE, len(shape)) + struct.pack(f">{len(shape)}I", *shape)


def _too_large(name: str, max_bytes: int) -> str:
    return f"{name} holds more than {max_bytes} bytes, the most an IDX file may have here."
