"""Images from one format into another: what the target can hold is exact, and what fails leaves nothing."""

from __future__ import annotations

import csv
import errno
import gzip
import json
import os
import tracemalloc
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import numpy.typing as npt
import pytest
from click.testing import CliRunner, Result
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image as Picture

from fashion_client import picture_writer, whole_outputs
from fashion_client.convert_images import command
from fashion_client.label_writers import labels_beside
from fashion_client.sources import SAMPLE_IMAGES, SAMPLE_LABELS, count_images, read_images
from handoff.contracts.batches import decode_batch
from handoff.contracts.csv_batches import encode_csv
from handoff.contracts.errors import ExitCode
from handoff.contracts.idx import decode_idx, encode_idx
from handoff.contracts.images import Batch
from handoff.contracts.messages import PayloadFormat

RNG = np.random.default_rng(23)
GRAY = RNG.integers(0, 256, (11, 4, 4, 1), np.uint8)
COLORS = RNG.integers(0, 256, (11, 4, 4, 3), np.uint8)
LABELS = [str(place % 3) for place in range(11)]
TARGETS = ["images-idx3-ubyte", "images-idx3-ubyte.gz", "x.npy", "x.csv", "x.csv.gz", "pictures"]


@dataclass
class Found:
    """What a file or folder holds, as `fashion request` reads it."""

    pixels: list[bytes]
    shapes: set[tuple[int, ...]]
    ids: list[str]
    labels: list[str]


def read(path: Path, labels: Path | None = None) -> Found:
    """Read everything."""
    images = list(read_images(path, labels=labels))
    return Found(
        [image.pixels.tobytes() for image in images],
        {image.pixels.shape for image in images},
        [image.image_id for image in images],
        [image.label for image in images],
    )


def convert(source: Path, target: Path, *options: str) -> Result:
    """Run the console; what is beside a name is found by whoever reads it."""
    return CliRunner().invoke(command, [str(source), str(target), *options], prog_name="fashion convert")


def converted(source: Path, target: Path, *options: str) -> Path:
    """Convert; where it is."""
    result = convert(source, target, *options)
    assert result.exit_code == ExitCode.OK, result.output
    assert leftovers(target.parent) == []
    return target


def leftovers(folder: Path) -> list[str]:
    """What lies under hidden names."""
    return [path.name for path in folder.rglob(".*")]


def source_of(
    folder: Path, name: str, images: npt.NDArray[np.uint8], labels: Sequence[str]
) -> tuple[Path, Path | None]:
    """The same images in a format, written by other means than a conversion; the file of their labels."""
    path, beside = folder / name, folder / "true-labels-idx1-ubyte"
    beside.write_bytes(gzip.decompress(encode_idx(np.array(labels, np.uint8))))
    flat = images[..., 0] if images.shape[3] == 1 else images
    if "idx" in name:
        packed = encode_idx(flat)
        path.write_bytes(packed if name.endswith(".gz") else gzip.decompress(packed))
        return path, beside
    if name.endswith(".npy"):
        np.save(path, flat)
        return path, beside
    if "csv" in name:
        data = encode_csv(Batch(images, [f"i-{place:02}" for place in range(len(images))], list(labels)))
        path.write_bytes(gzip.compress(data) if name.endswith(".gz") else data)
        return path, None
    for place, (image, label) in enumerate(zip(flat, labels, strict=True)):
        (path / label).mkdir(parents=True, exist_ok=True)
        Picture.fromarray(image).save(path / label / f"i-{place:02}.png")
    return path, None


def known_labels(target: Path) -> Path | None:
    """The labels that were written beside."""
    beside = labels_beside(target) if "idx" in target.name else target.with_name("kept.txt")
    return beside if beside.exists() else None


@pytest.mark.parametrize("images", [GRAY, COLORS], ids=["gray", "colour"])
@pytest.mark.parametrize("source", TARGETS)
@pytest.mark.parametrize("target", TARGETS)
def test_every_pair_keeps_pixels_labels_and_ids(
    tmp_path: Path, source: str, target: str, images: npt.NDArray[np.uint8]
) -> None:
    """Each image with its own label, whatever the order; ids where the target has any."""
    (tmp_path / "in").mkdir()
    (tmp_path / "out").mkdir()
    path, labels = source_of(tmp_path / "in", source, images, LABELS)
    before = read(path, labels)
    told = ["--labels", str(labels)] if labels else []
    told += ["--labels-output", str(tmp_path / "out" / "kept.txt")] if target == "x.npy" else []
    made = converted(path, tmp_path / "out" / target, *told)
    after = read(made, known_labels(made))
    assert after.shapes == {images.shape[1:]}
    if target == "pictures":  # read label by label
        pairs = sorted(zip(before.pixels, before.labels, strict=True))
        assert sorted(zip(after.pixels, after.labels, strict=True)) == pairs
        stems = [Path(each).stem for each in before.ids]
        if source not in {"pictures", "x.csv", "x.csv.gz"}:
            stems = [f"{each.rpartition('-')[0]}-{int(each.rpartition('-')[2]):02}" for each in stems]
        assert sorted(after.ids) == sorted(
            f"{label}/{stem}.png" for label, stem in zip(before.labels, stems, strict=True)
        )
    else:
        assert (after.pixels, after.labels) == (before.pixels, before.labels)
        if target.startswith("x.csv"):
            assert after.ids == before.ids


def test_a_folder_of_pictures_keeps_its_names(tmp_path: Path) -> None:
    """Also those of sub-folders of sub-folders, whose last one is the label; JPEG files become PNG files."""
    for name in ("Bag/a.png", "old/Bag/a.png", "b.png", "Coat/c d.JPG", "Coat/c d.png"):
        (tmp_path / "in" / name).parent.mkdir(parents=True, exist_ok=True)
        Picture.fromarray(RNG.integers(0, 256, (5, 4), np.uint8)).save(tmp_path / "in" / name)
    result = convert(tmp_path / "in", tmp_path / "out")
    assert "1 images got a number" in result.output
    names = ["Bag/a.png", "Coat/c d-2.png", "Coat/c d.png", "b.png", "old/Bag/a.png"]
    assert sorted(read(tmp_path / "out").ids) == names
    first, second = read(tmp_path / "in"), read(tmp_path / "out")
    assert sorted(zip(first.pixels, first.labels, strict=True)) == sorted(
        zip(second.pixels, second.labels, strict=True)
    )


def test_pictures_of_differing_sizes_stay_pictures(tmp_path: Path) -> None:
    """A folder holds them; no array and no CSV file does, and says what makes them alike."""
    (tmp_path / "in").mkdir()
    for number, sides in enumerate([(4, 4), (5, 4), (4, 4)]):
        Picture.new("L", sides).save(tmp_path / "in" / f"{number}.png")
    made = converted(tmp_path / "in", tmp_path / "out")
    assert read(made).shapes == {(4, 4, 1), (4, 5, 1)}
    for target in ("x.npy", "x.csv", "x.idx"):
        result = convert(tmp_path / "in", tmp_path / target)
        assert result.exit_code == ExitCode.DATA_SET_UNAVAILABLE
        assert "Error: The image 1.png is 4x5x1, 0.png is 4x4x1; make all images the same size first (--size HxW" in (
            result.output
        )
        assert not (tmp_path / target).exists()
        assert leftovers(tmp_path) == []
        assert converted(tmp_path / "in", tmp_path / target, "--size", "3x3").exists()


def test_gray_and_colour_pictures_are_made_alike(tmp_path: Path) -> None:
    """Where that is asked for, as for a request."""
    (tmp_path / "in").mkdir()
    Picture.new("L", (4, 4), 7).save(tmp_path / "in/a.png")
    Picture.new("RGB", (4, 4), (1, 2, 3)).save(tmp_path / "in/b.png")
    assert "--channels 3 makes all RGB" in convert(tmp_path / "in", tmp_path / "x.npy").output
    assert np.load(converted(tmp_path / "in", tmp_path / "x.npy", "--channels", "3")).shape == (2, 4, 4, 3)


@pytest.mark.parametrize("source", TARGETS)
@pytest.mark.parametrize(
    ("start", "end"), [(0, 4), (3, 7), (3, None), (None, 5), (-4, None), (None, -2), (-5, -1), (9, 99), (10, 11)]
)
def test_positions_are_those_of_a_slice(tmp_path: Path, source: str, start: int | None, end: int | None) -> None:
    """Half open, from the end where negative, clamped where beyond it; ids still say where an image was."""
    path, labels = source_of(tmp_path, source, GRAY, LABELS)
    whole, chosen = read(path, labels), slice(start, end)
    told = [f"--{name}={place}" for name, place in (("start", start), ("end", end)) if place is not None]
    told += ["--labels", str(labels)] if labels else []
    found = read(converted(path, tmp_path / "part.csv", *told))
    assert (found.pixels, found.labels, found.ids) == (whole.pixels[chosen], whole.labels[chosen], whole.ids[chosen])


@pytest.mark.parametrize("source", ["x.npy", "x.csv", "pictures"])
@pytest.mark.parametrize(
    ("start", "end", "said"),
    [
        (5, 5, "from position 5 up to, without, 5 in"),
        (5, 2, "from position 5 up to, without, 2 in"),
        (11, None, "from position 11 up to, without, the end in"),
        (999, 1000, "from position 999 up to, without, 1000 in"),
        (None, 0, "from position 0 up to, without, 0 in"),
        (-2, -4, "from position -2 up to, without, -4 in"),
    ],
)
def test_a_slice_without_images_is_refused(
    tmp_path: Path, source: str, start: int | None, end: int | None, said: str
) -> None:
    """With what positions mean."""
    path, _ = source_of(tmp_path, source, GRAY, LABELS)
    told = [f"--{name}={place}" for name, place in (("start", start), ("end", end)) if place is not None]
    result = convert(path, tmp_path / "part.csv", *told)
    assert result.exit_code == ExitCode.DATA_SET_UNAVAILABLE
    assert said in result.output
    assert "--end is the first that is left out" in result.output
    assert not (tmp_path / "part.csv").exists()


def test_what_a_format_cannot_keep_is_said(tmp_path: Path) -> None:
    """A sentence each, on the last line too where that is asked for."""
    path, _ = source_of(tmp_path, "x.csv", GRAY, LABELS)
    result = convert(path, tmp_path / "y.npy", "--json")
    assert "The labels are left out: an npy file has none. --labels-output FILE keeps them." in result.output
    assert "The ids of the images are left out: an array has none." in result.output
    figures = json.loads(result.stdout.splitlines()[-1])
    assert (figures["images"], figures["format"], len(figures["notes"])) == (11, "npy", 2)
    np.save(tmp_path / "wide.npy", GRAY[:, :3, :, 0])
    result = convert(tmp_path / "wide.npy", tmp_path / "wide.csv")
    assert "CSV says no height and width: whoever reads these again has to name --shape 3x4x1." in result.output
    again = converted(tmp_path / "wide.csv", tmp_path / "again.npy", "--shape", "3x4")
    assert np.array_equal(np.load(again), GRAY[:, :3, :, 0])
    assert (
        "12 pixels, which are no 5x5x1" in convert(tmp_path / "wide.csv", tmp_path / "z.npy", "--shape", "5x5").output
    )


@pytest.mark.parametrize("name", ["kept.txt", "kept.csv.gz", "kept.npy", "kept-idx1-ubyte", "kept-idx1-ubyte.gz"])
def test_labels_are_kept_beside(tmp_path: Path, name: str) -> None:
    """In each format that is read again."""
    path, labels = source_of(tmp_path, "x.npy", GRAY, LABELS)
    made = converted(path, tmp_path / "y.npy", "--labels", str(labels), "--labels-output", str(tmp_path / name))
    assert read(made, tmp_path / name).labels == LABELS


def test_labels_of_words_and_without_any_are_kept_as_text(tmp_path: Path) -> None:
    """Quotes, line ends, empty ones; an idx file cannot hold them, and says what can."""
    labels = ["Bag", "", 'a "b", c', "d\ne", "Äpfel"]
    (tmp_path / "x.csv").write_bytes(encode_csv(Batch(GRAY[:5], list("abcde"), labels)))
    for name in ("kept.txt", "kept.npy"):
        told = ("--labels-output", str(tmp_path / name), "--overwrite")
        assert read(converted(tmp_path / "x.csv", tmp_path / "y.npy", *told), tmp_path / name).labels == labels
    result = convert(tmp_path / "x.csv", tmp_path / "y-images-idx3-ubyte")
    assert result.exit_code == ExitCode.DATA_SET_UNAVAILABLE
    assert (
        "An idx file holds labels from 0 to 255 ('Bag'); keep these with --labels-output labels.txt." in result.output
    )
    assert sorted(path.name for path in tmp_path.iterdir()) == ["kept.npy", "kept.txt", "x.csv", "y.npy"]
    converted(tmp_path / "x.csv", tmp_path / "y-idx3-ubyte", "--labels-output", str(tmp_path / "words.txt"))


def test_labels_of_an_npz_file_are_found(tmp_path: Path) -> None:
    """Beside its images, those to test with where there are two kinds."""
    np.savez(tmp_path / "x.npz", x_train=GRAY, y_train=[7] * 11, x_test=GRAY[:3], y_test=[3, 1, 2])
    found = read(converted(tmp_path / "x.npz", tmp_path / "x.csv"))
    assert (found.labels, found.ids) == (["3", "1", "2"], ["x-0", "x-1", "x-2"])


def test_labels_become_folders_that_are_harmless(tmp_path: Path) -> None:
    """They are strangers' texts: those that are no folder's name are told, two that would share one are refused."""
    labels = ["T-shirt/top", "../../x", ".hidden", "", "Bag"]
    (tmp_path / "x.csv").write_bytes(encode_csv(Batch(GRAY[:5], ["../a", "/b", "..", "d", "e/f.png"], labels)))
    result = convert(tmp_path / "x.csv", tmp_path / "out")
    assert result.exit_code == ExitCode.OK, result.output
    assert "The label 'T-shirt/top' is the folder T-shirt-top." in result.output
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "x.csv"]
    names = ["Bag/f.png", "T-shirt-top/a.png", "d.png", "hidden/unnamed.png", "x/b.png"]
    assert sorted(read(tmp_path / "out").ids) == names
    (tmp_path / "y.csv").write_bytes(encode_csv(Batch(GRAY[:2], ["a", "b"], ["T-shirt/top", "T-shirt-top"])))
    result = convert(tmp_path / "y.csv", tmp_path / "y")
    assert "The labels 'T-shirt/top' and 'T-shirt-top' would both be the folder T-shirt-top" in result.output
    assert not (tmp_path / "y").exists()


def test_names_of_pictures_sort_as_the_images_stand(tmp_path: Path) -> None:
    """So an array comes back from a folder in its order."""
    np.save(tmp_path / "x.npy", GRAY)
    made = converted(tmp_path / "x.npy", tmp_path / "out", "--start", "1")
    assert read(made).ids[0] == "x-01.png"
    assert np.array_equal(np.load(converted(made, tmp_path / "y.npy")), GRAY[1:, ..., 0])
    (tmp_path / "x.csv").write_text("pixel_0\n" + "7\n8\n" * 6, encoding="utf-8")  # nobody knows how many there are
    assert read(converted(tmp_path / "x.csv", tmp_path / "rows")).ids[11] == "x-00000011.png"


def test_a_csv_file_is_the_contracts_own(tmp_path: Path) -> None:
    """A worker takes it as a batch, packed or not; a second conversion makes the same bytes."""
    path, labels = source_of(tmp_path, "images-idx3-ubyte.gz", COLORS, LABELS)
    formats: list[PayloadFormat] = ["csv", "csv.gz"]
    for format in formats:
        made = [
            converted(path, tmp_path / f"{name}.{format}", "--labels", str(labels)).read_bytes() for name in ("a", "b")
        ]
        assert made[0] == made[1]
        batch = decode_batch(made[0], format=format, image_shape=(4, 4, 3), max_images=99, max_bytes=10_000)
        assert np.array_equal(batch.images, COLORS)
        assert (batch.labels, batch.image_ids[10]) == (LABELS, "images-idx3-ubyte-10")


def test_an_idx_file_is_the_published_one(tmp_path: Path) -> None:
    """The sample, there and back, byte for byte what it holds."""
    told = ("--labels", str(SAMPLE_LABELS))
    rows = converted(SAMPLE_IMAGES, tmp_path / "x.csv", *told)
    made = converted(rows, tmp_path / "x-images-idx3-ubyte.gz")
    for one, other in ((made, SAMPLE_IMAGES), (tmp_path / "x-labels-idx1-ubyte.gz", SAMPLE_LABELS)):
        assert gzip.decompress(one.read_bytes()) == gzip.decompress(other.read_bytes())
    assert decode_idx(made.read_bytes(), name="x").shape == (1000, 28, 28)


ids = st.text(st.characters(exclude_categories=["Cs"]), max_size=12).map("id {}".format)


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_whatever_the_names_they_come_back(data: st.DataObject) -> None:
    """CSV, packed CSV and an array with its labels beside, from one to the next and back: nothing is changed."""
    count, side, channels = (data.draw(st.integers(1, most)) for most in (70, 4, 2))
    images = RNG.integers(0, 256, (count, side, side, 2 * channels - 1), np.uint8)
    names = data.draw(st.lists(ids, min_size=count, max_size=count, unique=True))
    labels = data.draw(
        st.lists(
            st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=9),
            min_size=count,
            max_size=count,
        )
    )
    shape = f"{side}x{side}x{2 * channels - 1}"
    with TemporaryDirectory() as folder:
        there, back, array, kept = (Path(folder, name) for name in ("a.csv", "b.csv.gz", "c.npy", "d.csv"))
        there.write_bytes(encode_csv(Batch(images, names, labels)))
        converted(there, back, "--shape", shape)
        converted(back, array, "--shape", shape, "--labels-output", str(kept))
        converted(back, Path(folder, "e.csv"), "--shape", shape)
        converted(array, Path(folder, "f.csv"), "--labels", str(kept))
        assert np.array_equal(np.load(array).reshape(images.shape), images)
        found, renamed = read(Path(folder, "e.csv")), read(Path(folder, "f.csv"))
    assert (found.ids, found.labels) == (names, labels)
    assert (renamed.labels, renamed.pixels) == (labels, found.pixels)


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["none.npy", "y.csv"], 5, "There is no file or folder none.npy"),
        (["x.npy", "y.xyz"], 3, "y.xyz names no format that is written: end it with .csv"),
        (["x.npy", "y.npz"], 3, "y.npz names no format that is written"),
        (["x.npy", "y.png"], 3, "y.png names no format that is written"),
        (["x.npy", "there.csv"], 3, "there.csv is there already; name another file, or replace it with --overwrite."),
        (["x.npy", "x.npy"], 3, "x.npy is what is to be read; name another file."),
        (["x.npy", "x.npy", "--overwrite"], 3, "x.npy is what is to be read"),
        (["x.npy", "full"], 3, "The folder full holds files already; name a new one, or an empty one."),
        (["x.npy", "full", "--overwrite"], 3, "The folder full holds files already"),
        (["x.npy", "there.csv", "--to", "png"], 3, "there.csv is no folder; name a new one."),
        (["x.npy", "full", "--to", "csv"], 3, "full is a folder; name a file."),
        (["x.npy", "link"], 3, "link is no folder; name a new one."),
        (["x.npy", "pipe.csv", "--overwrite"], 3, "pipe.csv is no plain file; name another."),
        (["x.npy", f"{'n' * 300}.csv"], 3, "n.csv cannot be used: File name too long; allow it, or name another."),
        ([f"{'n' * 300}.npy", "y.csv"], 5, "n.npy cannot be read: File name too long; allow it, or name another."),
        (["piped", "y.csv"], 5, "a.png is a pipe, and no picture that can be read."),
        (["dangling", "y.csv"], 5, "a.png is no picture that can be read: No such file or directory."),
        (["x.npy", "none/y.csv"], 3, "There is no folder none to write y.csv in; make it first."),
        (["x.npy", "y.npy.gz", "--to", "npy"], 3, "y.npy.gz would be packed, which no npy file is; name it .npy."),
        (["x.npy", "y.csv", "--labels", "two.txt"], 5, "two.txt holds 2 labels for 11 images"),
        (["x.npy", "y.csv", "--labels-output", "z.txt"], 5, "x.npy has no labels to be written; name theirs with"),
        (["full", "y.csv", "--labels", "two.txt"], 5, "--labels goes with idx and npy images"),
        (["x.npy", "y.csv", "--labels", "l.txt", "--labels-output", "y.csv"], 3, "cannot be both the images and"),
        (["x.npy", "y.csv", "--labels", "l.txt", "--labels-output", "y.png"], 3, "y.png is no idx, .npy, .csv or"),
        (["x.npy", "y-idx3", "--labels", "l.txt", "--labels-output", "l.txt"], 3, "l.txt is what is to be read"),
        (["empty.npy", "y.csv"], 5, "empty.npy holds no images."),
        (["empty.csv", "y.npy"], 5, "empty.csv holds no images."),
        (["bad.csv", "y.npy"], 5, "bad.csv, row 3: every pixel must be an integer"),
        (["broken", "y.npy"], 5, "b.png is no picture that can be read"),
        (["deep.npy", "out"], 5, "holds images of 2x2x2 (height x width x channels); they must have 1 or 3 channels"),
        (["x.npy", "y.csv", "--start", "x"], 2, "Invalid value for '--start'"),
    ],
)  # fmt: skip
def test_a_refusal_is_one_sentence_and_leaves_nothing(folder: Path, arguments: list[str], code: int, said: str) -> None:
    """No traceback, no file begun, and what was there stays."""
    np.save(folder / "x.npy", GRAY)
    np.save(folder / "empty.npy", GRAY[:0])
    np.save(folder / "deep.npy", GRAY.reshape(-1, 2, 2, 2))
    (folder / "there.csv").write_text("mine")
    (folder / "two.txt").write_text("a\nb\n")
    (folder / "l.txt").write_text("\n".join(LABELS))
    (folder / "empty.csv").write_text("pixel_0\n")
    (folder / "bad.csv").write_text("pixel_0\n1\n2\n256\n")
    for name in ("full", "broken"):
        (folder / name).mkdir()
        Picture.new("L", (4, 4)).save(folder / name / "a.png")
    (folder / "broken" / "b.png").write_text("no picture")
    (folder / "dangling").mkdir()
    (folder / "dangling" / "a.png").symlink_to("nowhere.png")
    (folder / "empty").mkdir()
    (folder / "link").symlink_to("empty")
    (folder / "piped").mkdir()
    for name in ("pipe.csv", "piped/a.png"):
        os.mkfifo(folder / name)
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    result = CliRunner().invoke(command, arguments)
    assert result.exit_code == code, result.output
    assert said in result.output
    assert "Traceback" not in result.output
    if code != ExitCode.USAGE:
        assert result.output.startswith("Error: ") or result.output.count("\n") == 2, result.output
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before
    assert (folder / "pipe.csv").is_fifo()


@pytest.mark.parametrize("name", [".", "./", ""])
def test_the_folder_one_stands_in_is_refused(folder: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """Even an empty one: it would be another of the same name, which nobody who stands in it sees."""
    np.save(folder / "x.npy", GRAY)
    (folder / "empty").mkdir()
    monkeypatch.chdir(folder / "empty")
    for output in (name, str(Path.cwd())):
        result = CliRunner().invoke(command, ["../x.npy", output])
        assert result.exit_code == ExitCode.SETTINGS_INVALID, result.output
        assert "is the one that this runs in; name a new one in it." in result.output
    assert not list(Path.cwd().iterdir())


def test_a_decoders_own_warnings_are_not_shown(tmp_path: Path, recwarn: pytest.WarningsRecorder) -> None:
    """They are lines of its source to whoever converts a picture with a camera's broken notes."""
    (tmp_path / "in").mkdir()
    broken = b"Exif\0\0MM\0*\0\0\0\x08\0\x05\x01\x12\0\x03\0\0\0\x01\0\x06"
    Picture.new("L", (4, 4)).save(tmp_path / "in" / "a.jpg", exif=broken)
    converted(tmp_path / "in", tmp_path / "x.npy")
    assert [str(each.message) for each in recwarn if "PIL" in each.filename] == []


def test_overwriting_replaces_a_file_whole(tmp_path: Path) -> None:
    """And an empty folder becomes the folder of pictures."""
    np.save(tmp_path / "x.npy", GRAY)
    (tmp_path / "y.csv").write_text("old")
    assert len(read(converted(tmp_path / "x.npy", tmp_path / "y.csv", "--overwrite")).ids) == 11
    (tmp_path / "out").mkdir()
    assert len(read(converted(tmp_path / "x.npy", tmp_path / "out")).ids) == 11


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("how", ["disk", "input", "interrupt"])
def test_what_ends_in_the_middle_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, target: str, how: str
) -> None:
    """A full disk, an input that turns out to be broken, Ctrl-C: what was there stays, nothing new is half there."""
    (tmp_path / "out").mkdir()
    good = encode_csv(Batch(np.tile(GRAY, (30, 1, 1, 1)), [str(place + 1) for place in range(330)]))
    (tmp_path / "x.csv").write_bytes(good + b"1,2\n" * (how == "input"))
    if target != "pictures":
        (tmp_path / "out" / target).write_text("old")
    codes = {
        "disk": ExitCode.SETTINGS_INVALID,
        "input": ExitCode.DATA_SET_UNAVAILABLE,
        "interrupt": ExitCode.INTERRUPTED,
    }
    if how != "input":
        error: BaseException = (
            OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)) if how == "disk" else KeyboardInterrupt()
        )

        def fail(*_: object) -> None:
            raise error

        monkeypatch.setattr(whole_outputs.os, "fsync", fail)
        monkeypatch.setattr(picture_writer, "flush_folder", fail)
    result = convert(tmp_path / "x.csv", tmp_path / "out" / target, "--overwrite")
    assert result.exit_code == codes[how], result.output
    if how == "disk":
        assert "cannot be written: No space left on device; make room" in result.output
    assert [path.name for path in (tmp_path / "out").iterdir()] == ([target] if target != "pictures" else [])
    assert target == "pictures" or (tmp_path / "out" / target).read_text() == "old"


def test_names_that_no_csv_file_can_hold_are_refused(tmp_path: Path) -> None:
    """A file's name need be no text; a batch's may have 1,024 characters."""
    (tmp_path / "in").mkdir()
    Picture.new("L", (4, 4)).save(tmp_path / "in" / "a.png")
    os.rename(tmp_path / "in" / "a.png", os.fsencode(tmp_path / "in") + b"/\xff.png")  # noqa: PTH104 - bytes
    result = convert(tmp_path / "in", tmp_path / "x.csv")
    assert result.exit_code == ExitCode.DATA_SET_UNAVAILABLE
    assert "is no text that CSV could hold; rename the file" in result.output
    with (tmp_path / "long.csv").open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([["image_id", "pixel_0"], ["x" * 1025, 7]])
    assert (
        "has 1025 characters, a batch's may have 1024; rename it"
        in convert(tmp_path / "long.csv", tmp_path / "x.csv").output
    )


@pytest.mark.parametrize("target", ["y-idx3-ubyte", "y-idx3-ubyte.gz", "y.csv.gz"])
def test_many_images_take_the_memory_of_a_block(tmp_path: Path, target: str) -> None:
    """Read and written as they come: a quarter of them is never held at once."""
    images = np.lib.format.open_memmap(tmp_path / "x.npy", mode="w+", dtype=np.uint8, shape=(80_000, 16, 16))
    images.flush()
    converted(tmp_path / "x.npy", tmp_path / "first.csv", "--end", "1")  # what is imported is no part of it
    tracemalloc.start()
    try:
        converted(tmp_path / "x.npy", tmp_path / target)
        _, most_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert most_bytes < images.nbytes / 4
    assert target.endswith("csv.gz") or count_images(tmp_path / target) == 80_000
