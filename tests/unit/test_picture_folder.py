"""A folder of pictures: none twice, none over another, each whole or not at all."""

from __future__ import annotations

import errno
import itertools
import os
import threading
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as Picture

from fashion_client import picture_folder
from fashion_client.picture_folder import NamedPicture, PictureFolder
from handoff.contracts.errors import SettingsInvalid

RNG = np.random.default_rng(11)
PIXELS = RNG.integers(0, 256, (8, 5, 4, 1), np.uint8)
COLORS = RNG.integers(0, 256, (3, 5, 4, 3), np.uint8)


def pictures(*places: int, name: str = "a", label: str = "Bag") -> list[NamedPicture]:
    """Some of the pictures, all of one name."""
    return [NamedPicture(PIXELS[place], name, label) for place in places]


def add(folder: Path, *runs: Sequence[NamedPicture]) -> PictureFolder:
    """Add each run of pictures."""
    with PictureFolder(folder) as opened:
        for run in runs:
            opened.add(run)
    return opened


def names(folder: Path) -> list[str]:
    """Every file of a folder, hidden ones too."""
    return sorted(path.name for path in folder.iterdir())


def pixels(path: Path) -> np.ndarray:
    """What a file shows, gray with its one channel."""
    with Picture.open(path) as picture:
        found = np.asarray(picture)
    return found[..., None] if found.ndim == 2 else found


def test_gray_and_colour_come_back_pixel_by_pixel(tmp_path: Path) -> None:
    """Gray as gray, three channels as RGB."""
    add(tmp_path / "out", pictures(0), [NamedPicture(COLORS[0], "b", "Coat")])
    assert names(tmp_path / "out") == ["a-Bag.png", "b-Coat.png"]
    assert np.array_equal(pixels(tmp_path / "out/a-Bag.png"), PIXELS[0])
    assert np.array_equal(pixels(tmp_path / "out/b-Coat.png"), COLORS[0])


def test_another_picture_of_the_same_name_gets_a_number(tmp_path: Path) -> None:
    """In the same batch or in a later one; none is lost."""
    add(tmp_path, pictures(0, 1), pictures(2))
    assert names(tmp_path) == ["a-2-Bag.png", "a-3-Bag.png", "a-Bag.png"]
    for name, place in (("a", 0), ("a-2", 1), ("a-3", 2)):
        assert np.array_equal(pixels(tmp_path / f"{name}-Bag.png"), PIXELS[place])


def test_the_same_picture_again_adds_nothing(tmp_path: Path) -> None:
    """In one batch, in a later one, in a second run and in another order."""
    first = add(tmp_path, pictures(0, 1, 0), pictures(1, 2))
    assert (first.added_count, first.known_count) == (3, 2)
    before = {name: (tmp_path / name).stat().st_mtime_ns for name in names(tmp_path)}
    second = add(tmp_path, pictures(2, 1), pictures(0))
    assert (second.added_count, second.known_count) == (0, 3)
    assert {name: (tmp_path / name).stat().st_mtime_ns for name in names(tmp_path)} == before


def test_the_same_picture_is_known_whoever_encoded_it(tmp_path: Path) -> None:
    """Pixels count, not the bytes of the file: another release of the encoder makes others."""
    Picture.fromarray(PIXELS[0][..., 0]).save(tmp_path / "a-Bag.png", compress_level=0)
    assert add(tmp_path, pictures(0)).added_count == 0


def test_sizes_and_colours_are_told_apart(tmp_path: Path) -> None:
    """Whatever order they come in: bytes of another shape are another picture."""
    wide = NamedPicture(PIXELS[0].reshape(4, 5, 1), "a", "Bag")
    for run in ([wide, *pictures(0)], [*pictures(0), wide]):
        add(tmp_path, run)
    assert names(tmp_path) == ["a-2-Bag.png", "a-Bag.png"]


@pytest.mark.parametrize("what", ["folder", "link", "text", "palette"])
def test_what_is_no_such_picture_is_left_alone(tmp_path: Path, what: str) -> None:
    """The next number is taken."""
    place = tmp_path / "a-Bag.png"
    match what:
        case "folder":
            place.mkdir()
        case "link":
            place.symlink_to(tmp_path / "nowhere")
        case "text":
            place.write_text("mine")
        case "palette":
            Picture.new("P", (4, 5)).save(place)
    for _ in range(2):
        add(tmp_path, pictures(0))
    assert names(tmp_path) == ["a-2-Bag.png", "a-Bag.png"]


def test_a_name_that_looks_numbered_takes_nobodys_place(tmp_path: Path) -> None:
    """An image may well be called a-2."""
    add(tmp_path, pictures(0, name="a-2"), pictures(1), pictures(2))
    assert names(tmp_path) == ["a-2-Bag.png", "a-3-Bag.png", "a-Bag.png"]
    assert np.array_equal(pixels(tmp_path / "a-3-Bag.png"), PIXELS[2])


def test_two_consoles_on_one_folder_lose_nothing(tmp_path: Path) -> None:
    """Each of their pictures is there once, though all have one name."""
    with PictureFolder(tmp_path) as one, PictureFolder(tmp_path) as other:
        runs = [
            threading.Thread(target=folder.add, args=(pictures(*places),))
            for folder, places in ((one, (0, 1, 2, 3, 4)), (other, (4, 3, 2, 5, 6, 7)))
        ]
        for run in runs:
            run.start()
        for run in runs:
            run.join()
    found = {pixels(path).tobytes() for path in tmp_path.iterdir()}
    assert found == {image.tobytes() for image in PIXELS}
    assert len(names(tmp_path)) == len(PIXELS)
    assert one.added_count + other.added_count == len(PIXELS)


def test_what_is_forgotten_is_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Memory is bounded, and nothing comes twice for it."""
    monkeypatch.setattr(picture_folder, "REMEMBERED_PICTURES", 2)
    runs = [pictures(place, name=name) for place in (0, 1) for name in "abcdef"]
    folder = add(tmp_path, *runs, *runs)
    assert (folder.added_count, folder.known_count) == (12, 12)
    assert folder._remembered <= 4


def test_a_full_disk_is_a_sentence_and_leaves_nothing_half_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was written before stays, and the rest comes when there is room."""
    written, written_before = picture_folder.write_flushed, itertools.count()

    def fill_up(path: Path, data: bytes) -> None:
        if next(written_before) >= 5:
            path.write_bytes(data[:9])
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        written(path, data)

    monkeypatch.setattr(picture_folder, "write_flushed", fill_up)
    monkeypatch.setattr(picture_folder, "_TOGETHER", 2)
    with (
        PictureFolder(tmp_path) as folder,
        pytest.raises(SettingsInvalid, match=r"cannot be written to .*: No space left on device; make room"),
    ):
        folder.add(pictures(*range(8)))
    assert names(tmp_path) == ["a-2-Bag.png", "a-3-Bag.png", "a-4-Bag.png", "a-Bag.png"]
    monkeypatch.undo()
    assert add(tmp_path, pictures(*range(8))).added_count == 4


def test_a_crash_leaves_no_name_without_its_picture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Names are given when everything is on the disk; what a dead writer left goes when it is old."""

    class Killed(BaseException):
        pass

    def die(*_: object, **__: object) -> None:
        raise Killed

    with PictureFolder(tmp_path) as folder:
        monkeypatch.setattr(picture_folder.os, "link", die)
        monkeypatch.setattr(Path, "unlink", die)  # a killed process clears nothing up
        with pytest.raises(Killed):
            folder.add(pictures(0))
    monkeypatch.undo()
    (left,) = names(tmp_path)
    assert left.startswith(".fashion-")
    add(tmp_path, pictures(0))
    assert len(names(tmp_path)) == 2  # it may be another console's
    os.utime(tmp_path / left, (0, 0))
    add(tmp_path, pictures(0))
    assert names(tmp_path) == ["a-Bag.png"]


def test_a_folder_that_cannot_be_made_is_a_sentence(tmp_path: Path) -> None:
    """Before anything is received."""
    (tmp_path / "file").touch()
    with pytest.raises(SettingsInvalid, match=r"cannot be written to .*file/x: Not a directory"):
        PictureFolder(tmp_path / "file/x").__enter__()
