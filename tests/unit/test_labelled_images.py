"""Anyone's labelled images as a split: the same from every kind of file, or a sentence why they cannot be used."""

from __future__ import annotations

import gzip
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image as Picture

from handoff.contracts.errors import DataSetUnavailable
from handoff.contracts.idx import encode_idx
from ml_model_development.code.balance import describe_balance
from ml_model_development.code.data_set import Split
from ml_model_development.code.division import divide
from ml_model_development.code.label_ids import number_labels, parse_label_names, read_label_names
from ml_model_development.code.labelled_images import LabelledImages, fit_to, read_labelled

RNG = np.random.default_rng(11)
PIXELS = RNG.integers(0, 256, (12, 4, 4), np.uint8)
IDS = np.arange(12) % 3
NAMES = ("Bag", "Coat", "Dress")


def as_idx(folder: Path) -> tuple[Path, Path | None]:
    """Two idx files."""
    (folder / "x-idx3-ubyte.gz").write_bytes(encode_idx(PIXELS))
    (folder / "y-idx1-ubyte").write_bytes(gzip.decompress(encode_idx(IDS.astype(np.uint8))))
    return folder / "x-idx3-ubyte.gz", folder / "y-idx1-ubyte"


def as_npy(folder: Path) -> tuple[Path, Path | None]:
    """Floats that hold whole numbers, and labels in a text file."""
    np.save(folder / "x.npy", PIXELS.astype(np.float32))
    (folder / "y.txt").write_text("".join(f"{label}\n" for label in IDS))
    return folder / "x.npy", folder / "y.txt"


def as_npz(folder: Path) -> tuple[Path, Path | None]:
    """One archive as Keras has them, labels in a column."""
    np.savez(folder / "x.npz", x_train=PIXELS, y_train=IDS[:, np.newaxis], x_test=PIXELS[:3], y_test=IDS[:3])
    return folder / "x.npz", None


def as_csv(folder: Path) -> tuple[Path, Path | None]:
    """Kaggle's layout."""
    header = "label," + ",".join(f"pixel{number}" for number in range(1, 17))
    rows = [f"{label}," + ",".join(map(str, image.ravel())) for label, image in zip(IDS, PIXELS, strict=True)]
    (folder / "x.csv").write_text("\n".join([header, *rows]) + "\n")
    return folder / "x.csv", None


def as_unlabelled_csv(folder: Path) -> tuple[Path, Path | None]:
    """Pixels alone, and a column of labels elsewhere."""
    path, _ = as_csv(folder)
    path.write_text("\n".join(line.partition(",")[2] for line in path.read_text().splitlines()))
    (folder / "y.csv").write_text("id,label\n" + "".join(f"{n},{label}\n" for n, label in enumerate(IDS)))
    return path, folder / "y.csv"


def as_pictures(folder: Path) -> tuple[Path, Path | None]:
    """A folder of PNG files, in the order of their labels."""
    for place, (label, image) in enumerate(zip(IDS, PIXELS, strict=True)):
        (folder / "pictures" / str(label)).mkdir(parents=True, exist_ok=True)
        Picture.fromarray(image).save(folder / "pictures" / str(label) / f"{place:02}.png")
    return folder / "pictures", None


Write = Callable[[Path], tuple[Path, Path | None]]
every_kind = pytest.mark.parametrize("write", [as_idx, as_npy, as_npz, as_csv, as_unlabelled_csv, as_pictures])


def refusal(images: Path, labels: Path | None = None, **options: object) -> str:
    """The sentence that names what cannot be trained on."""
    with pytest.raises(DataSetUnavailable) as refused:
        read_labelled(images, labels, **options)  # type: ignore[arg-type] # as each test gives them
    assert "\n" not in str(refused.value)
    return str(refused.value)


@every_kind
def test_every_kind_of_file_gives_the_same_split(tmp_path: Path, write: Write) -> None:
    """Equal pixels, types, ids and names; pictures in the order of their folders."""
    read = read_labelled(*write(tmp_path))
    order = np.argsort(IDS, kind="stable") if write is as_pictures else np.arange(12)
    assert read.split.images.dtype == np.uint8
    assert read.split.labels.dtype == np.int64
    assert np.array_equal(read.split.images[..., 0], PIXELS[order])
    assert np.array_equal(read.split.labels, IDS[order])
    assert read.labels == ("0", "1", "2")
    assert read.shape == (4, 4, 1)
    assert read.source.startswith(str(tmp_path))


@every_kind
def test_names_are_given_by_id(tmp_path: Path, write: Write) -> None:
    """Whatever says the label's number, `label_names` says its name."""
    assert read_labelled(*write(tmp_path), label_names=NAMES).labels == NAMES


@every_kind
def test_every_kind_of_file_is_resized(tmp_path: Path, write: Write) -> None:
    """To height and width."""
    assert read_labelled(*write(tmp_path), size=(6, 5)).split.images.shape == (12, 6, 5, 1)


def test_an_npz_file_may_name_its_labels(tmp_path: Path) -> None:
    """Beside its images, for readers that give no names of their own; both parts are there to choose from."""
    np.savez(tmp_path / "x.npz", images=PIXELS, labels=IDS, label_names=np.array(NAMES))
    assert read_labelled(tmp_path / "x.npz").labels == NAMES
    images, _ = as_npz(tmp_path)
    assert len(read_labelled(images, part="test").split) == 3


def test_names_in_arrays_are_sorted(tmp_path: Path) -> None:
    """Unicode labels keep their names."""
    np.savez(tmp_path / "x.npz", x=PIXELS[:4], y=np.array(["Zebra", "Ass", "Zebra", "Émeu"]))
    read = read_labelled(tmp_path / "x.npz")
    assert read.labels == ("Ass", "Zebra", "Émeu")
    assert read.split.labels.tolist() == [1, 0, 1, 2]


def test_gray_and_colour_in_one_folder_become_colour(tmp_path: Path) -> None:
    """Whichever comes first; a folder of gray pictures alone stays gray."""
    folder, _ = as_pictures(tmp_path)
    Picture.new("RGB", (4, 4), (1, 2, 3)).save(folder / "1" / "zz.png")
    read = read_labelled(folder)
    assert read.shape == (4, 4, 3)
    assert (read.split.images[:4] == PIXELS[0::3][..., np.newaxis]).all()
    assert read.split.images[8].tolist() == [[[1, 2, 3]] * 4] * 4
    assert (read.split.images[9:] == PIXELS[2::3][..., np.newaxis]).all()


def test_pictures_of_two_sizes_need_a_size(tmp_path: Path) -> None:
    """Both are named, and the option that helps."""
    folder, _ = as_pictures(tmp_path)
    Picture.new("L", (6, 5)).save(folder / "1" / "zz.png")
    said = refusal(folder)
    assert f"{folder}/1/zz.png is 5x6 and {folder}/0/00.png is 4x4 (height x width)" in said
    assert "--size HxW" in said
    assert len(read_labelled(folder, size=(4, 4)).split) == 13


def test_unreadable_pictures_are_listed_until_they_are_too_many(tmp_path: Path) -> None:
    """Left out with a reason; over the share, one sentence with count, share and the first three."""
    folder, _ = as_pictures(tmp_path)
    for name in "abcd":
        (folder / "0" / f"{name}.png").write_bytes(b"no picture")
    read = read_labelled(folder, max_unreadable=0.25)
    assert len(read.split) == 12
    assert [left.path.name for left in read.unreadable] == ["a.png", "b.png", "c.png", "d.png"]
    assert read.unreadable[0].reason.startswith("is no picture that can be read: cannot identify image file")
    said = refusal(folder, max_unreadable=0.2)
    assert "4 of 16 pictures" in said
    assert "(25.0%, allowed are 20.0% with --max-unreadable)" in said
    assert [f"{name}.png" in said for name in "abcd"] == [True, True, True, False]


def test_a_folder_without_a_readable_picture_is_refused(tmp_path: Path) -> None:
    """Whatever share is allowed."""
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "x.png").touch()
    assert "1 of 1 pictures" in refusal(tmp_path, max_unreadable=1.0)


def test_pictures_must_lie_in_their_labels_folder(tmp_path: Path) -> None:
    """Neither beside the folders, nor in two folders of one name, which may be train and test in one."""
    folder, _ = as_pictures(tmp_path)
    Picture.new("L", (4, 4)).save(folder / "x.png")
    assert f"1 pictures lie in {folder} itself (the first: x.png)" in refusal(folder)
    (folder / "x.png").unlink()
    folder.rename(tmp_path / "train")
    (tmp_path / "test" / "1").mkdir(parents=True)
    Picture.new("L", (4, 4)).save(tmp_path / "test" / "1" / "x.png")
    said = refusal(tmp_path)
    assert f"The label 1 has two folders, {tmp_path}/test/1 and {tmp_path}/train/1" in said


def test_known_labels_fix_the_ids(tmp_path: Path) -> None:
    """A test set has the training set's ids, and may lack labels but bring none."""
    folder, _ = as_pictures(tmp_path)
    assert set(read_labelled(folder, known_labels=("9", "2", "1", "0")).split.labels) == {1, 2, 3}
    said = refusal(folder, known_labels=("0", "1"))
    assert "has the label '2', which is none of the 2 known (0, 1)" in said
    for path in (*folder.glob("1/*"), *folder.glob("2/*")):
        path.unlink()
    assert set(read_labelled(folder, known_labels=("1", "0")).split.labels) == {1}


def test_one_label_alone_is_refused(tmp_path: Path) -> None:
    """There is nothing to choose."""
    np.savez(tmp_path / "x.npz", x=PIXELS, y=np.full(12, 7))
    assert refusal(tmp_path / "x.npz").startswith("All 12 images of ")
    assert "have the label 7; training needs two labels or more." in refusal(tmp_path / "x.npz")


def test_flat_rows_take_the_shape_given(tmp_path: Path) -> None:
    """Rows of a CSV file or of an array that make no square."""
    images, _ = as_csv(tmp_path)
    assert read_labelled(images, shape=(2, 8, 1)).shape == (2, 8, 1)
    np.savez(tmp_path / "x.npz", data=PIXELS.reshape(12, 16), target=IDS)
    assert read_labelled(tmp_path / "x.npz", shape=(8, 2, 1)).shape == (8, 2, 1)
    assert "has 16 pixel columns, images of 3x3x1 need 9" in refusal(images, shape=(3, 3, 1))
    assert "flat rows need their --shape" in refusal(tmp_path / "x.npz")
    assert "images of 4x4x1, not of 2x8x1" in refusal(*as_idx(tmp_path), shape=(2, 8, 1))
    (tmp_path / "odd.csv").write_text("label,pixel0,pixel1\n0,1,2\n1,3,4\n")
    assert "make no square image; give the --shape HxWxC" in refusal(tmp_path / "odd.csv")


def test_what_has_labels_takes_no_others(tmp_path: Path) -> None:
    """And what has none needs some: labels are neither ignored nor guessed."""
    images, labels = as_idx(tmp_path)
    assert "name the file of their labels with --labels" in refusal(images)
    assert "the sub-folders" in refusal(as_pictures(tmp_path)[0], labels)
    assert "omit --labels" in refusal(as_npz(tmp_path)[0], labels)
    assert "omit --labels" in refusal(as_csv(tmp_path)[0], labels)
    assert "has no column 'kind'; name the one with the labels" in refusal(as_csv(tmp_path)[0], label_column="kind")
    Picture.new("L", (4, 4)).save(tmp_path / "x.png")
    assert "is one picture; name a folder" in refusal(tmp_path / "x.png")


def test_counts_must_agree(tmp_path: Path) -> None:
    """Labels for every image; a header that was taken as a label is suspected."""
    images, _ = as_idx(tmp_path)
    (tmp_path / "y.txt").write_text("a\nb\n")
    assert "y.txt holds 2 labels for 12 images." in refusal(images, tmp_path / "y.txt")
    (tmp_path / "y.txt").write_text("kind\n" + "a\nb\n" * 6)
    assert "--label-column" in refusal(images, tmp_path / "y.txt")
    assert read_labelled(images, tmp_path / "y.txt", label_column="kind").labels == ("a", "b")
    (tmp_path / "y.txt").write_text('label\n""\n' + "a\nb\n" * 5 + "a\n")
    assert "image 1 (1 is the first) has no label" in refusal(images, tmp_path / "y.txt")


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("x-idx3-ubyte", b"\x00\x00\x0d\x03" + bytes(12), "does not begin like an IDX file"),
        ("x-idx3-ubyte.gz", gzip.compress(bytes(99), mtime=0)[:-9], "cut off"),
        ("x-idx3-ubyte", gzip.decompress(encode_idx(np.zeros((0, 4, 4), np.uint8))), "holds no images"),
        ("x-idx3-ubyte", gzip.decompress(encode_idx(np.zeros((1, 4, 4, 2), np.uint8))), "must have 1 or 3 channels"),
        ("x-idx3-ubyte", gzip.decompress(encode_idx(np.zeros((1, 4097, 1), np.uint8))), "1 to 4096 pixels"),
        ("x.csv", b"", "has no header"),
        ("x.csv", b"label,pixel0\n", "there is no row below its header"),
        ("x.csv", b"label,pixel0\n3,1\n,2\n", "image 2 (1 is the first) has no label"),
        ("x.csv", b"label,pixel0\n3,1\n4,nan\n", "row 2: every pixel must be an integer from 0 to 255"),
        ("x.npy", b"", "no .npy file"),
        ("x.npz", b"", "no .npz file"),
        ("x.pdf", b"", "is no idx, .csv"),
    ],
)
def test_what_cannot_be_trained_on_is_named(tmp_path: Path, name: str, content: bytes, words: str) -> None:
    """One sentence with the path, whatever is wrong."""
    (tmp_path / name).write_bytes(content)
    np.save(tmp_path / "y.npy", np.array([1]))
    said = refusal(tmp_path / name, None if name.endswith((".csv", ".npz", ".pdf")) else tmp_path / "y.npy")
    assert words in said
    assert str(tmp_path / name) in said


def test_images_are_fitted_where_nothing_is_lost() -> None:
    """Gray becomes RGB; another size and colour to gray are refused with what to do."""
    gray = LabelledImages(split=Split(PIXELS[..., np.newaxis], IDS), labels=NAMES, source="x")
    coloured = fit_to((4, 4, 3), gray, wanted_by="the model takes")
    assert coloured.shape == (4, 4, 3)
    assert (coloured.split.images == PIXELS[..., np.newaxis]).all()
    assert fit_to((4, 4, 1), gray, wanted_by="the model takes") is gray
    with pytest.raises(DataSetUnavailable, match=r"x holds images of 4x4x1, the model takes 28x28x1 .*--size 28x28"):
        fit_to((28, 28, 1), gray, wanted_by="the model takes")
    with pytest.raises(DataSetUnavailable, match="make them gray"):
        fit_to((4, 4, 1), coloured, wanted_by="the model takes")


@pytest.mark.parametrize(
    ("found", "options", "ids", "names"),
    [
        (["10", "9", "-1"], {}, [2, 1, 0], ("-1", "9", "10")),
        (["10", "9", "x"], {}, [0, 1, 2], ("10", "9", "x")),
        (["b", "a", "b"], {}, [1, 0, 1], ("a", "b")),
        (["2", "0"], {"label_names": NAMES}, [2, 0], NAMES),
        (["Coat", "Bag"], {"label_names": NAMES}, [1, 0], NAMES),
        (["0", "1"], {"label_names": ("1", "2")}, [0, 1], ("1", "2")),
        (["2", "0"], {"known_labels": NAMES}, [2, 0], NAMES),
        (["Dress"], {"known_labels": NAMES}, [2], NAMES),
        (["5", "3"], {"known_labels": ("3", "5", "7")}, [1, 0], ("3", "5", "7")),
        (["1", "2"], {"known_labels": ("a", "b", "c"), "label_names": ("x", "c", "a")}, [2, 0], ("a", "b", "c")),
        (["0", "2"], {"known_labels": ("0", "1", "A")}, [0, 2], ("0", "1", "A")),
    ],
)
def test_labels_are_numbered(
    found: list[str], options: dict[str, tuple[str, ...]], ids: list[int], names: tuple
) -> None:  # type: ignore[type-arg]
    """Numbers as numbers, names as text; names and known labels fix the ids."""
    numbered, labels = number_labels(found, source="y", **options)
    assert numbered.tolist() == ids
    assert labels == names


@pytest.mark.parametrize(
    ("found", "options", "words"),
    [
        (["3"], {"label_names": NAMES}, "has the label '3', which is none of the 3 known (Bag, Coat, Dress)"),
        (["-1", "7"], {"known_labels": NAMES}, "has the label '-1' and 1 more"),
        (["0", "1"], {"known_labels": ("3", "5", "7")}, "none of the 3 known (3, 5, 7)"),
        (["Hat"], {"known_labels": NAMES}, "has the label 'Hat'"),
        (["a", ""], {}, "image 2 (1 is the first) has no label"),
        (["a", "\udcff"], {}, "is no UTF-8 text"),
        (["0", "1"], {"label_names": ("a", "a")}, "must differ"),
    ],
)
def test_labels_that_are_not_known_are_named(found: list[str], options: dict[str, tuple[str, ...]], words: str) -> None:
    """The first of them, and those that are known."""
    with pytest.raises(DataSetUnavailable, match=re.escape(words)):
        number_labels(found, source="y", **options)


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=3), min_size=1))
def test_every_label_keeps_its_name(found: list[str]) -> None:
    """An id leads back to the label as it was written."""
    ids, names = number_labels(found, source="y")
    assert [names[place] for place in ids] == found
    assert set(names) == set(found)


def test_label_names_are_read_from_text_and_files(tmp_path: Path) -> None:
    """With commas, or one a line, where names may hold commas."""
    assert parse_label_names("Bag, Coat,T-shirt/top") == ("Bag", "Coat", "T-shirt/top")
    assert parse_label_names("Bag\nA, B\r\n") == ("Bag", "A, B")
    (tmp_path / "names.txt").write_text("\ufeffBag\nCoat\n", encoding="utf-8")
    assert read_label_names(str(tmp_path / "names.txt")) == ("Bag", "Coat")
    assert read_label_names("a,b") == ("a", "b")
    for text in ("", "a", "a,,b", "a,a", "a\n\nb"):
        with pytest.raises(DataSetUnavailable, match="must be two or more, none empty and none twice"):
            parse_label_names(text)
    with pytest.raises(DataSetUnavailable, match="is no text file of label names"):
        read_label_names(str(tmp_path / "none.txt"))


@given(
    counts=st.lists(st.integers(2, 40), min_size=2, max_size=5),
    share=st.floats(0.01, 0.99),
    seed=st.integers(0, 9),
)
def test_a_division_keeps_every_image_and_every_label(counts: list[int], share: float, seed: int) -> None:
    """Each image goes to one split, each label to both in the share asked for, the same for the same seed."""
    labels = np.repeat(np.arange(len(counts)), counts)
    images = np.arange(len(labels), dtype=np.uint8).reshape(-1, 1, 1, 1)
    names = tuple(map(str, range(len(counts))))
    labelled = LabelledImages(split=Split(images, labels), labels=names, source="x")
    made = divide(labelled, test_share=share, seed=seed)
    assert sorted([*made.train.images.ravel(), *made.test.images.ravel()]) == list(range(len(labels)))
    tested = np.bincount(made.test.labels, minlength=len(counts))
    assert all(1 <= part < whole for part, whole in zip(tested, counts, strict=True))
    assert all(abs(part - whole * share) <= 1 for part, whole in zip(tested, counts, strict=True))
    assert (divide(labelled, test_share=share, seed=seed).test.images == made.test.images).all()
    assert (made.labels, made.source) == (names, "x")


def test_a_label_with_one_image_is_not_divided() -> None:
    """It is named, with what to do."""
    split = Split(PIXELS[:3, ..., np.newaxis], np.array([0, 0, 1]))
    with pytest.raises(DataSetUnavailable, match="The label Coat has 1 images in x"):
        divide(LabelledImages(split=split, labels=NAMES[:2], source="x"), test_share=0.5, seed=1)


@pytest.mark.parametrize(
    ("counts", "ratio", "warning"),
    [
        ([50, 40, 50], 1.25, None),
        ([20, 200, 20], 10.0, None),
        ([300, 25, 30], 12.0, "Bag has 12 times as many images as Coat (300 and 25)"),
        ([50, 3, 19], 50 / 3, "2 of 3 labels have fewer than 20 images (the fewest: Coat, 3)"),
        ([50, 0, 50], float("inf"), "1 of 3 labels have fewer than 20 images (the fewest: Coat, 0)"),
    ],
)
def test_imbalance_is_told(counts: list[int], ratio: float, warning: str | None) -> None:
    """Counts a label, the ratio of the extremes, and a sentence where a label is rare."""
    balance = describe_balance(np.repeat(np.arange(3), counts), NAMES)
    assert balance.counts == dict(zip(NAMES, counts, strict=True))
    assert balance.ratio == pytest.approx(ratio)
    assert (balance.warning or "").startswith(warning or "")
    assert (balance.warning is None) == (warning is None)
