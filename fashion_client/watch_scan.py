"""What lies in a watched folder: names of pictures, and by what a file is known to be the same still."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from fashion_client.watch_outages import Notices
from handoff.contracts.errors import FolderUnavailable
from handoff.image_files.kinds import PICTURE_ENDINGS

_ENDINGS = tuple(PICTURE_ENDINGS)


class Identity(NamedTuple):
    """What changes when a file is written to, or another takes its name."""

    size_bytes: int
    mtime_ns: int
    inode: int


def identity_of(status: os.stat_result) -> Identity | None:
    """What a file is known by; None where it is no plain file."""
    if not stat.S_ISREG(status.st_mode):
        return None
    return Identity(status.st_size, status.st_mtime_ns, status.st_ino)


def identify(path: Path) -> Identity | None:
    """Look at a file; None where there is none of that name. Symbolic links are no files.

    Raises: OSError: the folder does not answer
    """
    try:
        return identity_of(os.lstat(path))
    except (FileNotFoundError, NotADirectoryError):
        return None


def find_names(folder: Path, *, pass_over: Callable[[OSError], None]) -> set[str]:
    """Name the pictures of a folder and its sub-folders, below it; hidden ones and links are left out.

    Only names are read: a look at each of 100,000 files takes longer. A sub-folder that cannot be looked into is left
    to `pass_over`.

    Raises: FolderUnavailable: the folder itself cannot be looked into
    """
    names: set[str] = set()
    waiting = [""]
    while waiting:
        above = waiting.pop()
        try:
            _look_into(folder, above, names, waiting)
        except OSError as error:
            if not above:
                raise FolderUnavailable(
                    f"The folder {folder} cannot be looked into: {error.strerror}; is it there, and allowed?"
                ) from error
            if not isinstance(error, FileNotFoundError):  # gone meanwhile
                pass_over(error)
    return names


class Lookout:
    """Looks into a folder every so often; no more than half of the time, however many files lie there."""

    def __init__(self, folder: Path, *, period_s: float, notices: Notices, clock: Callable[[], float]) -> None:
        self._folder = folder
        self._period_s = period_s
        self._notices = notices
        self._clock = clock
        self.due_at = clock()

    def look(self) -> set[str] | None:
        """Name the pictures that are there; None where it is not time yet.

        Raises: FolderUnavailable
        """
        began_at = self._clock()
        if began_at < self.due_at:
            return None
        try:
            return find_names(self._folder, pass_over=self._pass_over)
        finally:
            ended_at = self._clock()
            self.due_at = ended_at + max(self._period_s, ended_at - began_at)

    def _pass_over(self, error: OSError) -> None:
        self._notices.begin(str(error.filename), f"{error.filename} is passed over: {error.strerror}.")


def _look_into(folder: Path, above: str, names: set[str], folders: list[str]) -> None:
    with os.scandir(folder / above) as entries:
        if not os.access(folder / above, os.X_OK):  # its names can be read, and none of what they stand for
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(folder / above))
        for entry in entries:
            if entry.name.startswith("."):
                continue
            if entry.is_dir(follow_symlinks=False):
                folders.append(f"{above}{entry.name}/")
            # What is written under another name first (.tmp, .part) has no such ending yet.
            elif entry.name.lower().endswith(_ENDINGS) and entry.is_file(follow_symlinks=False):
                names.add(above + entry.name)
