"""The three folders of `fashion watch`: where images appear, where they go once they are published, and where else."""

from __future__ import annotations

import errno
import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import permutations
from pathlib import Path

from handoff.contracts.errors import DataSetUnavailable, SettingsInvalid

UNREADABLE = "unreadable"
"""The third folder's name, beside the published one, where none is given."""


@dataclass(frozen=True)
class Folders:
    """Where images appear, where they go once they are published, and where those go that are no pictures."""

    input: Path
    published: Path
    unreadable: Path


def prepare_folders(input: Path, published: Path, unreadable: Path | None) -> Folders:  # noqa: A002 - the flag's name
    """Check the folders and make the two that files are moved to where they are missing.

    Raises: DataSetUnavailable: nothing to watch; SettingsInvalid: one lies in another, or cannot be written
    """
    if not input.is_dir():
        raise DataSetUnavailable(f"There is no folder {input} to watch; make it, or name another as --input.")
    beside = Path(os.path.abspath(published)).parent / UNREADABLE  # noqa: PTH100 - of the name that was given
    real = (Path(os.path.realpath(path)) for path in (input, published, unreadable or beside))
    folders = Folders(*real)
    _refuse_nested(folders)
    for path, flag in ((folders.published, "--published"), (folders.unreadable, "--unreadable")):
        _make(path, flag)
    for path, flag in ((folders.input, "--input"), (folders.published, "--published"), (folders.unreadable, "")):
        if not os.access(path, os.R_OK | os.W_OK | os.X_OK):
            raise SettingsInvalid(
                f"The folder {path} cannot be written; files are moved from --input to --published and --unreadable:"
                f" allow it, or name another{f' as {flag}' if flag else ' as --unreadable'}."
            )
    return folders


@contextmanager
def watching(folder: Path) -> Iterator[None]:
    """Keep other watchers from a folder while the block runs.

    Raises: SettingsInvalid: another process watches it
    """
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        if not _lock(descriptor):
            raise SettingsInvalid(f"Another process watches {folder}; end it first, or watch another folder.")
        yield
    finally:
        os.close(descriptor)


def _lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        # Network file systems that lock no folders say something else; there the journal's lock has to do.
        return error.errno not in {errno.EWOULDBLOCK, errno.EAGAIN, errno.EACCES}
    return True


def _refuse_nested(folders: Folders) -> None:
    flags = {"--input": folders.input, "--published": folders.published, "--unreadable": folders.unreadable}
    if folders.published == folders.unreadable:
        raise SettingsInvalid(f"--unreadable is {folders.published}, as --published is; name another folder.")
    for (flag, path), (above_flag, above) in permutations(flags.items(), 2):
        if "--input" in {flag, above_flag} and path.is_relative_to(above):
            raise SettingsInvalid(
                f"{flag} ({path}) lies in {above_flag} ({above}), so that what is moved there would be taken again;"
                " name folders beside each other."
            )


def _make(path: Path, flag: str) -> None:
    try:
        path.mkdir(exist_ok=True)
    except OSError as error:
        raise SettingsInvalid(
            f"The folder {path} cannot be made ({error.strerror}); make it, or name another as {flag}."
        ) from error
