"""Images from every kind of file that users have, and a sentence for those that cannot be read."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as Picture

from fashion_client.sources import SAMPLE_IMAGES, SAMPLE_LABELS, Image, batches, count_images, read_images
from handoff.contracts.errors import DataSetUnavailable
from handoff.contracts.idx import encode_idx

RNG = np.random.default_rng(5)
PIXELS = RNG.integers(0, 256, (3, 4, 4), np.uint8)


def read(path: Path, labels: Path | None = None) -> list[Image]:
    """Every image of a file or folder."""
    return list(read_images(path, labels=labels))


def refusal(path: Path, labels: Path | None = None) -> str:
    """The sentence that names an unusable file."""
    with pytest.raises(DataSetUnavailable) as refused:
        read(path, labels)
    assert "\n" not in str(refused.value)
    return str(refused.value)


def kaggle_csv(labels: list[str], images: np.ndarray) -> str:
    """A CSV file as Fashion-MNIST has on Kaggle: `label`, then pixels that count from 1."""
    header = "label," + ",".join(f"pixel{number}" for number in range(1, images[0].size + 1))
    rows = [f"{label}," + ",".join(map(str, image.ravel())) for label, image in zip(labels, images, strict=True)]
    return "\n".join([header, *rows]) + "\n"


@pytest.mark.parametrize("name", ["x-images-idx3-ubyte.gz", "x-images-idx3-ubyte", "images.idx3-ubyte.gz"])
def test_idx_files_are_read_with_their_labels(tmp_path: Path, name: str) -> None:
    """Compressed or not, under the names that are usual."""
    raw = encode_idx(PIXELS)
    (tmp_path / name).write_bytes(raw if name.endswith(".gz") else gzip.decompress(raw))
    labels = tmp_path / "labels-idx1-ubyte.gz"
    labels.write_bytes(encode_idx(np.array([3, 1, 2], np.uint8)))
    images = read(tmp_path / name, labels)
    assert np.array_equal(np.stack([image.pixels for image in images])[..., 0], PIXELS)
    assert [image.label for image in images] == ["3", "1", "2"]
    assert len({image.image_id for image in images}) == 3


def test_the_sample_is_read() -> None:
    """A thousand images, each with a label."""
    images = read(SAMPLE_IMAGES, SAMPLE_LABELS)
    assert len(images) == 1000
    assert {image.pixels.shape for image in images} == {(28, 28, 1)}
    assert {image.label for image in images} == set("0123456789")


def test_kaggles_csv_is_read(tmp_path: Path) -> None:
    """Square images come of the pixel columns, whatever their numbering begins with."""
    path = tmp_path / "fashion-mnist_test.csv"
    path.write_text(kaggle_csv(["7", "0", "2"], PIXELS), encoding="utf-8")
    images = read(path)
    assert [image.label for image in images] == ["7", "0", "2"]
    assert [image.image_id for image in images] == [f"fashion-mnist_test-{number}" for number in range(3)]
    assert np.array_equal(np.stack([image.pixels for image in images])[..., 0], PIXELS)


def test_our_own_csv_is_read(tmp_path: Path) -> None:
    """Ids and labels come from their columns; a byte order mark, as spreadsheets write it, is no part of a name."""
    path = tmp_path / "own.csv"
    path.write_text(
        "\ufeffimage_id,label,pixel_0,pixel_1,pixel_2,pixel_3\na,Bag,1,2,3,4\nb,,5,6,7,8\n", encoding="utf-8"
    )
    first, second = read(path)
    assert (first.image_id, first.label, first.pixels[..., 0].tolist()) == ("a", "Bag", [[1, 2], [3, 4]])
    assert (second.image_id, second.label) == ("b", "")


@pytest.mark.parametrize(("count", "shape"), [(12, (2, 2, 3)), (9, (3, 3, 1)), (6, (1, 6, 1))])
def test_a_csv_rows_shape_is_guessed(tmp_path: Path, count: int, shape: tuple[int, int, int]) -> None:
    """Square gray, else square RGB, else a row; a CSV request carries no shape."""
    path = tmp_path / "x.csv"
    path.write_text(",".join(f"pixel{n}" for n in range(count)) + "\n" + ",".join(["1"] * count), encoding="utf-8")
    assert read(path)[0].pixels.shape == shape


@pytest.mark.parametrize("dtype", [np.uint8, np.int64])
def test_npy_files_are_read(tmp_path: Path, dtype: type) -> None:
    """Any integers from 0 to 255 will do, with or without a channel axis."""
    np.save(tmp_path / "gray.npy", PIXELS.astype(dtype))
    np.save(tmp_path / "rgb.npy", np.zeros((2, 4, 4, 3), dtype))
    np.save(tmp_path / "labels.npy", np.array([1, 0, 1]))
    images = read(tmp_path / "gray.npy", tmp_path / "labels.npy")
    assert np.array_equal(np.stack([image.pixels for image in images])[..., 0], PIXELS)
    assert images[0].pixels.dtype == np.uint8
    assert [image.label for image in images] == ["1", "0", "1"]
    assert read(tmp_path / "rgb.npy")[0].pixels.shape == (4, 4, 3)


def test_a_folder_of_pictures_is_read_with_its_labels(tmp_path: Path) -> None:
    """The folder right above a picture is its label; gray stays gray, colour becomes RGB; the order is the names'."""
    for name in ("Bag", "Coat"):
        (tmp_path / name).mkdir()
    Picture.fromarray(PIXELS[0]).save(tmp_path / "Bag" / "b.png")
    Picture.fromarray(PIXELS[1]).save(tmp_path / "Bag" / "a.png")
    Picture.new("RGBA", (4, 4), (9, 8, 7, 255)).save(tmp_path / "Coat" / "c.PNG")
    Picture.new("L", (4, 4), 5).save(tmp_path / "d.jpg")
    (tmp_path / "notes.txt").write_text("no picture", encoding="utf-8")
    images = read(tmp_path)
    assert [(image.image_id, image.label) for image in images] == [
        ("Bag/a.png", "Bag"),
        ("Bag/b.png", "Bag"),
        ("Coat/c.PNG", "Coat"),
        ("d.jpg", ""),
    ]
    assert np.array_equal(images[0].pixels[..., 0], PIXELS[1])
    assert images[2].pixels.tolist() == [[[9, 8, 7]] * 4] * 4
    assert images[3].pixels.shape == (4, 4, 1)


def test_one_picture_is_read(tmp_path: Path) -> None:
    """A single file is a batch of one."""
    Picture.fromarray(PIXELS[0]).save(tmp_path / "one.png")
    (image,) = read(tmp_path / "one.png")
    assert (image.image_id, image.label) == ("one.png", "")


def test_images_are_joined_to_batches() -> None:
    """All but the last are full; labels are there where any image has one."""
    images = [Image(PIXELS[k % 3][..., np.newaxis], f"i{k}", "7" if k == 4 else "") for k in range(5)]
    made = list(batches(images, size=2))
    assert [batch.image_ids for batch in made] == [["i0", "i1"], ["i2", "i3"], ["i4"]]
    assert [batch.labels for batch in made] == [None, None, ["7"]]
    assert np.array_equal(made[1].images[0], images[2].pixels)


def test_images_of_different_sizes_are_refused() -> None:
    """The two that differ are named with their sizes."""
    images = [Image(np.zeros((4, 4, 1), np.uint8), "a"), Image(np.zeros((4, 5, 1), np.uint8), "b")]
    with pytest.raises(DataSetUnavailable, match=r"image b is 4x5x1, a is 4x4x1; make all images the same size"):
        list(batches(images, size=9))


def test_images_are_read_one_after_another(tmp_path: Path) -> None:
    """A file that is broken in its third row gives the first two before it is refused."""
    path = tmp_path / "long.csv"
    path.write_text(kaggle_csv(["1", "2", "3"], PIXELS).replace("\n3,", "\n3,x"), encoding="utf-8")
    images = read_images(path)
    assert [next(images).label, next(images).label] == ["1", "2"]
    with pytest.raises(DataSetUnavailable, match="row 3: every pixel must be an integer"):
        next(images)


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("x.pdf", b"%PDF", "no idx, .csv, .npy, .npz, .png or .jpg file"),
        ("x.csv", b"", "no header with columns pixel_0"),
        ("x.csv", b"a,b\n1,2\n", "no header with columns pixel_0"),
        ("x.csv", b"pixel0\n256\n", "row 1: every pixel must be an integer from 0 to 255"),
        ("x.csv", b"pixel0\n-1\n", "row 1: every pixel"),
        ("x.csv", b"pixel0\n1\n\n", "row 2: every pixel"),
        ("x.csv", b"pixel0,pixel1\n1\n", "row 1: every pixel"),
        ("x.csv", b"pixel0,pixel1,pixel2\n1,99999999999999999999999,-1\n", "row 1: every pixel"),
        ("x.csv", b"pixel0\n\xff\n", "cannot be read as CSV"),
        ("x.npy", b"", "no .npy file"),
        ("x.npy", b"\x93NUMPY\x01\x00v\x00{'descr': '|O'", "no .npy file"),
        ("x-idx3-ubyte", b"\x00\x00\x08\x03\x00", "ends within its IDX header"),
        ("x-idx3-ubyte.gz", b"\x1f\x8b\x08\x00", "cut off"),
        ("x.png", b"no picture", "no picture that can be read"),
        ("x.jpeg", b"", "no picture that can be read"),
    ],
)
def test_what_cannot_be_read_is_named(tmp_path: Path, name: str, content: bytes, words: str) -> None:
    """One sentence with the file's path, and the row where there are rows."""
    path = tmp_path / name
    path.write_bytes(content)
    sentence = refusal(path)
    assert str(path) in sentence
    assert words in sentence


@pytest.mark.parametrize("damage", range(8, 90))
def test_a_damaged_picture_is_named(tmp_path: Path, damage: int) -> None:
    """Whichever byte of the file is wrong or the last: a sentence, or a picture, never another error."""
    path = tmp_path / "x.png"
    Picture.fromarray(PIXELS[0]).save(path)
    whole = path.read_bytes()
    at = damage % len(whole)
    for broken in (whole[:at], whole[:at] + bytes([whole[at] ^ 0xFF]) + whole[at + 1 :]):
        path.write_bytes(broken)
        try:
            (image,) = read(path)
            assert image.pixels.dtype == np.uint8
        except DataSetUnavailable as error:
            assert str(path) in str(error)  # noqa: PT017 - either way is right


def test_floats_in_npy_are_refused(tmp_path: Path) -> None:
    """Scaled pixels would be silently black."""
    np.save(tmp_path / "x.npy", PIXELS / 255)
    assert "integers from 0 to 255; it holds float64" in refusal(tmp_path / "x.npy")
    np.save(tmp_path / "y.npy", PIXELS.astype(np.int64) - 1000)
    assert "integers from 0 to 255" in refusal(tmp_path / "y.npy")


def test_an_array_that_is_no_images_is_refused(tmp_path: Path) -> None:
    """Flat rows, or one image alone, need their shape first."""
    for shape in ((5,), (2, 784), (1, 2, 3, 4, 5)):
        np.save(tmp_path / "x.npy", np.zeros(shape, np.uint8))
        assert "(N, H, W)" in refusal(tmp_path / "x.npy")


def test_an_object_array_runs_no_code(tmp_path: Path) -> None:
    """Pickled objects are refused unread."""
    np.save(tmp_path / "x.npy", np.array([{"a": 1}], object), allow_pickle=True)
    assert "no .npy file of plain numbers" in refusal(tmp_path / "x.npy")


def test_labels_that_do_not_belong_are_refused(tmp_path: Path) -> None:
    """Another number of labels than images, or a missing file."""
    np.save(tmp_path / "x.npy", PIXELS)
    np.save(tmp_path / "labels.npy", np.array([1, 2]))
    assert "labels for 3 images" in refusal(tmp_path / "x.npy", tmp_path / "labels.npy")
    assert "cannot be read" in refusal(tmp_path / "x.npy", tmp_path / "none-idx1-ubyte")


def test_nothing_there_is_said(tmp_path: Path) -> None:
    """Neither a missing path nor an empty folder passes as no images."""
    assert "no file or folder" in refusal(tmp_path / "none")
    assert "holds no .png or .jpg files" in refusal(tmp_path)


def test_a_compressed_csv_file_is_read(tmp_path: Path) -> None:
    """What a service stores compressed, its client reads compressed."""
    path = tmp_path / "batch.csv.gz"
    path.write_bytes(gzip.compress(b"label,pixel_0,pixel_1,pixel_2,pixel_3\n7,1,2,3,255\n"))
    (image,) = read_images(path)
    assert (image.label, image.pixels.reshape(-1).tolist()) == ("7", [1, 2, 3, 255])


def test_sixteen_bit_gray_is_scaled_to_eight(tmp_path: Path) -> None:
    """The upper byte is what is left of a 16-bit pixel, rather than white for everything above 255."""
    path = tmp_path / "deep.png"
    Picture.fromarray(np.array([[0, 256], [32768, 65535]], np.uint16)).save(path)
    (image,) = read_images(path)
    assert image.pixels[..., 0].tolist() == [[0, 1], [128, 255]]


@pytest.mark.parametrize("name", ["batch.csv", "folder"])
def test_labels_of_a_source_that_has_its_own_are_refused(tmp_path: Path, name: str) -> None:
    """Labels that would be ignored are an error."""
    path = tmp_path / name
    path.mkdir() if name == "folder" else path.write_text("pixel_0\n1\n")
    with pytest.raises(DataSetUnavailable, match="--labels goes with idx and npy"):
        read_images(path, labels=tmp_path / "labels")


def test_npz_files_are_read(tmp_path: Path) -> None:
    """With their own labels, or with others' where they have none; of two parts the one to test with."""
    np.savez(tmp_path / "x.npz", x_train=PIXELS[:2], y_train=[8, 8], x_test=PIXELS, y_test=[[3], [1], [2]])
    np.savez(tmp_path / "bare.npz", images=PIXELS)
    np.save(tmp_path / "y.npy", np.array(["Bag", "Coat", "Bag"]))
    images = read(tmp_path / "x.npz")
    assert [(image.image_id, image.label) for image in images] == [("x-0", "3"), ("x-1", "1"), ("x-2", "2")]
    assert count_images(tmp_path / "x.npz") == 3
    assert [image.label for image in read(tmp_path / "bare.npz")] == ["", "", ""]
    assert [image.label for image in read(tmp_path / "bare.npz", tmp_path / "y.npy")] == ["Bag", "Coat", "Bag"]


def test_images_of_differing_sizes_are_resized(tmp_path: Path) -> None:
    """Photos, and images from arrays too; colour is made the same where that is asked for."""
    Picture.new("RGB", (40, 30), (1, 2, 3)).save(tmp_path / "a.png")
    Picture.new("L", (20, 50), 9).save(tmp_path / "b.png")
    sent = list(read_images(tmp_path, size=(6, 8), channels=3))
    assert [image.pixels.shape for image in sent] == [(6, 8, 3), (6, 8, 3)]
    assert [image.pixels.shape for image in read_images(tmp_path, size=(6, 8))] == [(6, 8, 3), (6, 8, 1)]
    np.save(tmp_path / "x.npy", PIXELS)
    assert [image.pixels.shape for image in read_images(tmp_path / "x.npy", size=(2, 3))] == [(2, 3, 1)] * 3


def test_gray_among_colour_names_its_remedy(tmp_path: Path) -> None:
    """Images that differ in their channels alone need no other size."""
    Picture.new("RGB", (4, 4)).save(tmp_path / "a.png")
    Picture.new("L", (4, 4)).save(tmp_path / "b.png")
    with pytest.raises(DataSetUnavailable, match=r"b\.png is 4x4x1, a\.png is 4x4x3; .*\(--channels 3 makes all RGB\)"):
        list(batches(read_images(tmp_path), size=9))


def test_images_are_counted_without_reading_them(tmp_path: Path) -> None:
    """Where that can be done: not in CSV files."""
    (tmp_path / "x-idx3-ubyte").write_bytes(gzip.decompress(encode_idx(PIXELS)))
    (tmp_path / "x.csv").write_text("pixel_0\n1\n")
    np.save(tmp_path / "x.npy", PIXELS)
    (tmp_path / "a.png").touch()
    names = ("x-idx3-ubyte", "x.csv", "x.npy", "a.png", ".")
    assert [count_images(tmp_path / name) for name in names] == [3, None, 3, 1, 1]
