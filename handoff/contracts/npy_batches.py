"""Batches as numpy's `.npy`: pixels alone, no ids and no labels."""

from __future__ import annotations

import ast
import io
import math

import numpy as np

from handoff.contracts.errors import InvalidBatch, PayloadTooLarge
from handoff.contracts.images import Batch, ImageShape, default_image_ids

_MAGIC = b"\x93NUMPY"
# numpy writes 118 bytes; the format allows 4 GiB of Python literal.
_MAX_HEADER_BYTES = 512
_UINT8 = {"|u1", "<u1", ">u1", "u1"}


def encode_npy(batch: Batch) -> bytes:
    """Write the images alone."""
    file = io.BytesIO()
    np.save(file, batch.images, allow_pickle=False)
    return file.getvalue()


def decode_npy(data: bytes, *, image_shape: ImageShape, max_images: int) -> Batch:
    """Read a `.npy` of uint8 pixels, C or Fortran order; the array is a view of `data` where it can be.

    Shapes: (N, H, W, C), (N, H*W*C), or (N, H, W) for images of one channel
    Raises: InvalidBatch; PayloadTooLarge: more than `max_images` images
    Source: numpy.lib.format, "Format Version 1.0" to "3.0"
    """
    shape, fortran_order, start = _read_header(data)
    _check_shape(shape, image_shape, max_images)
    if len(data) - start != math.prod(shape):
        raise InvalidBatch(f"The npy header announces {math.prod(shape)} bytes of pixels, {len(data) - start} follow.")
    pixels = np.frombuffer(data, np.uint8, offset=start).reshape(shape, order="F" if fortran_order else "C")
    images = np.ascontiguousarray(pixels).reshape(-1, *image_shape)
    return Batch(images, default_image_ids(len(images)))


def announced_npy_shape(data: bytes) -> ImageShape:
    """Say what images a `.npy` holds by its own header; flat rows count as images of one row.

    Raises: InvalidBatch
    """
    match _read_header(data)[0]:
        case (_, int(pixels)):
            return 1, pixels, 1
        case (_, int(height), int(width)):
            return height, width, 1
        case (_, int(height), int(width), int(channels)):
            return height, width, channels
        case shape:
            raise InvalidBatch(f"The npy array has the shape {str(shape)[:80]}, expected (N, H, W, C).")


def _read_header(data: bytes) -> tuple[tuple[int, ...], bool, int]:
    """Give shape, order and where the pixels begin, having read nothing but a bounded literal."""
    size_bytes = {b"\x01\x00": 2, b"\x02\x00": 4, b"\x03\x00": 4}.get(data[6:8])
    if not data.startswith(_MAGIC) or size_bytes is None:
        raise InvalidBatch("The batch is no npy file of format version 1, 2 or 3.")
    start = 8 + size_bytes
    length = int.from_bytes(data[8:start], "little")
    if length > _MAX_HEADER_BYTES or start + length > len(data):
        raise InvalidBatch(f"The npy header is cut off or longer than {_MAX_HEADER_BYTES} bytes.")
    # No such header needs one, and Python warns of those that it does not know on standard error.
    if b"\\" in data[start : start + length]:
        raise InvalidBatch("The npy header holds a backslash.")
    try:
        header = ast.literal_eval(data[start : start + length].decode().strip())
    except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError) as error:  # what literal_eval documents
        raise InvalidBatch("The npy header is no Python literal.") from error
    match header:
        case {"descr": str(kind), "fortran_order": bool(fortran_order), "shape": tuple(shape)} if (
            len(header) == 3 and all(type(side) is int and side >= 0 for side in shape)  # noqa: PLR2004
        ):
            if kind not in _UINT8:
                raise InvalidBatch(f"The npy array is of type {kind[:20]!r}, expected uint8 ('|u1').")
            return shape, fortran_order, start + length
    raise InvalidBatch("The npy header must be a dictionary of descr, fortran_order and shape, and of a plain type.")


def _check_shape(shape: tuple[int, ...], image_shape: ImageShape, max_images: int) -> None:
    height, width, channels = image_shape
    allowed = [image_shape, (math.prod(image_shape),), *([(height, width)] if channels == 1 else [])]
    if shape[1:] not in allowed:
        wanted = " or ".join(str(("N", *rest)).replace("'", "") for rest in allowed)
        raise InvalidBatch(f"The npy array has the shape {str(shape)[:80]}, expected {wanted}.")
    if not shape[0]:
        raise InvalidBatch("The batch holds no images.")
    if shape[0] > max_images:
        raise PayloadTooLarge(f"The batch holds {shape[0]} images, one request may hold {max_images}.")
