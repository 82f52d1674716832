"""Where files go when they leave a watched folder: over nothing, in whole, and not another in their place."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import msgspec
import pytest

from fashion_client import watch_places
from fashion_client.watch_folders import Folders
from fashion_client.watch_moves import Moves
from fashion_client.watch_places import free_name, make_folders, place
from fashion_client.watch_plan import WatchedFile
from fashion_client.watch_scan import Identity, identify
from tests.watching import files_below

SHA256_OF_X = "2d711642b726b04401627ca9fbac32f5c8530fb1903cc4db02258717921a4881"


@pytest.fixture
def folders(tmp_path: Path) -> Folders:
    """The three folders."""
    for name in ("in", "out", "unreadable"):
        (tmp_path / name).mkdir()
    return Folders(tmp_path / "in", tmp_path / "out", tmp_path / "unreadable")


@pytest.fixture
def apart(monkeypatch: pytest.MonkeyPatch) -> None:
    """The folders lie on different file systems."""
    rename = Path.rename

    def rename_within(path: Path, target: Path) -> Path:
        if path.parent != Path(target).parent:
            raise OSError(errno.EXDEV, os.strerror(errno.EXDEV))
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", rename_within)


def known(path: Path) -> Identity:
    """What a file that is there is known by."""
    found = identify(path)
    assert found is not None
    return found


def watched_file(path: Path) -> WatchedFile:
    """A file that holds an x, as it was published."""
    size_bytes, mtime_ns, inode = known(path)
    return WatchedFile(
        name=path.name, size_bytes=size_bytes, mtime_ns=mtime_ns, inode=inode, sha256=SHA256_OF_X, destination=path.name
    )


@pytest.mark.usefixtures("apart")
def test_a_file_goes_to_another_file_system(folders: Folders) -> None:
    """Copied whole, with its time, under its name at once; nothing else is left on either side."""
    path = folders.input / "a.png"
    path.write_bytes(b"x")
    os.utime(path, ns=(1, 1_234_567_890_123))
    target = folders.published / "sub" / "a.png"
    assert place(path, target, folder=folders.published, identity=known(path))
    assert (target.read_bytes(), target.stat().st_mtime_ns) == (b"x", 1_234_567_890_123)
    assert [each.name for each in target.parent.iterdir()] == ["a.png"]
    assert list(folders.input.iterdir()) == []


def test_a_file_really_goes_to_another_file_system(folders: Folders) -> None:
    """The same with a memory file system, where there is one."""
    shared = Path("/dev/shm")  # noqa: S108 - another file system, in most places
    if not shared.is_dir() or shared.stat().st_dev == folders.input.stat().st_dev:
        pytest.skip("no second file system")
    path, elsewhere = folders.input / "a.png", shared / f"fashion-{os.getpid()}"
    path.write_bytes(b"x")
    elsewhere.mkdir()
    try:
        assert place(path, elsewhere / "a.png", folder=elsewhere, identity=known(path))
        assert files_below(elsewhere) == {"a.png": b"x"}
        assert list(folders.input.iterdir()) == []
    finally:
        for each in elsewhere.iterdir():
            each.unlink()
        elsewhere.rmdir()


@pytest.mark.usefixtures("apart")
def test_a_copy_is_not_made_twice_when_the_first_file_cannot_be_removed(
    folders: Folders, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is seen to be there, as after a crash, and only the removal is tried again."""
    path = folders.input / "a.png"
    path.write_bytes(b"x")
    file, moves = watched_file(path), Moves(folders)
    with monkeypatch.context() as patched:
        patched.setattr(watch_places, "withdraw", lambda *_: (_ for _ in ()).throw(PermissionError(13, "no")))
        with pytest.raises(PermissionError):
            moves.move(file, resumed=False)
    assert moves.move(file, resumed=True) == "moved"
    assert files_below(folders.published) == {"a.png": b"x"}
    assert list(folders.input.iterdir()) == []


@pytest.mark.parametrize("is_apart", [True, False])
def test_nothing_is_overwritten(folders: Folders, request: pytest.FixtureRequest, *, is_apart: bool) -> None:
    """A name that is taken at the last moment is refused."""
    if is_apart:
        request.getfixturevalue("apart")
    path, target = folders.input / "a.png", folders.published / "a.png"
    path.write_bytes(b"x")
    target.write_bytes(b"other")
    with pytest.raises(FileExistsError):
        place(path, target, folder=folders.published, identity=known(path))
    assert (path.read_bytes(), files_below(folders.published)) == (b"x", {"a.png": b"other"})
    assert len(list(folders.published.iterdir())) == 1


@pytest.mark.parametrize("is_apart", [True, False])
def test_what_takes_a_files_place_at_the_last_moment_goes_back(
    folders: Folders, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest, *, is_apart: bool
) -> None:
    """Between the look at a file and its new name, somebody renames another one over it."""
    if is_apart:
        request.getfixturevalue("apart")
    path = folders.input / "a.png"
    path.write_bytes(b"x")
    (folders.input / ".b").write_bytes(b"other")
    rename, others = Path.rename, iter([folders.input / ".b"])

    def rename_late(source: Path, target: Path) -> Path:
        if source == path and target.parent == (folders.input if is_apart else folders.published):
            for other in others:
                rename(other, path)
        return rename(source, target)

    identity = known(path)
    monkeypatch.setattr(Path, "rename", rename_late)
    # Where the file was copied before, the copy is what was read of it.
    assert place(path, folders.published / "a.png", folder=folders.published, identity=identity) == is_apart
    assert files_below(folders.input) == {"a.png": b"other"}
    assert files_below(folders.published) == ({"a.png": b"x"} if is_apart else {})


@pytest.mark.usefixtures("apart")
def test_a_file_that_changes_while_it_is_copied_stays(folders: Folders, monkeypatch: pytest.MonkeyPatch) -> None:
    """And leaves no copy."""
    path = folders.input / "a.png"
    path.write_bytes(b"x")
    copy = watch_places.shutil.copy2

    def copy_slowly(source: Path, target: Path, **options: bool) -> object:
        copied = copy(source, target, **options)
        source.write_bytes(b"longer")
        return copied

    monkeypatch.setattr(watch_places.shutil, "copy2", copy_slowly)
    assert not place(path, folders.published / "a.png", folder=folders.published, identity=known(path))
    assert path.read_bytes() == b"longer"
    assert list(folders.published.iterdir()) == []


def test_a_free_name_is_found_without_counting_from_the_start(
    folders: Folders, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A thousand pictures of one name cost a look or two each."""
    looks, exists = [0], os.path.lexists

    def counted(path: Path) -> bool:
        looks[0] += 1
        return exists(path)

    monkeypatch.setattr(os.path, "lexists", counted)
    moves = Moves(folders)
    for number in range(200):
        path = folders.input / "a.png"
        path.write_bytes(b"x")
        target = moves.condemn("a.png", known(path), f"reason {number}")
        assert target == folders.unreadable / ("a.png" if not number else f"a-{number + 1}.png")
    assert looks[0] <= 200 * 3
    assert (folders.unreadable / "a-200.png.reason.txt").read_text() == "reason 199\n"
    assert free_name(folders.unreadable, "sub/b.png", reserved={"sub/b.png", "sub/b-2.png"}) == ("sub/b-3.png", 3)


def test_a_name_that_leaves_no_room_for_its_reason(folders: Folders) -> None:
    """The file goes; the log alone says why."""
    path = folders.input / f"{'a' * 250}.png"
    path.write_bytes(b"x")
    assert Moves(folders).condemn(path.name, known(path), "reason") == folders.unreadable / path.name
    assert files_below(folders.unreadable) == {path.name: b"x"}


def test_a_condemned_file_that_changes_stays(folders: Folders) -> None:
    """And no reason is left."""
    path = folders.input / "a.png"
    path.write_bytes(b"x")
    identity = known(path)
    path.write_bytes(b"whole")
    assert Moves(folders).condemn("a.png", identity, "reason") is None
    assert files_below(folders.input) == {"a.png": b"whole"}
    assert files_below(folders.unreadable) == {}


def test_a_folder_that_is_gone_is_not_made_anew(folders: Folders) -> None:
    """A disk that is not mounted would hide what was written in its place."""
    folders.published.rmdir()
    with pytest.raises(FileNotFoundError):
        make_folders(folders.published / "sub", below=folders.published)
    assert not folders.published.exists()


def test_inodes_that_go_with_names_are_no_sign_of_change(folders: Folders, monkeypatch: pytest.MonkeyPatch) -> None:
    """Some file systems number anew what is renamed; else such a file would be published for ever."""
    path = folders.input / "a.png"
    path.write_bytes(b"x")
    identity, numbers = known(path), iter(range(10, 20))
    file = watched_file(path)

    def identify_anew(path: Path) -> Identity | None:
        found = identify(path)
        return found if found is None or path.parent == folders.input else found._replace(inode=next(numbers))

    monkeypatch.setattr(watch_places, "identify", identify_anew)
    assert identity == file.identity
    assert Moves(folders).move(file, resumed=False) == "moved"
    assert files_below(folders.published) == {"a.png": b"x"}


def test_a_folder_whose_name_a_file_has_gets_a_number(folders: Folders) -> None:
    """In the folder of the published and in that of the unreadable: no file becomes a folder, nor is one waited for."""
    for folder in (folders.published, folders.unreadable):
        (folder / "a.png").write_text("a file")
    source = folders.input / "a.png" / "b" / "x.png"
    source.parent.mkdir(parents=True)
    moves = Moves(folders)
    for text, name in (("x", "a.png-2/b/x.png"), ("y", "a.png-2/b/x-2.png")):
        source.write_text(text)
        assert moves.condemn("a.png/b/x.png", known(source), "no picture") == folders.unreadable / name
        source.write_text(text)
        file = moves.elsewhere(msgspec.structs.replace(watched_file(source), name="a.png/b/x.png"))
        assert file.destination == name
        assert moves.move(file, resumed=False) == "moved"
        assert (folders.published / name).read_text() == text
    assert free_name(folders.published, "c/x.png", reserved={"c"}) == ("c-2/x.png", 1)


@pytest.mark.parametrize("stem", ["a" * 251, "é" * 125])
def test_the_longest_names_are_shortened_for_a_number(folders: Folders, stem: str) -> None:
    """A name that no file can have would be tried for ever."""
    (folders.published / f"{stem}.png").write_text("a file")
    for number in (2, 3):
        name, _ = free_name(folders.published, f"{stem}.png", reserved=())
        assert name == f"{stem[: 249 if stem[0] == 'a' else 124]}-{number}.png"
        (folders.published / name).write_text("a file")
