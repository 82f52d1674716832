"""npy and csv.gz: what numpy and gzip write is read, and nothing else."""

from __future__ import annotations

import gzip
import io

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from handoff.contracts.batches import MAX_GZIP_MEMBERS, Batch, decode_batch, encode_batch
from handoff.contracts.errors import FashionError, InvalidBatch, PayloadCorrupt, PayloadTooLarge
from handoff.contracts.messages import PayloadFormat

SHAPE = (4, 3, 1)
IMAGES = np.arange(5 * 12, dtype=np.uint8).reshape(5, *SHAPE)
BATCH = Batch(IMAGES, ["a", "b", "c", "d", "e"], ["x"] * 5)


def decode(data: bytes, format: PayloadFormat, *, max_images: int = 10, max_bytes: int = 100_000) -> Batch:
    """Decode with the small shape of these tests."""
    return decode_batch(data, format=format, image_shape=SHAPE, max_images=max_images, max_bytes=max_bytes)


def npy(array: npt.NDArray[np.generic], version: tuple[int, int] | None = None) -> bytes:
    """What numpy writes."""
    file = io.BytesIO()
    np.lib.format.write_array(file, array, version=version, allow_pickle=True)
    return file.getvalue()


def with_header(header: str, pixels: bytes = IMAGES.tobytes()) -> bytes:
    """An npy file with a header of one's own."""
    return b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header.encode() + pixels


@pytest.mark.parametrize("format", ["csv", "csv.gz"])
def test_csv_formats_bring_everything_back(format: PayloadFormat) -> None:
    """Pixels, ids and labels, and the same bytes each time."""
    data = encode_batch(BATCH, format=format)
    batch = decode(data, format)
    assert np.array_equal(batch.images, IMAGES)
    assert (batch.image_ids, batch.labels) == (BATCH.image_ids, BATCH.labels)
    assert encode_batch(BATCH, format=format) == data


def test_npy_brings_the_pixels_back() -> None:
    """Ids become places, labels do not travel."""
    batch = decode(encode_batch(BATCH, format="npy"), "npy")
    assert np.array_equal(batch.images, IMAGES)
    assert (batch.image_ids, batch.labels) == (["0", "1", "2", "3", "4"], None)


@pytest.mark.parametrize(
    ("shape", "found"),
    [((5, 4, 3, 1), (4, 3, 1)), ((5, 4, 3), (4, 3, 1)), ((5, 12), (1, 12, 1)), ((5, 2, 2, 3), (2, 2, 3))],
)
def test_without_a_shape_an_npy_batch_has_its_own(shape: tuple[int, ...], found: tuple[int, ...]) -> None:
    """Flat rows are images of one row."""
    data = npy(IMAGES.reshape(shape))
    images = decode_batch(data, format="npy", image_shape=None, max_images=10, max_bytes=1000).images
    assert images.shape == (5, *found)
    assert np.array_equal(images.ravel(), IMAGES.ravel())


@pytest.mark.parametrize("shape", [(60,), (5, 3, 2, 2, 1)])
def test_an_array_of_other_axes_has_no_shape_of_images(shape: tuple[int, ...]) -> None:
    """It is refused, not guessed."""
    with pytest.raises(InvalidBatch, match="expected"):
        decode_batch(npy(IMAGES.reshape(shape)), format="npy", image_shape=None, max_images=99, max_bytes=1000)


@pytest.mark.parametrize("shape", [(5, 4, 3, 1), (5, 4, 3), (5, 12)])
@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("version", [(1, 0), (2, 0), (3, 0)])
def test_npy_shapes_orders_and_versions(shape: tuple[int, ...], order: str, version: tuple[int, int]) -> None:
    """Whatever numpy may write of such images is the same batch."""
    array = np.asarray(IMAGES.reshape(shape), order=order)  # type: ignore[call-overload]
    batch = decode(npy(array, version), "npy")
    assert np.array_equal(batch.images, IMAGES)
    assert batch.images.flags.c_contiguous


@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        (b"", "no npy file"),
        (b"PK\x03\x04" + bytes(100), "no npy file"),
        (npy(IMAGES).replace(b"NUMPY\x01", b"NUMPY\x09"), "no npy file of format version"),
        (npy(IMAGES)[:60], "cut off"),
        (npy(IMAGES)[:-1], "announces 60 bytes of pixels, 59 follow"),
        (npy(IMAGES) + b"\0", "announces 60 bytes of pixels, 61 follow"),
        (npy(IMAGES.astype(np.float32)), "of type '<f4', expected uint8"),
        (npy(IMAGES.astype(object)), "of type '|O'"),
        (npy(IMAGES.view([("a", "u1")])), "of a plain type"),
        (npy(IMAGES.reshape(5, 3, 4, 1)), r"shape \(5, 3, 4, 1\), expected \(N, 4, 3, 1\) or \(N, 12\) or \(N, 4, 3\)"),
        (npy(IMAGES[0, 0, 0, 0]), r"shape \(\)"),
        (npy(IMAGES[:0]), "holds no images"),
        (with_header("{'descr': '|u1', 'fortran_order': False, 'shape': (-5, 4, 3)}"), "must be a dictionary"),
        (with_header("{'descr': '|u1', 'fortran_order': False, 'shape': (5.0, 4, 3)}"), "must be a dictionary"),
        (with_header("{'descr': '|u1', 'fortran_order': 0, 'shape': (5, 4, 3)}"), "must be a dictionary"),
        (with_header("{'descr': '|u1', 'fortran_order': False, 'shape': (5, 4, 3), 'x': 1}"), "must be a dictionary"),
        (with_header("__import__('os').abort()"), "no Python literal"),
        (with_header("(" * 500), "no Python literal"),
        (with_header("{[]: 1}"), "no Python literal"),
        (with_header("{'\\d': 1}"), "holds a backslash"),  # Python would warn of it in the worker's log
        (with_header(" " * 600), "longer than 512 bytes"),
    ],
)
def test_other_npy_files_are_refused(data: bytes, sentence: str) -> None:
    """Wrong type, shape, length or header: refused with the reason, before an array is made."""
    with pytest.raises(InvalidBatch, match=sentence):
        decode(data, "npy")


def test_a_header_of_another_writer_is_read() -> None:
    """The order of the keys, the quotes and the padding are free."""
    data = with_header('{"shape": (5, 4, 3), "fortran_order": False, "descr": "<u1",}   \n')
    assert np.array_equal(decode(data, "npy").images, IMAGES)


@given(st.binary(max_size=600), st.booleans())
@settings(max_examples=300)
def test_noise_is_refused_in_every_format(noise: bytes, headed: bool) -> None:  # noqa: FBT001
    """Only the project's own errors come out."""
    for format in ("csv", "csv.gz", "npy"):
        start = {"csv": b"pixel_0", "csv.gz": b"\x1f\x8b\x08", "npy": b"\x93NUMPY\x01\x00\x40\x00{"}[format]
        with pytest.raises(FashionError):
            decode(start * headed + noise, format)  # type: ignore[arg-type]


@pytest.mark.parametrize("format", ["csv", "csv.gz", "npy"])
def test_limits_hold_in_every_format(format: PayloadFormat) -> None:
    """One image or one byte over the limit is too large."""
    data = encode_batch(BATCH, format=format)
    size_bytes = len(gzip.decompress(data)) if format == "csv.gz" else len(data)
    assert len(decode(data, format, max_images=5, max_bytes=size_bytes)) == 5
    with pytest.raises(PayloadTooLarge):
        decode(data, format, max_images=4)
    with pytest.raises(PayloadTooLarge):
        decode(data, format, max_bytes=size_bytes - 1)


def test_a_gzip_bomb_is_too_large() -> None:
    """Unpacking stops at the limit."""
    bomb = gzip.compress(bytes(50_000_000))
    with pytest.raises(PayloadTooLarge, match="over 100000 bytes"):
        decode(bomb, "csv.gz")


def test_a_gzip_file_of_countless_members_is_refused() -> None:
    """They unpack to nothing, and take their time."""
    with pytest.raises(PayloadCorrupt, match="over 16384 gzip members"):
        decode(gzip.compress(b"") * (MAX_GZIP_MEMBERS + 1), "csv.gz", max_bytes=1_000_000)


def test_gzip_of_several_members_is_one_file() -> None:
    """As `cat a.gz b.gz` makes them."""
    text = encode_batch(BATCH, format="csv")
    data = gzip.compress(text[:30]) + gzip.compress(text[30:])
    assert np.array_equal(decode(data, "csv.gz").images, IMAGES)


@pytest.mark.parametrize("damage", ["cut off", "changed", "not gzip", "more after it"])
def test_broken_gzip_is_corrupt(damage: str) -> None:
    """Cut off, changed within, not gzip at all, or followed by something else."""
    data = encode_batch(BATCH, format="csv.gz")
    damaged = {
        "cut off": data[:-5],
        "changed": data[:-6] + bytes([data[-6] ^ 1]) + data[-5:],
        "not gzip": b"pixel_0\n",
        "more after it": data + b"more",
    }[damage]
    with pytest.raises(PayloadCorrupt, match="no whole gzip file"):
        decode(damaged, "csv.gz")
