"""Labelled images named at the command line, or for a model that is there already."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
import numpy as np
import pytest
from click.testing import CliRunner, Result
from PIL import Image as Picture

from handoff.console import Command
from handoff.contracts.errors import DataSetUnavailable, ExitCode
from ml_model_development.code import data_options as module
from ml_model_development.code.data_options import DataOptions, data_options, data_set_from, read_for
from ml_model_development.code.data_set import DataSet, Split

RNG = np.random.default_rng(4)
PIXELS = RNG.integers(0, 256, (60, 4, 4), np.uint8)
IDS = np.arange(60) % 2


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    """An npz file of two labels."""
    np.savez(tmp_path / "x.npz", images=PIXELS, labels=IDS)
    return tmp_path / "x.npz"


def write_pictures(folder: Path, count: int, *, mode: str = "L", side: int = 4) -> Path:
    """A folder of so many pictures of each of two labels."""
    for label in ("Bag", "Coat"):
        (folder / label).mkdir(parents=True)
        for number in range(count):
            Picture.new(mode, (side, side)).save(folder / label / f"{number}.png")
    return folder


def run(*arguments: str | Path) -> tuple[Result, dict[str, Any]]:
    """What a command with these options receives."""
    received: dict[str, Any] = {}

    @click.command("train", cls=Command)
    @click.option("--before", default=1)
    @data_options
    @click.option("--after", default=2)
    def command(**given: Any) -> None:  # noqa: ANN401 - click's
        received.update(given)

    return CliRunner().invoke(command, [str(argument) for argument in arguments]), received


def test_nothing_said_is_the_default() -> None:
    """The options' defaults are those of the class; a command's other options stay its own."""
    result, received = run()
    assert result.exit_code == ExitCode.OK
    assert received == {"images": DataOptions(), "before": 1, "after": 2}


def test_every_option_arrives() -> None:
    """Paths, names, shapes and shares, each as its type."""
    paths = ("--images", "a", "--labels", "b", "--test-images", "c", "--test-labels", "d")
    others = (
        "--label-names",
        "x,y",
        "--label-column",
        "kind",
        "--shape",
        "2x8",
        "--size",
        "9x7",
        "--test-share",
        "0.5",
    )
    _, received = run(*paths, *others, "--max-unreadable", "0.25")
    assert received["images"] == DataOptions(
        images=Path("a"),
        labels=Path("b"),
        test_images=Path("c"),
        test_labels=Path("d"),
        label_names=("x", "y"),
        label_column="kind",
        shape=(2, 8, 1),
        size=(9, 7),
        test_share=0.5,
        max_unreadable=0.25,
    )


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (("--size", "28"), ExitCode.USAGE),
        (("--test-share", "1"), ExitCode.USAGE),
        (("--max-unreadable", "2"), ExitCode.USAGE),
        (("--label-names", "names-that-are-not-there.txt"), ExitCode.DATA_SET_UNAVAILABLE),
    ],
)
def test_an_unusable_option_ends_with_its_exit_code(arguments: tuple[str, ...], code: ExitCode) -> None:
    """And with a line that says which."""
    result, _ = run(*arguments)
    assert result.exit_code == code
    assert result.stderr.splitlines()[-1].startswith("Error: ")


def test_the_options_are_described_in_their_order() -> None:
    """Help names each, images first."""
    shown = run("--help")[0].output
    names = ["--images", "--labels", "--test-images", "--label-names", "--size", "--shape", "--test-share"]
    assert [shown.index(f"  {name} ") for name in names] == sorted(shown.index(f"  {name} ") for name in names)


def test_a_share_is_set_aside_where_no_test_images_are_named(archive: Path) -> None:
    """And the notes say so."""
    chosen = data_set_from(DataOptions(images=archive, test_share=0.25), seed=3)
    assert (len(chosen.data_set.train), len(chosen.data_set.test)) == (44, 16)
    first, second = chosen.notes
    assert first.startswith("44 images of 4x4x1 to train on and 16 to test with, of 2 labels, the commonest 1.0 times")
    assert second == "No test images are named: 16 of 60 images were set aside as such."


def test_test_images_are_read_with_the_training_images_labels(archive: Path, tmp_path: Path) -> None:
    """Ids are those of the training set, whatever the test set holds."""
    np.savez(tmp_path / "t.npz", x=PIXELS[:3], y=np.ones(3, int))
    data_set = data_set_from(DataOptions(images=archive, test_images=tmp_path / "t.npz")).data_set
    assert (len(data_set.train), data_set.test.labels.tolist()) == (60, [1, 1, 1])
    np.savez(tmp_path / "t.npz", x=PIXELS[:3], y=np.full(3, 5))
    with pytest.raises(DataSetUnavailable, match="none of the 2 known"):
        data_set_from(DataOptions(images=archive, test_images=tmp_path / "t.npz"))
    np.savez(tmp_path / "t.npz", x=PIXELS[:3, :2], y=np.ones(3, int))
    with pytest.raises(DataSetUnavailable, match="images of 2x4x1, those to train on are 4x4x1"):
        data_set_from(DataOptions(images=archive, test_images=tmp_path / "t.npz"))


def test_an_archive_of_both_parts_is_its_own_test_set(tmp_path: Path) -> None:
    """Nothing is set aside of the images to train on."""
    np.savez(tmp_path / "x.npz", x_train=PIXELS[:50], y_train=IDS[:50], x_test=PIXELS[50:], y_test=IDS[50:])
    chosen = data_set_from(DataOptions(images=tmp_path / "x.npz"))
    assert (len(chosen.data_set.train), len(chosen.data_set.test)) == (50, 10)
    assert len(chosen.notes) == 1


def test_what_is_left_out_and_rare_is_noted(tmp_path: Path) -> None:
    """Labels with few images, and unreadable pictures, the first ten of them by name."""
    folder = write_pictures(tmp_path / "x", 8)
    for number in range(12):
        (folder / "Bag" / f"bad-{number:02}.png").touch()
    first, rare, *left = data_set_from(DataOptions(images=folder, max_unreadable=0.9)).notes[:-1]
    assert first.startswith("12 images of 4x4x1 to train on and 4 to test with")
    assert rare.startswith("2 of 2 labels have fewer than 20 images")
    assert len(left) == 11
    assert f"{folder}/Bag/bad-00.png is no picture that can be read" in left[0]
    assert left[-1] == f"Left out: 2 more pictures of {folder}."


def test_fashion_mnist_is_the_data_set_where_no_images_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Read from the folder named, as ever."""
    split = Split(PIXELS[..., np.newaxis], IDS)
    monkeypatch.setattr(module, "load_data_set", lambda named: DataSet(split, split, str(named)))
    chosen = data_set_from(DataOptions(), data=tmp_path)
    assert (chosen.data_set.source, chosen.notes) == (str(tmp_path), ())


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"labels": Path("y")}, "--labels belongs to --images"),
        ({"test_images": Path("x")}, "--test-images belongs to --images"),
        ({"images": Path("x"), "test_labels": Path("y")}, "--test-labels belongs to --test-images"),
    ],
)
def test_options_that_belong_together_are_named_together(given: dict[str, Path], words: str) -> None:
    """Nothing that was said is ignored."""
    with pytest.raises(click.UsageError, match=words):
        data_set_from(DataOptions(**given))  # type: ignore[arg-type] # paths all


def test_images_are_read_for_a_model(archive: Path, tmp_path: Path) -> None:
    """With its labels' ids and in its shape, gray as RGB where it takes RGB."""
    found = read_for(("0", "1", "2"), (4, 4, 1), archive)
    assert (len(found.split), found.labels) == (60, ("0", "1", "2"))
    folder = write_pictures(tmp_path / "gray", 2)
    assert read_for(("Coat", "Bag"), (4, 4, 3), folder).split.labels.tolist() == [1, 1, 0, 0]
    assert read_for(("Coat", "Bag"), (4, 4, 3), folder).shape == (4, 4, 3)
    (tmp_path / "x.csv").write_text("label,pixel0,pixel1\nBag,1,2\n")
    assert read_for(("Bag", "Coat"), (2, 1, 1), tmp_path / "x.csv").shape == (2, 1, 1)


def test_images_that_do_not_fit_a_model_are_refused(tmp_path: Path) -> None:
    """Another size, colour for gray, labels it does not know, or rows of another length."""
    folder = write_pictures(tmp_path / "rgb", 1, mode="RGB", side=6)
    with pytest.raises(DataSetUnavailable, match=r"6x6x3, the model takes 4x4x3 .*--size 4x4"):
        read_for(("Bag", "Coat"), (4, 4, 3), folder)
    assert read_for(("Bag", "Coat"), (4, 4, 3), folder, size=(4, 4)).shape == (4, 4, 3)
    with pytest.raises(DataSetUnavailable, match="make them gray"):
        read_for(("Bag", "Coat"), (6, 6, 1), folder)
    with pytest.raises(DataSetUnavailable, match=r"the label 'Coat', which is none of the 2 known \(Bag, Hat\)"):
        read_for(("Bag", "Hat"), (6, 6, 3), folder)
    (tmp_path / "x.csv").write_text("label,pixel0\nBag,1\n")
    with pytest.raises(DataSetUnavailable, match="has 1 pixel columns, images of 4x4x1 need 16"):
        read_for(("Bag", "Coat"), (4, 4, 1), tmp_path / "x.csv")
