"""Batches as they lie in the store: one codec a payload format."""

from __future__ import annotations

import gzip
import io
import zlib

from handoff.contracts.csv_batches import announced_csv_shape, decode_csv, encode_csv
from handoff.contracts.errors import PayloadCorrupt, PayloadTooLarge
from handoff.contracts.images import Batch, ImageShape
from handoff.contracts.messages import PayloadFormat
from handoff.contracts.npy_batches import announced_npy_shape, decode_npy, encode_npy

__all__ = ["Batch", "ImageShape", "decode_batch", "encode_batch"]

# Level 6 takes eight times as long and saves a sixth of the bytes of 28x28 images (docs/measurements.md).
_GZIP_LEVEL = 1

# bgzip cuts a GiB into as many; a member begins with its magic number and its method.
MAX_GZIP_MEMBERS = 16_384
_GZIP_MEMBER = b"\x1f\x8b\x08"


def encode_batch(batch: Batch, *, format: PayloadFormat) -> bytes:
    """Write a batch as an object's bytes; the same batch gives the same bytes.

    `npy` carries the pixels alone: ids and labels do not come back.
    """
    match format:
        case "csv":
            return encode_csv(batch)
        case "csv.gz":
            return gzip.compress(encode_csv(batch), compresslevel=_GZIP_LEVEL, mtime=0)
        case "npy":
            return encode_npy(batch)


def decode_batch(
    data: bytes, *, format: PayloadFormat, image_shape: ImageShape | None, max_images: int, max_bytes: int
) -> Batch:
    """Read one object as a batch, holding at most `max_bytes` of it unpacked.

    Without an `image_shape` the object's own is taken; CSV and flat npy rows say how many pixels there are, no more.

    Shapes: of such rows, images (N, 1, P, 1)
    Raises: InvalidBatch: no batch of such images, with row and column; PayloadCorrupt: no whole gzip file;
        PayloadTooLarge: more than `max_images` images or `max_bytes` bytes
    """
    if len(data) > max_bytes:
        raise _too_large(max_bytes)
    match format:
        case "csv":
            return _decode_text(data, image_shape, max_images)
        case "csv.gz":
            return _decode_text(_unpack(data, max_bytes), image_shape, max_images)
        case "npy":
            return decode_npy(data, image_shape=image_shape or announced_npy_shape(data), max_images=max_images)


def _decode_text(data: bytes, image_shape: ImageShape | None, max_images: int) -> Batch:
    return decode_csv(data, image_shape=image_shape or announced_csv_shape(data), max_images=max_images)


def _unpack(data: bytes, max_bytes: int) -> bytes:
    """Unpack a gzip file of one or more members, stopping at the limit."""
    # Each member takes 12 us, however little it holds: 64 MiB of empty ones would hold a thread for 40 s.
    if data.count(_GZIP_MEMBER) > MAX_GZIP_MEMBERS:
        raise PayloadCorrupt(f"The batch has over {MAX_GZIP_MEMBERS} gzip members; compress it in one go.")
    try:
        with gzip.GzipFile(fileobj=io.BytesIO(data)) as file:
            unpacked = file.read(max_bytes + 1)
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise PayloadCorrupt(f"The batch is no whole gzip file: {error}.") from error
    if len(unpacked) > max_bytes:
        raise _too_large(max_bytes)
    return unpacked


def _too_large(max_bytes: int) -> PayloadTooLarge:
    return PayloadTooLarge(f"The batch is over {max_bytes} bytes, the most that one request may bring.")
