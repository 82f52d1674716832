"""What the folder store does beyond what every store must: links, partial files, a disk that fails."""

from __future__ import annotations

import errno
import os
import socket
from pathlib import Path

import pytest

from handoff.contracts.errors import PayloadForbidden, PayloadNotFound, SettingsInvalid, StoreUnavailable
from handoff.stores import file
from handoff.stores.file import PARTIAL_FOLDER, PARTIAL_LIFE_S, FileStore, connect


@pytest.fixture
def store(tmp_path: Path) -> FileStore:
    """A store in a folder of the test's own."""
    return connect(f"file://{tmp_path}/store")


def fail_with(number: int) -> OSError:
    """An error of the operating system."""
    return OSError(number, os.strerror(number))


@pytest.mark.parametrize("url", ["file:", "file:///", "file://", "file://host/folder", "file://folder"])
def test_a_url_that_names_no_folder_is_refused(url: str) -> None:
    """The root of the file system and another machine's folder are no stores."""
    with pytest.raises(SettingsInvalid, match="names no folder; use file:///absolute/path"):
        connect(url)


def test_a_relative_folder_lies_below_the_caller(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The root says where it is in full, for other programs read it elsewhere."""
    monkeypatch.chdir(tmp_path)
    assert connect("file:var/store").root == f"file://{tmp_path}/var/store"


@pytest.mark.parametrize("name", ["c#", "what?", "a b", "50%41", "ünï"])
def test_any_folder_name_will_do(tmp_path: Path, name: str) -> None:
    """What means something in a web address means nothing here."""
    store = connect(f"file://{tmp_path}/{name}/store")
    assert store.create(f"{store.root}/x", b"here")
    assert (tmp_path / name / "store" / "x").read_bytes() == b"here"
    assert [each.uri for each in store.list(store.root)] == [f"{store.root}/x"]


def test_a_link_that_leads_outside_is_refused(store: FileStore, tmp_path: Path) -> None:
    """Neither a linked file nor anything below a linked folder is read, written, removed."""
    (tmp_path / "secret").write_bytes(b"secret")
    store.create(f"{store.root}/a/x", b"x")
    inside = tmp_path / "store"
    (inside / "folder").symlink_to(tmp_path)
    (inside / "a" / "file").symlink_to(tmp_path / "secret")
    for key in ("folder/secret", "a/file", "folder/new"):
        with pytest.raises(PayloadForbidden, match="leads outside"):
            store.read(f"{store.root}/{key}", max_bytes=10)
        with pytest.raises(PayloadForbidden):
            store.create(f"{store.root}/{key}", b"x")
        with pytest.raises(PayloadForbidden):
            store.delete(f"{store.root}/{key}")
    assert (tmp_path / "secret").read_bytes() == b"secret"


def test_a_link_made_after_the_look_is_seen_too(
    store: FileStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is opened is looked at again: the path may lead elsewhere by then."""
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "secret").write_bytes(b"secret")
    store.declare()
    (tmp_path / "store" / "a").symlink_to(outside)
    monkeypatch.setattr(FileStore, "_is_inside", lambda *_: True)  # as it was a moment ago
    with pytest.raises(PayloadForbidden, match="leads outside"):
        store.read(f"{store.root}/a/secret", max_bytes=10)
    with pytest.raises(PayloadForbidden, match="leads outside"):
        store.create(f"{store.root}/a/new", b"x")
    with pytest.raises(PayloadForbidden, match="leads outside"):
        store.delete(f"{store.root}/a/secret")
    assert [path.name for path in outside.iterdir()] == ["secret"]


def test_a_link_within_the_store_is_followed(store: FileStore, tmp_path: Path) -> None:
    """It leads to an object like any other."""
    store.create(f"{store.root}/a/x", b"here")
    (tmp_path / "store" / "b").symlink_to(tmp_path / "store" / "a")
    assert store.read(f"{store.root}/b/x", max_bytes=10) == b"here"


@pytest.mark.parametrize("kind", ["pipe", "socket", "folder"])
def test_what_is_no_file_is_no_object(store: FileStore, tmp_path: Path, kind: str) -> None:
    """Nobody waits for a pipe's writer; a socket cannot be opened at all, which may be better later."""
    store.declare()
    path = tmp_path / "store" / "x"
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    else:
        with socket.socket(socket.AF_UNIX) as bound:
            bound.bind(str(path))
    with pytest.raises(StoreUnavailable if kind == "socket" else PayloadNotFound):
        store.read(f"{store.root}/x", max_bytes=10)


def test_a_store_behind_a_link_is_where_the_link_leads(tmp_path: Path) -> None:
    """The folder itself may be linked to; both names mean the same objects."""
    (tmp_path / "real").mkdir()
    (tmp_path / "linked").symlink_to(tmp_path / "real")
    store = connect(f"file://{tmp_path}/linked")
    assert store.root == f"file://{tmp_path}/real"
    assert store.create(f"{store.root}/x", b"1")


def test_a_folder_that_became_a_link_is_left(tmp_path: Path) -> None:
    """The store is the folder that it was when it was opened."""
    store = connect(f"file://{tmp_path}/store")
    store.create(f"{store.root}/a", b"data")
    (tmp_path / "store").rename(tmp_path / "elsewhere")
    (tmp_path / "store").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(PayloadForbidden):
        store.read(f"{store.root}/a", max_bytes=10)


def test_partial_files_are_out_of_reach(store: FileStore, tmp_path: Path) -> None:
    """What is being written is neither listed nor readable, by any address."""
    store.declare()
    (tmp_path / "store" / PARTIAL_FOLDER / "half").write_bytes(b"half")
    assert list(store.list(store.root)) == []
    with pytest.raises(PayloadForbidden):
        store.read(f"{store.root}/{PARTIAL_FOLDER}/half", max_bytes=10)


def test_declaring_clears_what_dead_writers_left(store: FileStore, tmp_path: Path) -> None:
    """A partial file a day old is removed, a fresh one stays."""
    store.declare()
    old, fresh = (tmp_path / "store" / PARTIAL_FOLDER / name for name in ("old", "fresh"))
    for path in (old, fresh):
        path.write_bytes(b"half")
    long_ago = fresh.stat().st_mtime - PARTIAL_LIFE_S - 60
    os.utime(old, (long_ago, long_ago))
    store.declare()
    assert (old.exists(), fresh.exists()) == (False, True)


@pytest.mark.parametrize("number", [errno.EROFS, errno.ENOSPC, errno.EACCES, errno.EIO])
def test_a_disk_that_fails_may_do_better_later(
    store: FileStore, tmp_path: Path, number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A write that fails is worth another attempt, and leaves nothing behind."""

    def refuse(*_: object, **__: object) -> None:
        raise fail_with(number)

    store.declare()
    monkeypatch.setattr(file.os, "link", refuse)
    with pytest.raises(StoreUnavailable, match=os.strerror(number)):
        store.create(f"{store.root}/x", b"data")
    assert [path for path in (tmp_path / "store").rglob("*") if path.is_file()] == []
    monkeypatch.undo()
    assert store.create(f"{store.root}/x", b"data") is True


def test_a_store_that_cannot_be_made_is_no_missing_object(tmp_path: Path) -> None:
    """A file in the place of the store's folder is the store's fault, not the request's."""
    (tmp_path / "file").write_bytes(b"")
    store = connect(f"file://{tmp_path}/file/store")
    with pytest.raises(StoreUnavailable):
        store.create(f"{store.root}/x", b"data")
    with pytest.raises(StoreUnavailable):
        store.declare()


def test_an_object_in_the_place_of_a_folder_is_the_stores_fault(store: FileStore) -> None:
    """Writing below an object fails as a whole; reading below it finds nothing; removing does nothing."""
    store.create(f"{store.root}/a", b"object")
    with pytest.raises(StoreUnavailable):
        store.create(f"{store.root}/a/b", b"data")
    with pytest.raises(PayloadNotFound):
        store.read(f"{store.root}/a/b", max_bytes=10)
    store.delete(f"{store.root}/a/b")
    assert store.read(f"{store.root}/a", max_bytes=10) == b"object"


def test_deleting_a_folder_does_nothing(store: FileStore) -> None:
    """Only objects can be deleted."""
    store.create(f"{store.root}/a/b", b"data")
    store.delete(f"{store.root}/a")
    assert store.read(f"{store.root}/a/b", max_bytes=10) == b"data"


def test_an_object_that_goes_during_a_listing_is_left_out(
    store: FileStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Others may delete while one lists."""
    for name in ("a", "b"):
        store.create(f"{store.root}/{name}", b"x")
    real, gone = Path.stat, tmp_path / "store" / "a"

    def stat(path: Path, **options: bool) -> os.stat_result:
        if path == gone:
            raise fail_with(errno.ENOENT)
        return real(path, **options)

    monkeypatch.setattr(Path, "stat", stat)
    assert [each.uri for each in store.list(store.root)] == [f"{store.root}/b"]
