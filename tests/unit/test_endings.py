"""Whether a picture's bytes are all there: every file that is cut off is noticed, wherever it is cut."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from handoff.contracts.errors import DataSetUnavailable
from handoff.image_files.endings import reaches_end
from handoff.image_files.pictures import decode_picture

PIXELS = np.random.default_rng(5).integers(0, 256, (24, 24, 3), np.uint8)


def encoded(format: str, **options: object) -> bytes:
    """A picture of noise."""
    file = io.BytesIO()
    Image.fromarray(PIXELS).save(file, format, **options)
    return file.getvalue()


def with_thumbnail(data: bytes) -> bytes:
    """A JPEG whose second segment holds another whole one."""
    thumbnail = encoded("JPEG", quality=30)
    return data[:2] + b"\xff\xe2" + (len(thumbnail) + 2).to_bytes(2) + thumbnail + data[2:]


PICTURES = {
    "png": encoded("PNG"),
    "jpeg": encoded("JPEG"),
    "progressive jpeg": encoded("JPEG", progressive=True),
    "jpeg with restarts": encoded("JPEG", restart_marker_blocks=1),
    "jpeg with a thumbnail": with_thumbnail(encoded("JPEG")),
    "jpeg with fill bytes": encoded("JPEG").replace(b"\xff\xda", b"\xff\xff\xff\xda"),
}


@pytest.mark.parametrize("name", PICTURES)
def test_a_whole_picture_reaches_its_end(name: str) -> None:
    """With what cameras append to it, too."""
    data = PICTURES[name]
    assert reaches_end(data)
    assert reaches_end(data + b"\xff\xda trailing bytes \xff")
    assert decode_picture(data, name="x").shape == PIXELS.shape


@pytest.mark.parametrize("name", PICTURES)
def test_a_picture_that_is_cut_off_does_not(name: str) -> None:
    """At any byte after the first few."""
    data = PICTURES[name]
    assert not any(reaches_end(data[:size]) for size in range(8, len(data)))


def test_decoders_alone_would_take_a_picture_that_is_cut_off() -> None:
    """The last twenty bytes of a PNG are not looked at by the one in use: checksums and the end mark."""
    data = PICTURES["png"]
    assert decode_picture(data[:-20], name="x").shape == PIXELS.shape
    with pytest.raises(DataSetUnavailable):
        decode_picture(data[:-30], name="x")


def test_other_formats_are_left_to_their_decoders() -> None:
    """What is called .png may be anything that the decoder knows."""
    assert reaches_end(encoded("WEBP")[:-1])
    assert reaches_end(b"")


def test_a_picture_in_memory_is_refused_by_name() -> None:
    """Without a word on where in memory it lies."""
    with pytest.raises(DataSetUnavailable) as refused:
        decode_picture(b"nothing", name="a.png")
    assert str(refused.value) == "a.png is no picture that can be read: cannot identify image file."
    with pytest.raises(DataSetUnavailable, match=r"^a\.png is no picture that can be read: "):
        decode_picture(encoded("PNG")[:-200], name="a.png")
