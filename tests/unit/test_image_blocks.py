"""Files of images read a block at a time, from any place in them."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as Picture

from fashion_client.image_blocks import Reading, read_file
from handoff.contracts.errors import DataSetUnavailable
from handoff.contracts.idx import encode_idx
from handoff.image_files import blocks
from handoff.image_files.blocks import open_image_array
from handoff.image_files.kinds import kind_of

IMAGES = np.arange(10 * 2 * 2, dtype=np.uint8).reshape(10, 2, 2)


def write_all(folder: Path) -> list[Path]:
    """The same ten images in every kind of array file."""
    packed = encode_idx(IMAGES)
    (folder / "a.idx.gz").write_bytes(packed)
    (folder / "a-idx3-ubyte").write_bytes(gzip.decompress(packed))
    np.save(folder / "a.npy", IMAGES)
    np.save(folder / "wide.npy", IMAGES.astype(">i4"))
    np.save(folder / "float.npy", IMAGES.astype(np.float64)[..., None])
    np.save(folder / "fortran.npy", np.asfortranarray(IMAGES))
    np.savez(folder / "a.npz", x_train=np.zeros((3, 2, 2)), x_test=IMAGES)
    np.savez_compressed(folder / "packed.npz", images=IMAGES)
    np.savez_compressed(folder / "fortran.npz", images=np.asfortranarray(IMAGES))
    return sorted(folder.iterdir())


@pytest.mark.parametrize("start", [0, 3, 9, 10, 11])
def test_every_kind_gives_the_same_images_from_any_place(tmp_path: Path, start: int) -> None:
    """In blocks of at most four."""
    for path in write_all(tmp_path):
        array = open_image_array(path, kind_of(path))
        assert len(array) == len(IMAGES), path
        found = list(array.blocks(start=start, most=4))
        assert all(1 <= len(block) <= 4 and block.dtype == np.uint8 for block in found), path
        joined = np.concatenate([np.empty((0, 2, 2, 1), np.uint8), *found])
        assert np.array_equal(joined[..., 0], IMAGES[start:]), path


def test_a_block_takes_no_more_than_its_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many images were asked for at a time."""
    monkeypatch.setattr(blocks, "MAX_BLOCK_BYTES", 9)
    for path in write_all(tmp_path):
        array = open_image_array(path, kind_of(path))
        most = max(1, 9 // (4 * array.dtype.itemsize))
        assert [len(block) for block in array.blocks(most=1000)] == [most] * (10 // most), path


@pytest.mark.parametrize("name", ["a.idx.gz", "a-idx3-ubyte", "a.npy", "packed.npz"])
@pytest.mark.parametrize("change", ["shorter", "longer", "other"])
def test_a_broken_file_is_a_sentence(tmp_path: Path, name: str, change: str) -> None:
    """Cut off, gone on, or of something else: never an error of numpy, gzip or zipfile."""
    write_all(tmp_path)
    path = tmp_path / name
    data = path.read_bytes()
    path.write_bytes({"shorter": data[:-7], "longer": data + b"more bytes", "other": b"none of these"}[change])
    if (name, change) == ("packed.npz", "longer"):  # zip files may carry a comment
        return
    with pytest.raises(DataSetUnavailable, match=name):
        list(open_image_array(path, kind_of(path)).blocks(most=3))


@pytest.mark.parametrize(
    ("array", "said"),
    [
        (np.zeros((3, 4)), r"\(N, H, W\)"),
        (np.zeros(3, np.uint8), r"\(N, H, W\)"),
        (np.array(3), "no array of plain numbers"),
        (np.zeros((3, 2, 0), np.uint8), "without pixels"),
        (np.array([["a"]]), "must hold"),
        (np.array([[[[0.5]]]]), "multiply by 255"),
    ],
)
def test_what_is_no_images_is_refused(tmp_path: Path, array: np.ndarray, said: str) -> None:
    """Flat rows, numbers, text, scaled floats."""
    np.save(tmp_path / "x.npy", array)
    with pytest.raises(DataSetUnavailable, match=said):
        list(open_image_array(tmp_path / "x.npy", "npy").blocks(most=3))


def test_a_bad_pixel_is_named_by_its_place_in_the_file(tmp_path: Path) -> None:
    """Not by its place in a block; black images in floats are no scaled ones."""
    array = np.zeros((9, 1, 2))
    array[0, 0, 0], array[7, 0, 1] = 200, -3
    np.save(tmp_path / "x.npy", array)
    found = open_image_array(tmp_path / "x.npy", "npy").blocks(most=3)
    assert [len(next(found)), len(next(found))] == [3, 3]
    with pytest.raises(DataSetUnavailable, match=r"-3.0 at \[7, 0, 1\]"):
        next(found)


def test_labels_come_with_rows_and_from_folders(tmp_path: Path) -> None:
    """From any place; none where no picture lies in a sub-folder. Pictures of one block have one shape."""
    (tmp_path / "x.csv").write_text("label,pixel_0\n" + "".join(f"l{n},{n}\n" for n in range(90)), encoding="utf-8")
    found = list(read_file(tmp_path / "x.csv", Reading(), start=70, most=9))
    assert [label for block in found for label in block.labels or []] == [f"l{n}" for n in range(70, 90)]
    (tmp_path / "in" / "Bag").mkdir(parents=True)
    for name, side in (("Bag/1.png", 2), ("Bag/2.png", 3), ("z.png", 3)):
        Picture.new("L", (side, side)).save(tmp_path / "in" / name)
    blocks = list(read_file(tmp_path / "in", Reading(), start=0, most=9))
    assert [(block.pixels.shape[1], block.labels) for block in blocks] == [(2, ["Bag"]), (3, ["Bag", ""])]
    (flat,) = read_file(tmp_path / "in" / "Bag", Reading(size=(2, 2)), start=0, most=9)
    assert (flat.labels, flat.pixels.shape) == (None, (2, 2, 2, 1))


def test_rows_have_the_shape_that_is_named(tmp_path: Path) -> None:
    """Else that of a square, else one row; before they are resized."""
    (tmp_path / "x.csv").write_text("pixel_0,pixel_1\n7,8\n", encoding="utf-8")
    for reading, shape in ((Reading(), (1, 2, 1)), (Reading(shape=(2, 1, 1)), (2, 1, 1))):
        (block,) = read_file(tmp_path / "x.csv", reading, start=0, most=9)
        assert block.pixels.shape[1:] == shape
    (block,) = read_file(tmp_path / "x.csv", Reading(size=(4, 1), shape=(2, 1, 1)), start=0, most=9)
    assert block.pixels.shape == (1, 4, 1, 1)
    with pytest.raises(DataSetUnavailable, match="images of 2 pixels, which are no 3x1x1"):
        list(read_file(tmp_path / "x.csv", Reading(shape=(3, 1, 1)), start=0, most=9))


def test_rows_and_pictures_are_read_from_any_place(tmp_path: Path) -> None:
    """CSV rows with their ids, pictures by name; each resized where that is asked for."""
    (tmp_path / "x.csv").write_text("image_id,pixel_0\n" + "".join(f"i{n},{n}\n" for n in range(200)), encoding="utf-8")
    found = list(read_file(tmp_path / "x.csv", Reading(size=(2, 3)), start=130, most=9))
    assert [name for block in found for name in block.image_ids or []] == [f"i{n}" for n in range(130, 200)]
    assert {block.pixels.shape[1:] for block in found} == {(2, 3, 1)}
    for number in range(20):
        Picture.new("L", (2, 2), number).save(tmp_path / f"{number:02}.png")
    (block,) = read_file(tmp_path, Reading(channels=3), start=18, most=9)
    assert (block.image_ids, block.pixels[:, 0, 0, 0].tolist()) == (["18.png", "19.png"], [18, 19])
    (one,) = read_file(tmp_path / "07.png", Reading(), start=0, most=9)
    assert (one.image_ids, one.pixels.shape) == (["07.png"], (1, 2, 2, 1))
