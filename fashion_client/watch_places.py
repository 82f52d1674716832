"""Moving one file to where nothing is overwritten: by its name within a file system, else by a copy and its end.

A file is compared with what was read of it right before, and once more after it got its new name: what took its place
in between goes back.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import shutil
from collections.abc import Container, Iterator
from contextlib import contextmanager, suppress
from itertools import chain, count
from pathlib import Path, PurePosixPath

from fashion_client.watch_scan import Identity, identify
from handoff.durability import flush_folder

# ext4, XFS and APFS allow as many (NAME_MAX).
MAX_NAME_BYTES = 255


def free_name(folder: Path, name: str, *, reserved: Container[str], first: int = 2) -> tuple[str, int]:
    """A name below a folder that nothing has: the file's own, else `photo-2.png` and so on from `first`; its number."""
    path = _below_folders(folder, PurePosixPath(name), reserved)
    if path.as_posix() not in reserved and not os.path.lexists(folder / path):
        return path.as_posix(), 1
    for number in count(first):
        other = path.with_name(_numbered(path, number)).as_posix()
        if other not in reserved and not os.path.lexists(folder / other):
            return other, number
    raise AssertionError  # numbers do not end


def place(source: Path, target: Path, *, folder: Path, identity: Identity) -> bool:
    """Move a file to a place below a folder; False where the file is another now.

    Raises: FileExistsError: the place was taken meanwhile; OSError
    """
    make_folders(target.parent, below=folder)
    try:
        with _free(target, folder=folder):
            return _take_away(source, target, identity)
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
    return _carry_over(source, target, folder=folder, identity=identity)


def withdraw(source: Path, identity: Identity) -> None:
    """Remove a file whose copy is safe elsewhere, unless it is another now."""
    hidden = _hidden(source, "moved")
    if _take_away(source, hidden, identity):
        hidden.unlink()


def make_folders(folder: Path, *, below: Path) -> None:
    """Make the folders between two; not the upper one, which may be a disk that is not there just now.

    Raises: OSError
    """
    if not below.is_dir():
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(below))
    for each in reversed([path for path in (folder, *folder.parents) if path.is_relative_to(below)]):
        if not each.is_dir():
            each.mkdir(exist_ok=True)
            flush_folder(each.parent)


def digest_of(path: Path) -> str | None:
    """The SHA-256 of a file's bytes; None where there is none of that name.

    Raises: OSError
    """
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
        return None


def _below_folders(folder: Path, path: PurePosixPath, reserved: Container[str]) -> PurePosixPath:
    """The same name, where each folder above it is one or can be made; one whose name a file has gets a number."""
    found = PurePosixPath()
    for part in path.parent.parts:
        others = (found / f"{part}-{number}" for number in count(2))
        found = next(
            each
            for each in chain([found / part], others)
            if each.as_posix() not in reserved and (os.path.isdir(folder / each) or not os.path.lexists(folder / each))  # noqa: PTH112 - raises nothing
        )
    return found / path.name


def _numbered(path: PurePosixPath, number: int) -> str:
    """A file's name with a number, of at most the bytes that a name may have."""
    ending = f"-{number}{path.suffix}"
    stem, most_bytes = os.fsencode(path.stem), MAX_NAME_BYTES - len(os.fsencode(ending))
    return (path.stem if len(stem) <= most_bytes else stem[:most_bytes].decode(errors="ignore")) + ending


def _take_away(source: Path, target: Path, identity: Identity) -> bool:
    if identify(source) != identity:
        return False
    source.rename(target)
    found = identify(target)
    # Without the inode: on some file systems it goes with the name.
    if found is not None and found[:2] == identity[:2]:
        return True
    back, _ = free_name(source.parent, source.name, reserved=())
    target.rename(source.parent / back)
    return False


def _carry_over(source: Path, target: Path, *, folder: Path, identity: Identity) -> bool:
    """Move a file to another file system; a crash leaves it in one place or in both, whole in each."""
    partial = _hidden(target, "part")
    try:
        shutil.copy2(source, partial, follow_symlinks=False)
        with partial.open("rb") as file:
            os.fsync(file.fileno())
        if identify(source) != identity:
            return False
        with _free(target, folder=folder):
            partial.rename(target)
    finally:
        with suppress(FileNotFoundError):
            partial.unlink()
    flush_folder(target.parent)
    withdraw(source, identity)
    return True


@contextmanager
def _free(target: Path, *, folder: Path) -> Iterator[None]:
    """Keep other watchers from a folder, where its file system can, while a name that is free there is taken."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        with suppress(OSError):
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        if os.path.lexists(target):
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(target))
        yield
    finally:
        os.close(descriptor)


def _hidden(path: Path, ending: str) -> Path:
    """A name beside a file's that no look at a folder finds, the same each time and never too long."""
    return path.with_name(f".{hashlib.sha256(os.fsencode(path.name)).hexdigest()[:32]}.{ending}")
