"""The object store that is a folder: `file:///abs/folder` or `file:rel/folder`.

An object is written beside the others under a hidden name, flushed, then linked to its own name, which fails when the
name is taken: a reader, or a crash, sees a whole object or none.
"""

from __future__ import annotations

import io
import itertools
import os
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from handoff.adapters import local_path
from handoff.contracts.errors import (
    PayloadForbidden,
    PayloadNotFound,
    PayloadTooLarge,
    SettingsInvalid,
    StoreUnavailable,
)
from handoff.contracts.protocols import ObjectInfo, Removed
from handoff.durability import flush_folder, write_flushed
from handoff.stores.address import key_below, prefix_below
from handoff.stores.file_places import open_object, opened_folder
from handoff.stores.file_sweep import sweep_folder, sweep_lock

# Below the root, out of every URI's reach.
PARTIAL_FOLDER = ".partial"

# How the file system says that nothing of that name is an object.
_NO_OBJECT = (FileNotFoundError, IsADirectoryError, NotADirectoryError)

# A partial file this old belongs to a writer that died.
PARTIAL_LIFE_S = 86_400.0

# Among the partial files: locked by the process that sweeps, holding the time of the last sweep.
SWEEP_LOCK = "sweep"

# Two are enough unless a folder is swept away, being empty, each time between its making and its first object.
FOLDER_ATTEMPTS = 4


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

    def declare(self, *, retention_s: float | None = None) -> list[str]:
        """Make the folder, and clear what writers that died left behind; what is old goes by `sweep`."""
        del retention_s
        with _translated_errors(self.root):
            made = not self._folder.exists()
            (self._folder / PARTIAL_FOLDER).mkdir(parents=True, exist_ok=True)
            self._clear_partials(now=time.time())
        return [f"Created folder {self._folder}."] if made else []

    def read(self, uri: str, *, max_bytes: int) -> bytes:
        """Read a whole object, its size first."""
        path = self._path(uri)
        with _translated_errors(uri), self._opened(path, uri) as file:
            size = os.fstat(file.fileno()).st_size
            if size > max_bytes:
                raise PayloadTooLarge(f"The object {uri} has {size} bytes; at most {max_bytes} are read.")
            # An object never changes: one read takes it all, and none is made to see that it has ended.
            return _read_exactly(file, size)

    def create(self, uri: str, data: bytes) -> bool:
        """Write an object unless one is there; flushed to the disk before it gets its name."""
        path = self._path(uri)
        partial = self._folder / PARTIAL_FOLDER / uuid.uuid4().hex
        with _translated_errors(uri):
            try:
                _in_folder(partial.parent, lambda: write_flushed(partial, data))
                _in_folder(path.parent, lambda: self._give_name(partial, path))
            except FileExistsError:
                return False
            finally:
                partial.unlink(missing_ok=True)
        return True

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        """List the objects whose URI begins with `prefix`, in the order of their URIs."""
        beginning = prefix_below(self.root, prefix)
        above, slash, _ = beginning.rpartition("/")
        if not self._is_inside(self._folder / above):
            return
        with _translated_errors(prefix):
            for key in _keys(self._folder, above + slash, beginning=beginning):
                with suppress(FileNotFoundError):  # gone meanwhile
                    yield ObjectInfo(uri=f"{self.root}/{key}", size_bytes=(self._folder / key).stat().st_size)

    def delete(self, uri: str) -> None:
        """Remove an object, and its folder when that leaves it empty."""
        path = self._path(uri)
        with _translated_errors(uri):
            with suppress(*_NO_OBJECT), opened_folder(path.parent, folder=self._folder) as above:
                os.unlink(path.name, dir_fd=above)
            if path.parent != self._folder:
                with suppress(OSError):
                    path.parent.rmdir()

    def sweep(
        self, *, older_than_s: float, now: float, period_s: float = 0.0, dry_run: bool = False
    ) -> Iterator[Removed]:
        """Remove requests and results whose newest object is older, a slice at each step, and old partial files."""
        partials = self._folder / PARTIAL_FOLDER
        if not partials.is_dir():
            return
        with _translated_errors(self.root), sweep_lock(partials / SWEEP_LOCK) as lock:
            if lock.swept_within(period_s, now=now):
                return
            # Who asks for it at once sees what goes, and is not kept from it.
            if period_s and lock.was_put_forward(now=now, older_than_s=older_than_s):
                return
            yield from sweep_folder(self._folder, before=now - older_than_s, dry_run=dry_run)
            if not dry_run:
                self._clear_partials(now=now)
                lock.note(now=now)

    def _clear_partials(self, *, now: float) -> None:
        for path in (self._folder / PARTIAL_FOLDER).iterdir():
            with suppress(FileNotFoundError):  # finished meanwhile
                if path.name != SWEEP_LOCK and path.stat().st_mtime < now - PARTIAL_LIFE_S:
                    path.unlink()

    def _opened(self, path: Path, uri: str) -> io.FileIO:
        try:
            return open_object(path, folder=self._folder)
        except _NO_OBJECT as error:
            raise PayloadNotFound(f"There is no object at {uri}.") from error

    def _give_name(self, partial: Path, path: Path) -> None:
        with opened_folder(path.parent, folder=self._folder) as above:
            os.link(partial, path.name, dst_dir_fd=above)
            os.fsync(above)

    def _path(self, uri: str) -> Path:
        key = key_below(self.root, uri)
        path = self._folder / key
        if key.startswith(PARTIAL_FOLDER) or not self._is_inside(path):
            raise PayloadForbidden(f"The address {uri!r} leads outside the store {self.root}.")
        return path

    def _is_inside(self, path: Path) -> bool:
        """Whether a path below the folder stays there, whatever symbolic links lie in between."""
        names = path.relative_to(self._folder).parts
        steps = itertools.accumulate(names, Path.joinpath, initial=self._folder)
        if any(step.is_symlink() for step in steps):
            return Path(os.path.realpath(path)).is_relative_to(self._folder)
        return True


def _keys(root: Path, folder: str, *, beginning: str) -> Iterator[str]:
    """Yield the keys below a folder (`""` or ending in a slash) in their order; the names of one folder are held."""
    names = []
    with suppress(*_NO_OBJECT), os.scandir(root / folder) as entries:
        for entry in entries:
            # With its slash a folder stands where its objects do: `a-b/1` comes before `a/1`.
            key = folder + entry.name + "/" * entry.is_dir(follow_symlinks=False)
            wanted = key.startswith(beginning) or (key.endswith("/") and beginning.startswith(key))
            if wanted and not key.startswith(PARTIAL_FOLDER) and (key.endswith("/") or entry.is_file()):
                names.append(key)
    for key in sorted(names):
        if key.endswith("/"):
            yield from _keys(root, key, beginning=beginning)
        else:
            yield key


@contextmanager
def _translated_errors(uri: str) -> Iterator[None]:
    """Turn the file system's errors into this project's."""
    try:
        yield
    except OSError as error:
        raise StoreUnavailable(f"The store could not serve {uri}: {error.strerror}.") from error


def _in_folder(folder: Path, write: Callable[[], None]) -> None:
    """Write something into a folder, which is made where it is missing."""
    for attempts_left in reversed(range(FOLDER_ATTEMPTS)):
        try:
            write()
            return
        except FileNotFoundError:
            if not attempts_left:
                raise
            _make_folders(folder)


def _read_exactly(file: io.FileIO, size: int) -> bytes:
    data = file.read(size) or b""
    while len(data) < size and (more := file.read(size - len(data))):
        data += more
    return data


def _make_folders(folder: Path) -> None:
    """Make a folder and those above it; each new name is flushed, so that no crash loses a folder with its objects."""
    if folder.is_dir():
        return
    _make_folders(folder.parent)
    with suppress(FileExistsError):
        folder.mkdir()
    flush_folder(folder.parent)
