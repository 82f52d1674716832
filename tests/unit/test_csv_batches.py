"""Batch CSV: what is written comes back, what is refused is named, and the fast reader agrees with the strict one."""

from __future__ import annotations

import csv
import gzip
import io
import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from handoff.contracts import csv_strict
from handoff.contracts.batches import decode_batch
from handoff.contracts.csv_batches import _read_usual, decode_csv, encode_csv
from handoff.contracts.csv_pixels import read_pixels, write_pixels
from handoff.contracts.errors import FashionError, InvalidBatch, PayloadTooLarge
from handoff.contracts.images import Batch, default_image_ids
from handoff.contracts.messages import PayloadFormat

SHAPE = (2, 1, 2)
WIDTH = 4
HEADER = "pixel_0,pixel_1,pixel_2,pixel_3\n"

# Every character that a cell may hold, those that CSV treats in a way of its own more often than others.
names = st.text(st.one_of(st.sampled_from(',"\n\r \0é\u2028'), st.characters(exclude_categories=["Cs"])), max_size=8)


def decode(text: str | bytes, max_images: int = 10) -> Batch:
    """Decode with the small shape of these tests."""
    data = text.encode() if isinstance(text, str) else text
    return decode_csv(data, image_shape=SHAPE, max_images=max_images)


def same(one: Batch, other: Batch) -> bool:
    """Say whether two batches hold the same."""
    equal_names = one.image_ids == other.image_ids and one.labels == other.labels
    return equal_names and one.images.shape == other.images.shape and np.array_equal(one.images, other.images)


@st.composite
def batches(draw: st.DrawFn) -> Batch:
    """Small batches with every kind of name."""
    count = draw(st.integers(1, 6))
    pixels = draw(st.lists(st.integers(0, 255), min_size=count * WIDTH, max_size=count * WIDTH))
    ids = st.lists(names.filter(bool), min_size=count, max_size=count, unique=True)
    labels = st.lists(names, min_size=count, max_size=count)
    image_ids = draw(st.one_of(st.just(default_image_ids(count)), ids))
    return Batch(np.array(pixels, np.uint8).reshape(count, *SHAPE), image_ids, draw(st.none() | labels))


@given(batches())
def test_a_batch_comes_back_as_it_was_written(batch: Batch) -> None:
    """Pixels, ids and labels survive, whatever characters the names hold."""
    assert same(decode(encode_csv(batch)), batch)


@given(batches())
def test_what_we_write_is_csv_to_others(batch: Batch) -> None:
    """Python's own reader finds the same cells."""
    rows = list(csv.reader(io.StringIO(encode_csv(batch).decode(), newline="\n"), strict=True))
    assert [list(map(int, row[-WIDTH:])) for row in rows[1:]] == batch.images.reshape(-1, WIDTH).tolist()
    if batch.labels is not None:
        assert [row[-WIDTH - 1] for row in rows[1:]] == batch.labels


@given(batches(), st.data())
@settings(max_examples=400)
def test_the_fast_reader_agrees_with_the_strict_one(batch: Batch, data: st.DataObject) -> None:
    """On whole and on damaged files it gives what the strict reader gives, or leaves the file to it."""
    text = bytearray(encode_csv(batch))
    for _ in range(data.draw(st.integers(0, 3))):
        start = data.draw(st.integers(0, len(text)))
        length = data.draw(st.integers(0, 3))
        text[start : start + length] = data.draw(
            st.sampled_from(
                [b"", b",", b"\n", b"\r\n", b"\r", b'"', b"0", b"1", b"256", b"-", b" ", b".", b"\xff", b"\0"]
            )
        )
    assert_same_reading(bytes(text))


@given(st.binary(max_size=80), st.sampled_from([HEADER, "label," + HEADER, "image_id,label," + HEADER, ""]))
@settings(max_examples=300)
def test_the_fast_reader_agrees_with_the_strict_one_on_noise(noise: bytes, header: str) -> None:
    """The same for bytes that nobody wrote as a batch."""
    assert_same_reading(header.encode() + noise)


def assert_same_reading(data: bytes) -> None:
    """Compare both readers on one file."""
    fast = _outcome(lambda: _read_usual(data, image_shape=SHAPE, max_images=10))
    strict = _outcome(lambda: csv_strict.read_csv(data, image_shape=SHAPE, max_images=10))
    if isinstance(fast, Batch):
        assert isinstance(strict, Batch)
        assert same(fast, strict)
    elif fast is not None:
        assert isinstance(strict, FashionError)


def _outcome(read):  # noqa: ANN001, ANN202 - a reader's batch, None or error
    try:
        return read()
    except FashionError as error:
        return error


def test_every_pixel_value_is_read_and_written() -> None:
    """All 256 values, and files larger than a block of rows."""
    pixels = np.arange(200 * WIDTH, dtype=np.int64).astype(np.uint8).reshape(200, *SHAPE)
    batch = Batch(pixels, default_image_ids(200))
    assert same(decode(encode_csv(batch), max_images=200), batch)


@pytest.mark.parametrize("before", [b"", b"7,", b"255,", b"25,\n"])
@pytest.mark.parametrize("after", [b"\n", b",0\n", b",199\n1,2\n"])
def test_the_fast_reader_takes_no_cell_but_a_pixel_at_its_shortest(before: bytes, after: bytes) -> None:
    """Of all texts of up to four digits, and of three with any character in one place."""
    digits = [b"%0*d" % (length, number) for length in range(1, 5) for number in range(10**length)]
    others = [b"%b%c%b" % (b"12"[:place], character, b"12"[place:]) for place in range(3) for character in range(256)]
    for cell in [b"", *digits, *others]:
        text = before + cell + after
        row_count = max(1, text.count(b"\n"))
        pixels = read_pixels(text, row_count=row_count)
        assert pixels is None or write_pixels(pixels) == text


@given(st.lists(st.sampled_from([*b"0123456789,,,,\n\n -\0"]), max_size=60), st.integers(1, 4))
@settings(max_examples=1_000)
def test_the_fast_reader_takes_nothing_that_it_would_write_otherwise(text: list[int], row_count: int) -> None:
    """Whatever it makes of a text, writing that gives the text."""
    pixels = read_pixels(bytes(text), row_count=row_count)
    assert pixels is None or write_pixels(pixels) == bytes(text)


@pytest.mark.parametrize(
    "text", [b"", b"1", b"1,2", b"1\n2\n", b"1\n2,3\n4\n5,6\n", b"1,2,3\n", b"1,2\n3,4\n5,6\n7,8\n"]
)
def test_the_fast_reader_wants_as_many_lines_as_it_is_told(text: bytes) -> None:
    """All of the same length: two, here."""
    assert read_pixels(text, row_count=2) is None or text == b"1\n2\n"
    assert read_pixels(text, row_count=3) is None


def test_usual_files_take_the_fast_way() -> None:
    """Unix and DOS line ends, a byte order mark, a missing last line end, and both orders of the names."""
    for header in ("", "image_id,", "label,", "image_id,label,", "label,image_id,"):
        head = "".join(f"name-{index}," for index in range(header.count(",")))
        text = f"{header}{HEADER}{head}0,9,99,255\n"
        for variant in (text, text.replace("\n", "\r\n"), text.removesuffix("\n"), "\ufeff" + text):
            batch = _read_usual(variant.encode(), image_shape=SHAPE, max_images=1)
            assert batch is not None, variant
            assert batch.images.ravel().tolist() == [0, 9, 99, 255]


@pytest.mark.parametrize(
    "text",
    [
        '"pixel_0","pixel_1",pixel_2,pixel_3\n1,2,3,4\n',
        HEADER + '"1","2","3","4"\n',
        HEADER + "01,002,3,4\n",
        HEADER + "1,2,3,4\r",
    ],
)
def test_unusual_but_legal_files_are_read(text: str) -> None:
    """Quoted numbers and column names, and leading zeros up to three digits."""
    assert decode(text).images.ravel().tolist() == [1, 2, 3, 4]


def test_quoted_names_keep_what_they_hold() -> None:
    """Commas, quotes and line ends in an id or a label, and an empty label."""
    batch = decode("label,image_id," + HEADER + '"T-shirt, top","a ""b""\nc",1,2,3,4\n,x,1,2,3,4\n')
    assert batch.labels == ["T-shirt, top", ""]
    assert batch.image_ids == ['a "b"\nc', "x"]


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "first line must name the columns"),
        (HEADER, "no row after the header"),
        ("pixel_0,pixel_1\n1,2\n", "2 pixel columns, expected 4 .pixel_0 to pixel_3.: the model takes images of 2x1x2"),
        ("1,2,3,4\n", "Column 1 of the header is '1', expected pixel_0"),
        ("image_id,pixel_0,pixel_2,pixel_1,pixel_3\n", "Column 3 of the header is 'pixel_2', expected pixel_1"),
        ("pixel_0,pixel_1,pixel_2,pixel_3,label\n", "5 pixel columns"),
        ("label,label," + HEADER, "names a column twice"),
        (HEADER + "1,2,3,4\n1,2,3\n", "data row 2 .* column pixel_3: missing; the row has 3 cells"),
        (HEADER + "1,2,3,4,5\n", "data row 1 .* column after pixel_3: too many"),
        (HEADER + "1,2,3,4\n\n", "Data row 2 .* is an empty line"),
        (HEADER + "1,2,3,4\n1,x,3,4\n", "data row 2 .1 is the first after the header., column pixel_1: 'x' is not an"),
        (HEADER + "1,2,NaN,4\n", "column pixel_2: 'NaN' is not"),
        (HEADER + "1,2,3,-1\n", "column pixel_3: '-1' is not"),
        (HEADER + "256,2,3,4\n", "column pixel_0: '256' is not an integer 0-255"),
        (HEADER + "300,2,3,4\n", "column pixel_0: '300'"),
        (HEADER + "1,2,3,999\n", "column pixel_3: '999'"),
        (HEADER + "1,2,3,0004\n", "column pixel_3: '0004'"),
        (HEADER + "1,2.0,3,4\n", "column pixel_1: '2.0'"),
        (HEADER + "1, 2,3,4\n", "column pixel_1: ' 2'"),
        (HEADER + "1,2,٣,4\n", "column pixel_2: '٣'"),
        (HEADER + "1,,3,4\n", "column pixel_1: an empty cell is not"),
        (HEADER + "1," + "9" * 90 + ",3,4\n", "column pixel_1: '9{40}…' is not"),
        (HEADER + '1,2,3,"4\n', "Data row 1 .* is not a line of CSV"),
        (HEADER + "1,2,3,4\r1,2,3,4\n", "Data row 1 .* is not a line of CSV"),
        ("image_id," + HEADER + "a,1,2,3,4\na,1,2,3,4\n", "data row 2 .* column image_id: 'a' stands in row 1 too"),
        ("image_id," + HEADER + ",1,2,3,4\n", "data row 1 .* column image_id: it is empty"),
        ("label," + HEADER + "a" * 1025 + ",1,2,3,4\n", "column label: 1025 characters"),
        (HEADER + "1,2,3,4\n" + '"\n",' * 9000, "Data row 2 .* longer than any row"),
        ("," * 100_000, "The header is over .* longer than any row"),
    ],
)
def test_a_bad_file_is_refused_with_row_and_column(text: str, sentence: str) -> None:
    """Each fault is named where it stands."""
    with pytest.raises(InvalidBatch, match=sentence):
        decode(text)


def test_bytes_that_are_no_text_are_refused() -> None:
    """Invalid UTF-8 is named with its row, in the fast files and in the others."""
    for row in (b"\xff,1,2,3,4\n", b'"\xff",1,2,3,4\n'):
        with pytest.raises(InvalidBatch, match=r"Data row 2 .* is not UTF-8"):
            decode(b"image_id," + HEADER.encode() + b"a,1,2,3,4\n" + row)


def test_more_rows_than_allowed_are_too_large() -> None:
    """One row over the limit is refused, with quotes or without; the limit itself is not."""
    for row in ("1,2,3,4\n", '"1",2,3,4\n'):
        assert len(decode(HEADER + 3 * row, max_images=3)) == 3
        for end in ("", row.removesuffix("\n"), row):
            with pytest.raises(PayloadTooLarge, match="more than 3 images"):
                decode(HEADER + 4 * row + end, max_images=3)


@pytest.mark.parametrize("format", ["csv", "csv.gz"])
@pytest.mark.parametrize("names", ["", "image_id,", "label,image_id,"])
def test_without_a_shape_a_batch_is_of_rows_of_pixels(format: PayloadFormat, names: str) -> None:
    """As many as its header names, quoted or not, whatever ends its lines."""
    heads = {"": "", "image_id,": "a,", "label,image_id,": "x,a,"}
    text = f"{names}pixel_0,pixel_1,pixel_2\r\n{heads[names]}7,8,9\r\n"
    quoted = text.replace("pixel_2", '"pixel_2"')
    for data in (text.encode(), quoted.encode(), b"\xef\xbb\xbf" + text.encode()):
        packed = gzip.compress(data) if format == "csv.gz" else data
        batch = decode_batch(packed, format=format, image_shape=None, max_images=9, max_bytes=9999)
        assert batch.images.tolist() == [[[[7], [8], [9]]]]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "\n",
        "label\n",
        "pixel_x\n1\n",
        "pixel_99999999\n1\n",
        "pixel_999999999\n",
        "pixel_0,label\n1,2\n",
        "pixel_2\n1\n",
    ],
)
def test_a_header_that_says_no_number_of_pixels_is_refused(text: str) -> None:
    """Before as many names are made as it pretends to have."""
    with pytest.raises(InvalidBatch, match="header"):
        decode_batch(text.encode(), format="csv", image_shape=None, max_images=9, max_bytes=9999)


def test_only_a_given_image_id_is_written() -> None:
    """Ids that say no more than the place in the batch take no column."""
    images = np.zeros((2, *SHAPE), np.uint8)
    assert encode_csv(Batch(images, ["0", "1"])) == (HEADER + "0,0,0,0\n0,0,0,0\n").encode()
    assert encode_csv(Batch(images, ["0", "2"], ["a,b", ""])).startswith(b"image_id,label,pixel_0")
    assert re.search(rb'\n0,"a,b",0,0,0,0\n2,,0,0,0,0\n\Z', encode_csv(Batch(images, ["0", "2"], ["a,b", ""])))


def test_a_batch_of_uneven_columns_cannot_be_made() -> None:
    """Ids and labels are as many as the images."""
    images = np.zeros((2, *SHAPE), np.uint8)
    with pytest.raises(InvalidBatch, match="2 images but 1 entries in column image_id"):
        Batch(images, ["a"])
    with pytest.raises(InvalidBatch, match="2 images but 3 entries in column label"):
        Batch(images, ["a", "b"], ["x", "y", "z"])
