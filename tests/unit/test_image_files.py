"""The files that people have, read to the same pixels whichever way, and refused in one sentence."""

from __future__ import annotations

import csv
import gzip
import io
import struct
import zipfile
import zlib
from pathlib import Path

import click
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image as Picture

from handoff.contracts.errors import DataSetUnavailable
from handoff.contracts.idx import encode_idx
from handoff.image_files import arrays, lines
from handoff.image_files.arrays import count_npz_images, holds_both_parts, read_npy, read_npz
from handoff.image_files.blocks import open_image_array
from handoff.image_files.kinds import kind_of
from handoff.image_files.labels import labels_of, read_labels
from handoff.image_files.options import Shape, Size
from handoff.image_files.pictures import find_pictures, read_picture, resize
from handoff.image_files.pixels import as_images, as_pixels, check_shape, guess_shape
from handoff.image_files.table import Rows, read_rows

RNG = np.random.default_rng(3)
PIXELS = RNG.integers(0, 256, (5, 4, 4), np.uint8)

any_file = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)


def table(path: Path, **options: str) -> Rows:
    """All rows of a CSV file, joined."""
    blocks = list(read_rows(path, **options))
    ids = [name for block in blocks for name in block.image_ids or ()]
    labels = [name for block in blocks for name in block.labels or ()]
    return Rows(np.concatenate([block.pixels for block in blocks]), ids or None, labels or None)


def write_csv(path: Path, header: list[str], rows: list[list[object]], **style: object) -> Path:
    """A CSV file as Python writes it."""
    text = io.StringIO()
    writer = csv.writer(text, **style)  # type: ignore[arg-type] # the options of csv.writer
    writer.writerows([header, *rows])
    path.write_text(text.getvalue(), encoding="utf-8", newline="")
    return path


def test_columns_may_stand_in_any_order(tmp_path: Path) -> None:
    """Label before or behind the pixels, pixels sorted as text: they come in the order of their numbers."""
    flat = PIXELS.reshape(5, 16)
    names = sorted(f"pixel{number}" for number in range(16))
    order = [int(name.removeprefix("pixel")) for name in names]
    header = ["image_id", *names, "Class"]
    rows = [[f"i{n}", *row[order].tolist(), n % 2] for n, row in enumerate(flat)]
    read = table(write_csv(tmp_path / "x.csv", header, rows), label_column="class")
    assert np.array_equal(read.pixels, flat)
    assert read.image_ids == [f"i{n}" for n in range(5)]
    assert read.labels == ["0", "1", "0", "1", "0"]


def test_columns_among_the_pixels_are_read_too(tmp_path: Path) -> None:
    """A label between two pixels is no reason to refuse a file."""
    path = tmp_path / "x.csv"
    path.write_text("1x1,1x2,label,2x1,2x2\n1,2,Bag,3,4\n5,6,Coat,7,8\n", encoding="utf-8")
    read = table(path)
    assert read.pixels.tolist() == [[1, 2, 3, 4], [5, 6, 7, 8]]
    assert read.labels == ["Bag", "Coat"]


def test_the_fast_and_the_careful_way_read_the_same(tmp_path: Path) -> None:
    """Quotes, spaces, points, line ends and compression change nothing of what is read, over several blocks."""
    flat = RNG.integers(0, 256, (300, 784), np.uint8)
    header = ["label", *(f"pixel{n}" for n in range(1, 785))]
    rows: list[list[object]] = [[f"l{n % 3}", *row.tolist()] for n, row in enumerate(flat)]
    plain = write_csv(tmp_path / "plain.csv", header, rows, lineterminator="\n")
    text = plain.read_text()
    variants = {
        "crlf.csv": text.replace("\n", "\r\n"),
        "spaces.csv": text.replace(",7,", ", 7 ,"),
        "points.csv": text.replace(",255,", ",255.0,"),
        "mark.csv": "\ufeff" + text,
        "no-end.csv": text.rstrip("\n"),
    }
    for name, content in variants.items():
        (tmp_path / name).write_text(content, encoding="utf-8", newline="")
    write_csv(tmp_path / "quoted.csv", header, rows, quoting=csv.QUOTE_ALL)
    (tmp_path / "packed.csv.gz").write_bytes(gzip.compress(text.encode()))
    for name in ("plain.csv", *variants, "quoted.csv", "packed.csv.gz"):
        read = table(tmp_path / name)
        assert np.array_equal(read.pixels, flat), name
        assert read.labels == [f"l{n % 3}" for n in range(300)], name


def test_a_quoted_label_may_run_over_lines(tmp_path: Path) -> None:
    """Quotes hold commas and line ends, in the middle of a file too."""
    path = write_csv(tmp_path / "x.csv", ["label", "pixel0"], [["a", 1], ["b,\n c", 2], ["d", 3]])
    assert table(path).labels == ["a", "b,\n c", "d"]


@any_file
@given(cell=st.text(st.characters(exclude_characters=',"\r\n', exclude_categories=["Cs"]), max_size=6))
def test_a_cell_is_a_pixel_or_is_named(tmp_path: Path, cell: str) -> None:
    """Whatever stands in a cell: the number it writes, or a sentence with row and column."""
    path = tmp_path / "x.csv"
    path.write_text(f"pixel0,pixel1\n1,2\n3,{cell}\n", encoding="utf-8", newline="")
    try:
        value = table(path).pixels[1, 1]
    except DataSetUnavailable as error:
        assert "row 2: every pixel must be an integer from 0 to 255, but column pixel1 holds" in str(error)  # noqa: PT017
    else:
        assert float(cell) == value


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"pixel0,pixel0\n1,2\n", "names the column 'pixel0' twice"),
        (
            b"pixel0,pixel1\n1,2\n1,2,3\n",
            "row 2: every pixel must be an integer from 0 to 255, but the row has 3 cells",
        ),
        (b"pixel0,pixel1\n1,2\n1\n", "but the row has 1 cells, the header 2 columns"),
        (b"pixel0\n1\n\n2\n", "row 2: every pixel must be an integer from 0 to 255, but the line is empty"),
        (b"label,pixel0,pixel1\n1,2,nan\n", "row 1: every pixel must be an integer from 0 to 255, but column pixel1"),
        (b"pixel0\n1.5\n", "column pixel0 holds '1.5'"),
        (b"pixel0\n1_0\n", "column pixel0 holds '1_0'"),
        (b"pixel0,pixel1\n,1\n", "column pixel0 holds an empty cell"),
        (b"0,1,2\n3,4,5\n", "has no header with columns pixel_0"),
        (b"pixel" + 5_000 * b"1" + b"\n1\n", "has no header with columns pixel_0"),
        (b"pixel0," + 50_000 * b"a," + b"pixel0\n", "names the column 'a' twice"),
    ],
)
def test_a_bad_row_is_named(tmp_path: Path, content: bytes, words: str) -> None:
    """File, row and column, in one line."""
    path = tmp_path / "x.csv"
    path.write_bytes(content)
    with pytest.raises(DataSetUnavailable) as refused:
        table(path)
    assert words in str(refused.value)
    assert str(path) in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_csv_file_that_is_cut_off_is_named(tmp_path: Path) -> None:
    """Half a gzip file is no shorter data set."""
    path = tmp_path / "x.csv.gz"
    path.write_bytes(gzip.compress(b"pixel0\n" + b"1\n" * 999)[:-9])
    with pytest.raises(DataSetUnavailable, match="cannot be read as CSV"):
        table(path)


def test_a_line_without_end_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Memory stays bounded whatever a compressed file unpacks to."""
    monkeypatch.setattr(lines, "_MAX_LINE_CHARACTERS", 99)
    (tmp_path / "x.csv").write_text("pixel0\n" + "1" * 500)
    with pytest.raises(DataSetUnavailable, match="has a line of over 99 characters"):
        table(tmp_path / "x.csv")


@pytest.mark.parametrize(
    ("names", "train", "test"),
    [
        (("images", "labels"), 0, 0),
        (("x", "y"), 0, 0),
        (("x_train", "y_train", "x_test", "y_test"), 0, 1),
        (("train_images", "train_labels", "test_images", "test_labels"), 0, 1),
        (("x_train", "y_train"), 0, 0),
        (("x_test", "y_test"), 0, 0),
    ],
)
def test_an_npz_file_gives_the_part_asked_for(tmp_path: Path, names: tuple[str, ...], train: int, test: int) -> None:
    """Its only images, or those to train on and those to test with, each with its labels."""
    pairs = [(PIXELS[: 3 + place], np.arange(3 + place)) for place in range(len(names) // 2)]
    np.savez(tmp_path / "x.npz", **dict(zip(names, (array for pair in pairs for array in pair), strict=True)))
    for part, place in (("train", train), ("test", test)):
        read = read_npz(tmp_path / "x.npz", part=part)  # type: ignore[arg-type] # one of the two
        assert np.array_equal(read.images, pairs[place][0])
        assert read.labels is not None
        assert read.labels.tolist() == list(range(3 + place))
        assert count_npz_images(tmp_path / "x.npz", part=part) == 3 + place  # type: ignore[arg-type] # the same
    assert holds_both_parts(tmp_path / "x.npz") == (len(names) == 4)


def test_an_npz_file_is_refused_before_it_is_unpacked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Too large, pickled, of other names, or no npz file at all."""
    path = tmp_path / "x.npz"

    def refusal() -> str:
        with pytest.raises(DataSetUnavailable) as refused:
            read_npz(path)
        assert str(path) in str(refused.value)
        return str(refused.value)

    np.savez(path, pictures=PIXELS)
    assert "none of its arrays (pictures) is called images, x, data" in refusal()
    np.savez(path, images=np.array([{}], object))
    assert "no .npz file of plain numbers" in refusal()
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("images", b"no array")
    assert "(it has none)" in refusal()
    path.write_bytes(b"PK\x03\x04")
    assert "no .npz file of plain numbers" in refusal()
    np.savez_compressed(path, images=np.zeros(10_000, np.uint8))
    monkeypatch.setattr(arrays, "MAX_UNPACKED_BYTES", 9_999)
    assert "is over 9999 bytes" in refusal()


@any_file
@given(st.data())
def test_a_damaged_array_file_is_read_or_refused(tmp_path: Path, data: st.DataObject) -> None:
    """Whichever bytes of an npy or npz file are wrong or missing: an array or a sentence, never another error."""
    kind = data.draw(st.sampled_from(["npy", "npz"]))
    file = io.BytesIO()
    np.save(file, PIXELS) if kind == "npy" else np.savez_compressed(file, images=PIXELS, labels=np.arange(5))
    whole = bytearray(file.getvalue())
    for place in data.draw(st.lists(st.integers(0, len(whole) - 1), min_size=1, max_size=4)):
        whole[place] ^= data.draw(st.integers(1, 255))
    path = tmp_path / f"x.{kind}"
    path.write_bytes(whole[: data.draw(st.integers(0, len(whole)))])
    try:
        read_npy(path) if kind == "npy" else read_npz(path)
    except DataSetUnavailable as error:
        assert str(path) in str(error)  # noqa: PT017 - either way is right


@pytest.mark.parametrize("header", ["{'descr': (), 'fortran_order': False, 'shape': (1, 2, 2)}", 9_000 * "-" + "1"])
def test_a_header_that_is_no_array_is_refused(tmp_path: Path, header: str) -> None:
    """Whatever numpy, or Python's parser of literals, makes of it."""
    path = tmp_path / "x.npy"
    path.write_bytes(b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header.encode() + b"1234")
    for read in (read_npy, lambda each: open_image_array(each, "npy")):
        with pytest.raises(DataSetUnavailable, match=r"is no "):
            read(path)


@pytest.mark.parametrize(
    ("shape", "words"),
    [("(0, 4294967295, 4294967295, 4294967295)", "too big"), (f"({2**63}, 2, 2)", "no file can hold")],
)
def test_a_shape_that_no_array_has_is_refused(tmp_path: Path, shape: str, words: str) -> None:
    """Sides that are too long together, though there are no images; more images than Python counts."""
    header = f"{{'descr': '<f4', 'fortran_order': False, 'shape': {shape}}}"
    path = tmp_path / "x.npz"
    with zipfile.ZipFile(path, "w") as archive:
        packed = b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header.encode()
        archive.writestr("images.npy", packed)
    with pytest.raises(DataSetUnavailable, match=words):
        open_image_array(path, "npz")


def test_an_archive_under_the_name_of_an_array_is_refused(tmp_path: Path) -> None:
    """A zip file called .npy, which numpy would open as something else."""
    with zipfile.ZipFile(tmp_path / "x.npy", "w") as archive:
        archive.writestr("images.npy", b"")
    with pytest.raises(DataSetUnavailable, match=r"no \.npy file"):
        read_npy(tmp_path / "x.npy")


@pytest.mark.parametrize("dtype", [np.int8, np.uint16, np.int64, np.float16, np.float32, np.float64, ">i4"])
def test_whole_numbers_of_any_type_are_pixels(dtype: str) -> None:
    """From 0 to 255, unchanged."""
    numbers = np.minimum(PIXELS, 127).astype(dtype)
    assert np.array_equal(as_pixels(numbers, name="x"), np.minimum(PIXELS, 127))


@pytest.mark.parametrize(
    ("array", "words"),
    [
        (np.array([[0, 5], [256, 9]]), "it holds int64, and 256 at [1, 0]"),
        (np.array([[0, -1]]), "it holds int64, and -1 at [0, 1]"),
        (np.array([[7.0, np.nan]]), "it holds float64, and nan at [0, 1]"),
        (np.array([[7.0, 7.5]]), "and 7.5 at [0, 1]"),
        (np.array([[np.inf, 1.0]]), "and inf at [0, 0]"),
        (np.array([[0.0, 0.5], [1.0, 0.25]]), "from 0.0 to 1.0; multiply by 255 and round first"),
        (np.array([[0.0, 1.0]]), "multiply by 255"),
        (np.array([[True, False]]), "it holds bool"),
        (np.array([["a"]]), "it holds <U1"),
        (np.array([[1 + 2j]]), "it holds complex128"),
    ],
)
def test_what_is_no_pixel_is_named_with_its_place(array: NDArray[np.generic], words: str) -> None:
    """Type, value and place, and what to do about scaled pixels."""
    with pytest.raises(DataSetUnavailable) as refused:
        as_pixels(array, name="x.npy")
    assert str(refused.value).startswith("x.npy must hold integers from 0 to 255; ")
    assert words in str(refused.value)


def test_a_place_is_counted_from_the_arrays_beginning(monkeypatch: pytest.MonkeyPatch) -> None:
    """However many elements are looked at together."""
    monkeypatch.setattr("handoff.image_files.pixels._BLOCK_ELEMENTS", 32)
    numbers = PIXELS.astype(np.int64)
    numbers[4, 2, 1] = 999
    with pytest.raises(DataSetUnavailable, match=r"999 at \[4, 2, 1\]"):
        as_pixels(numbers, name="x")


def test_flat_rows_become_images_of_the_shape_given() -> None:
    """And are refused where their length is another, or no shape is given."""
    flat = PIXELS.reshape(5, 16)
    assert np.array_equal(as_images(flat, name="x", shape=(4, 4, 1))[..., 0], PIXELS)
    with pytest.raises(DataSetUnavailable, match="rows of 16 numbers, images of 5x5x1 need 25"):
        as_images(flat, name="x", shape=(5, 5, 1))
    with pytest.raises(DataSetUnavailable, match=r"flat rows need their --shape"):
        as_images(flat, name="x")


@pytest.mark.parametrize(
    ("shape", "words"),
    [
        ((28, 28, 2), "1 or 3 channels."),
        ((3, 32, 32), "channels come last"),
        ((4097, 1, 1), "1 to 4096 pixels"),
        ((0, 5, 1), "1 to 4096 pixels"),
    ],
)
def test_shapes_that_no_model_has_are_refused(shape: tuple[int, int, int], words: str) -> None:
    """Sides up to 4096, one channel or three, in that order."""
    check_shape((4096, 1, 3), name="x")
    with pytest.raises(DataSetUnavailable, match=words):
        check_shape(shape, name="x")


def test_shapes_are_guessed_where_they_are_square() -> None:
    """Gray before colour; nothing else is guessed."""
    assert [guess_shape(count) for count in (784, 3072, 12, 7, 0)] == [(28, 28, 1), (32, 32, 3), (2, 2, 3), None, None]


@pytest.mark.parametrize(
    ("name", "content", "labels"),
    [
        ("y.txt", b"Bag\nCoat\nBag\n", ["Bag", "Coat", "Bag"]),
        ("y.csv", b"label\n3\n1\n", ["3", "1"]),
        ("y.csv", b'id,Label\n0,a\n1,"b,c"\n', ["a", "b,c"]),
        ("y.csv.gz", gzip.compress(b"\xef\xbb\xbflabel,id\r\n7,0\r\n", mtime=0), ["7"]),
        ("y-idx1-ubyte.gz", encode_idx(np.array([4, 2], np.uint8)), ["4", "2"]),
    ],
)
def test_labels_lie_in_files_of_many_kinds(tmp_path: Path, name: str, content: bytes, labels: list[str]) -> None:
    """One a line, a column, or an array."""
    (tmp_path / name).write_bytes(content)
    assert read_labels(tmp_path / name) == labels


@pytest.mark.parametrize(
    ("array", "labels"),
    [
        (np.array([3, -1]), ["3", "-1"]),
        (np.array([[3], [1]], np.uint8), ["3", "1"]),
        (np.array([3.0, 1.0], np.float32), ["3", "1"]),
        (np.array([True, False]), ["1", "0"]),
        (np.array(["Bag", "Coat"]), ["Bag", "Coat"]),
    ],
)
def test_arrays_of_labels_are_read(array: NDArray[np.generic], labels: list[str]) -> None:
    """Numbers as their digits, text as it is."""
    assert labels_of(array, name="y") == labels


@pytest.mark.parametrize(
    ("array", "words"),
    [
        (np.eye(3), r"one label an image, \(N,\); its shape is \(3, 3\)"),
        (np.array([0.5, 1]), "fractions or NaN"),
        (np.array([np.nan, 1]), "fractions or NaN"),
        (np.array([b"a"]), r"it holds \|S1"),
    ],
)
def test_arrays_that_are_no_labels_are_refused(array: NDArray[np.generic], words: str) -> None:
    """One-hot rows, fractions and bytes of an unknown encoding."""
    with pytest.raises(DataSetUnavailable, match=words):
        labels_of(array, name="y")


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("y.csv", b"", "is empty"),
        ("y.csv", b"id,class\n1,2\n", "no column 'label' among id, class; name it with --label-column"),
        ("y.csv", b"id,label\n1\n", "line 2: 1 cells, the first line has 2"),
        ("y.txt", b"a\n\nb\n", "line 2: 0 cells"),
        ("y.png", b"", "holds no labels alone"),
        ("y.txt", b"\xff\xfe", "cannot be read as CSV"),
    ],
)
def test_files_that_are_no_labels_are_refused(tmp_path: Path, name: str, content: bytes, words: str) -> None:
    """One sentence with the file's path."""
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataSetUnavailable) as refused:
        read_labels(tmp_path / name)
    assert words in str(refused.value)
    assert str(tmp_path / name) in str(refused.value)


def test_hidden_pictures_are_no_pictures(tmp_path: Path) -> None:
    """What operating systems and notebooks leave behind is not shown to people either."""
    for name in ("a/1.png", "a/._1.png", "a/.ipynb_checkpoints/1.png", "a/b/2.JPG", "a/notes.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True, parents=True)
        (tmp_path / name).touch()
    assert find_pictures(tmp_path) == [tmp_path / "a/1.png", tmp_path / "a/b/2.JPG"]


def test_transparency_lies_on_white(tmp_path: Path) -> None:
    """What is drawn in black on nothing stays visible; gray stays gray."""
    Picture.new("RGBA", (1, 1), (0, 0, 0, 0)).save(tmp_path / "rgba.png")
    Picture.new("LA", (1, 1), (0, 0)).save(tmp_path / "la.png")
    palette = Picture.new("P", (1, 1), 0)
    palette.save(tmp_path / "p.png", transparency=0)
    assert read_picture(tmp_path / "rgba.png").tolist() == [[[255, 255, 255]]]
    assert read_picture(tmp_path / "la.png").tolist() == [[[255]]]
    assert read_picture(tmp_path / "p.png").tolist() == [[[255, 255, 255]]]


@pytest.mark.parametrize("orientation", range(1, 9))
def test_pictures_are_turned_as_their_camera_says(tmp_path: Path, orientation: int) -> None:
    """As Pillow itself turns them."""
    from PIL import ImageOps

    picture = Picture.fromarray(RNG.integers(0, 256, (8, 16, 3), np.uint8))
    exif = Picture.Exif()
    exif[0x0112] = orientation
    picture.save(tmp_path / "x.jpg", exif=exif)
    with Picture.open(tmp_path / "x.jpg") as saved:
        turned = np.asarray(ImageOps.exif_transpose(saved))
    assert np.array_equal(read_picture(tmp_path / "x.jpg"), turned)


def test_pictures_are_resized_and_recoloured(tmp_path: Path) -> None:
    """To height and width, and to gray or RGB where that is wanted."""
    Picture.new("RGB", (640, 480), (10, 20, 30)).save(tmp_path / "x.jpg")
    Picture.new("L", (5, 7), 9).save(tmp_path / "gray.png")
    read = read_picture(tmp_path / "x.jpg", size=(6, 8))
    assert read.shape == (6, 8, 3)
    assert np.abs(read.reshape(-1, 3).astype(int) - [10, 20, 30]).max() <= 2
    assert read_picture(tmp_path / "x.jpg", channels=1).shape == (480, 640, 1)
    assert read_picture(tmp_path / "gray.png", channels=3).tolist() == [[[9, 9, 9]] * 5] * 7
    assert resize(read, (3, 2)).shape == (3, 2, 3)
    assert resize(read[..., :1], (3, 2)).shape == (3, 2, 1)


def test_a_huge_picture_needs_a_size(tmp_path: Path) -> None:
    """No model takes it as it is; its sentence says what to do."""
    Picture.new("L", (4097, 2)).save(tmp_path / "x.png")
    with pytest.raises(DataSetUnavailable, match=r"is 2x4097 \(height x width\), over 4096 a side; give a --size"):
        read_picture(tmp_path / "x.png")
    assert read_picture(tmp_path / "x.png", size=(2, 2)).shape == (2, 2, 1)


def test_a_decompression_bomb_is_not_unpacked(tmp_path: Path) -> None:
    """A few bytes that become gigabytes, also where the picture is to be made small."""
    for side in (8_193, 65_000):
        row = struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0)
        chunks = [(b"IHDR", row), (b"IDAT", zlib.compress(bytes(1_000))), (b"IEND", b"")]
        packed = (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
            for kind, data in chunks
        )
        (tmp_path / "x.png").write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(packed))
        with pytest.raises(DataSetUnavailable, match="pixels"):
            read_picture(tmp_path / "x.png", size=(28, 28))


def test_other_formats_are_not_tried(tmp_path: Path) -> None:
    """A file's name does not choose a program that runs it."""
    (tmp_path / "x.png").write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 1 1\n%%EndComments\nshowpage\n")
    with pytest.raises(DataSetUnavailable, match="no picture that can be read"):
        read_picture(tmp_path / "x.png")


@any_file
@given(st.data())
def test_a_damaged_photo_is_read_or_refused(tmp_path: Path, data: st.DataObject) -> None:
    """Whichever bytes of a JPEG file with camera tags are wrong or missing: pixels or a sentence."""
    file = io.BytesIO()
    exif = Picture.Exif()
    exif[0x0112] = 6
    Picture.fromarray(PIXELS[0]).save(file, "JPEG", exif=exif)
    whole = bytearray(file.getvalue())
    for place in data.draw(st.lists(st.integers(0, len(whole) - 1), max_size=4)):
        whole[place] ^= data.draw(st.integers(1, 255))
    path = tmp_path / "x.jpg"
    path.write_bytes(whole[: data.draw(st.integers(0, len(whole)))])
    try:
        assert read_picture(path, size=(4, 4)).shape[:2] == (4, 4)
    except DataSetUnavailable as error:
        assert str(error).startswith(f"{path} ")  # noqa: PT017 - either way is right
        assert "\n" not in str(error)  # noqa: PT017


def test_kinds_are_told_by_name(tmp_path: Path) -> None:
    """Upper or lower case, compressed or not."""
    names = {
        "a.NPY": "npy",
        "a.npz": "npz",
        "a.CSV.gz": "csv",
        "a.txt": "csv",
        "t10k-images-idx3-ubyte": "idx",
        "b-ubyte.gz": "idx",
        "a.JPEG": "picture",
    }
    for name, kind in names.items():
        (tmp_path / name).touch()
        assert kind_of(tmp_path / name) == kind
    assert kind_of(tmp_path) == "folder"


def test_sizes_and_shapes_are_read_from_text() -> None:
    """Height first; without channels an image is gray; all else is refused."""
    assert Size().convert("28X30", None, None) == (28, 30)
    assert Shape().convert("28x30", None, None) == (28, 30, 1)
    assert Shape().convert("28x30x3", None, None) == (28, 30, 3)
    for kind, text in ((Size(), "28"), (Size(), "28x28x1"), (Size(), "0x5"), (Size(), "5000x5"), (Shape(), "4x4x2")):
        with pytest.raises(click.BadParameter, match=text):
            kind.convert(text, None, None)
