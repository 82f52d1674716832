"""The object store that is a folder: `file:///abs/folder` or `file:rel/folder`.

An object is written beside the others under a hidden name, flushed, then linked to its own name, which fails when the
name is taken: a reader, or a crash, sees a whole object or none.
"""

from __future__ import annotations

import os
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from handoff.adapters import local_path
from handoff.contracts.errors import (
    PayloadForbidden,
    PayloadNotFound,
    PayloadTooLarge,
    SettingsInvalid,
    StoreUnavailable,
)
from handoff.contracts.protocols import ObjectInfo
from handoff.stores.address import key_below, prefix_below

# Below the root, out of every URI's reach.
PARTIAL_FOLDER = ".partial"

# How the file system says that nothing of that name is an object.
_NO_OBJECT = (FileNotFoundError, IsADirectoryError, NotADirectoryError)

# A partial file this old belongs to a writer that died.
PARTIAL_LIFE_S = 86_400.0


def connect(url: str) -> FileStore:
    """Use the folder a URL names; it is made by the first object written.

    Raises: SettingsInvalid: the URL names no folder
    """
    path = local_path(url)
    if path is None:
        raise SettingsInvalid(f"The store URL {url!r} names no folder; use file:///absolute/path.")
    return FileStore(Path(os.path.realpath(path)))


class FileStore:
    """Objects as files below one folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.root = f"file://{folder}"

    def declare(self) -> list[str]:
        """Make the folder, and clear what writers that died left behind."""
        with _translated_errors(self.root):
            made = not self._folder.exists()
            partials = self._folder / PARTIAL_FOLDER
            partials.mkdir(parents=True, exist_ok=True)
            for path in partials.iterdir():
                if path.stat().st_mtime < time.time() - PARTIAL_LIFE_S:
                    path.unlink(missing_ok=True)
        return [f"Created folder {self._folder}."] if made else []

    def read(self, uri: str, *, max_bytes: int) -> bytes:
        """Read a whole object, its size first."""
        path = self._path(uri)
        with _translated_errors(uri), _opened(path, uri) as file:
            size = os.fstat(file.fileno()).st_size
            if size > max_bytes:
                raise PayloadTooLarge(f"The object {uri} has {size} bytes; at most {max_bytes} are read.")
            return file.read(max_bytes)

    def create(self, uri: str, data: bytes) -> bool:
        """Write an object unless one is there; flushed to the disk before it gets its name."""
        path = self._path(uri)
        with _translated_errors(uri):
            _make_folders(self._folder / PARTIAL_FOLDER)
            partial = self._folder / PARTIAL_FOLDER / uuid.uuid4().hex
            try:
                _write_flushed(partial, data)
                _make_folders(path.parent)
                os.link(partial, path)
            except FileExistsError:
                return False
            finally:
                partial.unlink(missing_ok=True)
            _flush_folder(path.parent)
        return True

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        """List the objects whose URI begins with `prefix`, in the order of their URIs."""
        beginning = prefix_below(self.root, prefix)
        folder = self._folder / beginning.rpartition("/")[0]
        with _translated_errors(prefix):
            for path in sorted(folder.rglob("*"), key=lambda found: found.relative_to(self._folder).as_posix()):
                key = path.relative_to(self._folder).as_posix()
                if key.startswith(beginning) and not key.startswith(PARTIAL_FOLDER) and path.is_file():
                    with suppress(FileNotFoundError):  # gone meanwhile
                        yield ObjectInfo(uri=f"{self.root}/{key}", size_bytes=path.stat().st_size)

    def delete(self, uri: str) -> None:
        """Remove an object, and its folder when that leaves it empty."""
        path = self._path(uri)
        with _translated_errors(uri):
            with suppress(*_NO_OBJECT):
                path.unlink()
            if path.parent != self._folder:
                with suppress(OSError):
                    path.parent.rmdir()

    def _path(self, uri: str) -> Path:
        key = key_below(self.root, uri)
        path = self._folder / key
        if key.startswith(PARTIAL_FOLDER) or not Path(os.path.realpath(path)).is_relative_to(self._folder):
            raise PayloadForbidden(f"The address {uri!r} leads outside the store {self.root}.")
        return path


@contextmanager
def _translated_errors(uri: str) -> Iterator[None]:
    """Turn the file system's errors into this project's."""
    try:
        yield
    except OSError as error:
        raise StoreUnavailable(f"The store could not serve {uri}: {error.strerror}.") from error


def _opened(path: Path, uri: str) -> BinaryIO:
    try:
        return path.open("rb")
    except _NO_OBJECT as error:
        raise PayloadNotFound(f"There is no object at {uri}.") from error


def _write_flushed(path: Path, data: bytes) -> None:
    with path.open("xb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def _make_folders(folder: Path) -> None:
    """Make a folder and those above it; each new name is flushed, so that no crash loses a folder with its objects."""
    if folder.is_dir():
        return
    _make_folders(folder.parent)
    with suppress(FileExistsError):
        folder.mkdir()
    _flush_folder(folder.parent)


def _flush_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
