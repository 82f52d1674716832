"""Opening what a store's folder holds, and looking where it really lies once it is open.

A look at the path beforehand says what was there then; whoever may write into the folder can put a link in its place a
moment later. What is open cannot be exchanged any more.
"""

from __future__ import annotations

import io
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from handoff.contracts.errors import PayloadForbidden

# Where Linux says what a descriptor stands for; elsewhere the path is looked at once more.
_DESCRIPTORS = "/proc/self/fd"


def open_object(path: Path, *, folder: Path) -> io.FileIO:
    """Open a file below a folder for reading.

    Raises: PayloadForbidden: it lies elsewhere; FileNotFoundError: what lies there is no file; OSError
    """
    # Without O_NONBLOCK a pipe would hold the thread until somebody writes into it.
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    try:
        _demand_inside(descriptor, path, folder)
        _demand_file(descriptor, path)
    except BaseException:
        os.close(descriptor)
        raise
    return io.FileIO(descriptor)


@contextmanager
def opened_folder(path: Path, *, folder: Path) -> Iterator[int]:
    """Open a folder below, or the same as, another one: names made or removed through the descriptor stay in there.

    Raises: PayloadForbidden: it lies elsewhere; OSError
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        _demand_inside(descriptor, path, folder)
        yield descriptor
    finally:
        os.close(descriptor)


def _demand_file(descriptor: int, path: Path) -> None:
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        raise FileNotFoundError(f"{path} is no file")


def _demand_inside(descriptor: int, path: Path, folder: Path) -> None:
    try:
        place = os.readlink(f"{_DESCRIPTORS}/{descriptor}")  # noqa: PTH115 - as text: made for every object
    except OSError:
        place = os.path.realpath(path)
    if place != str(folder) and not place.startswith(f"{folder}/"):
        raise PayloadForbidden(f"The address {str(path)!r} leads outside the store {folder}.")
