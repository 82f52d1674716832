"""The predictions file comes back as it was written, to six decimals."""

from __future__ import annotations

import csv
import io

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from handoff.contracts.errors import PayloadCorrupt
from handoff.contracts.predictions import decode_predictions, encode_predictions

names = st.text(st.one_of(st.sampled_from(',"\n\r '), st.characters(exclude_categories=["Cs"])), min_size=1, max_size=8)


@given(st.data())
def test_predictions_come_back(data: st.DataObject) -> None:
    """Ids and labels exactly, probabilities within half a millionth, whatever characters the names hold."""
    labels = data.draw(st.lists(names, min_size=1, max_size=4, unique=True))
    image_ids = data.draw(st.lists(names, max_size=5))
    cells = st.lists(st.floats(0, 1, width=32), min_size=len(labels), max_size=len(labels))
    rows = data.draw(st.lists(cells, min_size=len(image_ids), max_size=len(image_ids)))
    probabilities = np.array(rows, np.float32).reshape(len(image_ids), len(labels))
    table = decode_predictions(encode_predictions(image_ids, probabilities, labels))
    assert (table.image_ids, table.label_names, len(table)) == (image_ids, labels, len(image_ids))
    assert np.array_equal(table.label_ids, probabilities.argmax(axis=1))
    assert table.labels == [labels[label_id] for label_id in table.label_ids]
    assert table.probabilities.shape == probabilities.shape
    # Half a unit of the sixth decimal, and what float32 cannot hold of it.
    assert np.allclose(table.probabilities, probabilities, rtol=0, atol=0.5e-6 + 1e-7)


def test_the_text_is_as_documented() -> None:
    """A header, the best label of each image, then every probability with six decimals."""
    text = encode_predictions(["7", "a,b"], np.array([[0.25, 0.75], [1, 0]], np.float32), ["Bag", "T-shirt/top"])
    assert text.decode().splitlines() == [
        "image_id,label_id,label,probability,probability_Bag,probability_T-shirt/top",
        "7,1,T-shirt/top,0.750000,0.250000,0.750000",
        '"a,b",0,Bag,1.000000,1.000000,0.000000',
    ]


def test_every_fixed_point_number_is_written_right() -> None:
    """Python's own formatting agrees, on values close to a rounding step and far from it."""
    values = np.concatenate([np.linspace(0, 1, 999, dtype=np.float32), np.array([1e-7, 4.9e-7, 5.1e-7, 0.9999999])])
    probabilities = values.astype(np.float32).reshape(-1, 1)
    rows = csv.DictReader(io.StringIO(encode_predictions(["x"] * len(values), probabilities, ["a"]).decode()))
    assert [row["probability_a"] for row in rows] == [f"{value:.6f}" for value in probabilities[:, 0]]


def test_a_softmax_one_unit_off_is_clipped() -> None:
    """Float32 sums end a little outside 0 to 1; the file never does."""
    text = encode_predictions(["x"], np.array([[1.0000001, -1e-7]], np.float32), ["a", "b"])
    assert text.endswith(b"\nx,0,a,1.000000,1.000000,0.000000\n")


@pytest.mark.parametrize("value", [np.nan, np.inf, -0.1, 1.1])
def test_what_is_no_probability_is_not_written(value: float) -> None:
    """A classifier gone wrong is found before its answer is stored."""
    with pytest.raises(ValueError, match="no probability"):
        encode_predictions(["x"], np.array([[value, 0]], np.float32), ["a", "b"])


def test_shapes_must_fit() -> None:
    """As many rows as ids, as many columns as labels."""
    with pytest.raises(ValueError, match="do not fit"):
        encode_predictions(["x"], np.zeros((2, 2), np.float32), ["a", "b"])


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xff",
        b"image_id,label_id,label,probability\n",
        b"image_id,label_id,label,probability,other\n",
        b"image_id,label_id,label,probability,probability_a\nx,0,a,1.0\n",
        b"image_id,label_id,label,probability,probability_a\nx,0,a,1.0,z\n",
        b"image_id,label_id,label,probability,probability_a\nx,99999999999,a,1.0,1.0\n",
        b"image_id,label_id,label,probability,probability_a\nx,zero,a,1.0,1.0\n",
        b"image_id,label_id,label,probability,probability_a\nx,1,a,1.0,1.0\n",
        b"image_id,label_id,label,probability,probability_a\nx,-1,a,1.0,1.0\n",
        b"image_id,label_id,label,probability,probability_a\nx,0,a,1.0,nan\n",
        b"image_id,label_id,label,probability,probability_a\nx,0,a,1.0,2\n",
        b'image_id,label_id,label,probability,probability_a\n"x,0,a,1.0,1.0\n',
    ],
)
def test_other_files_are_corrupt(data: bytes) -> None:
    """Whatever is no predictions file is refused as one error."""
    with pytest.raises(PayloadCorrupt, match="predictions file cannot be read"):
        decode_predictions(data)
