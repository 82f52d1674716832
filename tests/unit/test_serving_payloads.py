"""What is sent to a TensorFlow Serving, and what of its answers is believed."""

from __future__ import annotations

import json

import numpy as np
import pytest

from classifiers.serving_payloads import (
    MOST_BYTES,
    MOST_IMAGES,
    cut,
    decode_predictions,
    encode_instances,
    most_answer_bytes,
)
from handoff.contracts.errors import RuntimeFailed


@pytest.mark.parametrize("shape", [(1, 1, 1, 1), (3, 28, 28, 1), (2, 5, 7, 3), (4, 2, 2, 4)])
def test_instances_are_the_images_as_lists(shape: tuple[int, ...]) -> None:
    """Every pixel at its place, whatever its number of digits, however the array lies in memory."""
    images = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    images.flat[:3] = [0, 99, 255][: images.size]
    for given in (images, images[::-1], images[:, :, ::-1]):
        body = encode_instances(given)
        assert json.loads(body) == {"instances": given.tolist()}
        assert b" " not in body


def test_calls_are_bounded_in_images_and_bytes() -> None:
    """Many small images are cut by their number, large ones by their text, and one image always goes."""
    small = np.zeros((2 * MOST_IMAGES + 1, 2, 2, 1), np.uint8)
    assert [len(part) for part in cut(small)] == [MOST_IMAGES, MOST_IMAGES, 1]
    large = np.full((40, 224, 224, 3), 255, np.uint8)
    parts = list(cut(large))
    assert sum(map(len, parts)) == 40
    assert max(len(encode_instances(part)) for part in parts) <= MOST_BYTES
    huge = np.broadcast_to(np.uint8(0), (2, 4096, 4096, 1))
    assert [len(part) for part in cut(huge)] == [1, 1]


def test_an_answer_becomes_probabilities() -> None:
    """As floats, in the order of the images, with a softmax' usual inaccuracy; longer than that bound is none."""
    rows = [[0.25, 0.75], [1, 0], [0.3333333, 0.6666666]]
    text = json.dumps({"predictions": rows}, indent=4).encode()
    found = decode_predictions(text, image_count=3, label_count=2, server="s")
    assert found.dtype == np.float32
    assert found == pytest.approx(np.array(rows))
    probabilities = np.random.default_rng(0).dirichlet(np.ones(10), 128)
    assert len(json.dumps({"predictions": probabilities.tolist()}, indent=8)) < most_answer_bytes(128, 10)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (b"", "no list of numbers"),
        (b"<html>busy</html>", "no list of numbers"),
        (b'{"predictions": [[0.5, 0.5]', "no list of numbers"),
        (b'{"outputs": [[0.5, 0.5], [0.5, 0.5]]}', "no list of numbers"),
        (b'{"predictions": [{"a": [0.5, 0.5]}, {"a": [0.5, 0.5]}]}', "no list of numbers"),
        (b'{"predictions": [[NaN, 0.5], [0.5, 0.5]]}', "no list of numbers"),
        (b'{"predictions": [["0.5", 0.5], [0.5, 0.5]]}', "no list of numbers"),
        (b'{"predictions": ' + 10_000 * b"[", "no list of numbers"),
        (b"\xff\xfe", "no list of numbers"),
        (b'{"predictions": [[0.5, 0.5]]}', "answered for 1 images; it was sent 2"),
        (b'{"predictions": [[0.5, 0.5], [0.5, 0.5], [0.5, 0.5]]}', "answered for 3 images"),
        (b'{"predictions": [[0.5, 0.5], [1.0]]}', "answered with 1 numbers an image; the manifest has 2 labels"),
        (b'{"predictions": [[0.5, 0.3, 0.2], [0.5, 0.3, 0.2]]}', "answered with 3 numbers an image"),
        (b'{"predictions": [[1.5, -0.5], [0.5, 0.5]]}', "no probabilities: the least is -0.5"),
        (b'{"predictions": [[9.1, 3.2], [0.5, 0.5]]}', "an image's sum is 12.3; the served signature has to end in"),
        (b'{"predictions": [[1e300, 0.5], [0.5, 0.5]]}', "no probabilities"),
    ],
)
def test_what_is_no_answer_is_refused(text: bytes, told: str) -> None:
    """Each in a sentence that names the server."""
    with pytest.raises(RuntimeFailed, match=told) as refused:
        decode_predictions(text, image_count=2, label_count=2, server="http://s")
    assert "http://s" in str(refused.value)
