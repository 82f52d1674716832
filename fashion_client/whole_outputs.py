"""Files and folders that get their names together, when all are whole; until then they lie under hidden ones."""

from __future__ import annotations

import gzip
import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path
from types import TracebackType
from typing import IO, Self, TypeVar, cast

from handoff.contracts.errors import SettingsInvalid
from handoff.durability import flush_folder

T = TypeVar("T")


class WholeOutputs:
    """A `with` block at whose end everything opened in it is on the disk under its name, or nothing is there.

    What a killed process leaves begins with `.fashion-` and ends with `.partial`.
    """

    def __init__(self, *, overwrite: bool = False) -> None:
        self._overwrite = overwrite
        self._stack = ExitStack()
        self._files: list[tuple[IO[bytes], Path, Path]] = []
        self._folders: list[tuple[Path, Path]] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._stack:
            if error is None:
                self._name_all()

    def open(self, path: Path) -> IO[bytes]:
        """Open a file to be written and read, which is named at the end.

        Raises: SettingsInvalid: it is there already and not to be replaced, or cannot be made
        """
        self._refuse(path)
        partial = _partial(path)
        file = self._opened(partial, path)
        self._files.append((file, partial, path))
        return file

    def open_scratch(self, path: Path) -> IO[bytes]:
        """Open a file beside `path`, which goes at the end.

        Raises: SettingsInvalid: it cannot be made
        """
        return self._opened(_partial(path), path)

    def open_packed(self, path: Path, *, level: int) -> IO[bytes]:
        """Open a file that is packed with gzip while it is written; the same content makes the same bytes.

        Raises: as `open`
        """
        file = gzip.GzipFile(filename="", mode="wb", compresslevel=level, fileobj=self.open(path), mtime=0)
        packed = cast("IO[bytes]", file)
        self._stack.callback(_close, packed)
        return packed

    def make_folder(self, path: Path) -> Path:
        """Make a folder under another name; it is named at the end.

        Raises: SettingsInvalid: something is there already, were it to be replaced or not, or it cannot be made
        """
        if path.is_dir() and any(path.iterdir()):
            raise SettingsInvalid(f"The folder {path} holds files already; name a new one, or an empty one.")
        if path.is_symlink() or (not path.is_dir() and os.path.lexists(path)):
            raise SettingsInvalid(f"{path} is no folder; name a new one.")
        if path.is_dir() and path.samefile(Path.cwd()):  # whoever stands in it would see nothing of a new one
            raise SettingsInvalid(f"The folder {path} is the one that this runs in; name a new one in it.")
        partial = _partial(path)
        with refusals(path):
            partial.mkdir()
        self._stack.callback(shutil.rmtree, partial, ignore_errors=True)
        self._folders.append((partial, path))
        return partial

    def enter(self, context: AbstractContextManager[T]) -> T:
        """Enter a context that is left before anything is removed."""
        return self._stack.enter_context(context)

    def _opened(self, partial: Path, path: Path) -> IO[bytes]:
        with refusals(path):
            file = partial.open("x+b")
        self._stack.callback(partial.unlink, missing_ok=True)
        self._stack.callback(_close, file)
        return file

    def _refuse(self, path: Path) -> None:
        if path.is_dir():
            raise SettingsInvalid(f"{path} is a folder; name a file.")
        if path.exists() and not path.is_file():  # the name of a device or a pipe would be taken from it
            raise SettingsInvalid(f"{path} is no plain file; name another.")
        if os.path.lexists(path) and not self._overwrite:
            raise SettingsInvalid(f"{path} is there already; name another file, or replace it with --overwrite.")

    def _name_all(self) -> None:
        for file, _, path in self._files:
            with refusals(path):
                file.flush()
                os.fsync(file.fileno())
        for _, partial, path in self._files:
            self._refuse(path)  # it may have come meanwhile
            _name(partial, path)
        for partial, path in self._folders:
            _name(partial, path)


@contextmanager
def refusals(path: Path) -> Iterator[None]:
    """Say in a sentence why an output cannot be written.

    Raises: SettingsInvalid
    """
    try:
        yield
    except OSError as error:
        reason = error.strerror or error
        raise SettingsInvalid(f"{path} cannot be written: {reason}; make room, or name another place.") from error


def _partial(path: Path) -> Path:
    if not path.parent.is_dir():
        raise SettingsInvalid(f"There is no folder {path.parent} to write {path.name} in; make it first.")
    return path.with_name(f".fashion-{uuid.uuid4().hex}.partial")


def _name(partial: Path, path: Path) -> None:
    with refusals(path):
        partial.replace(path)
        flush_folder(path.parent)


def _close(file: IO[bytes]) -> None:
    try:
        file.close()
    except OSError:  # what it could not write goes with it: a disk that is full has been told of
        return
