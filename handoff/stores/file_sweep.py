"""Removing what is old from a folder of objects: a slice at a time, by one process of a machine at a time."""

from __future__ import annotations

import fcntl
import logging
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import msgspec

from handoff.boot import boot_id, since_boot_s
from handoff.contracts.errors import StoreUnavailable
from handoff.contracts.objects import REQUESTS_FOLDER, RESULTS_FOLDER
from handoff.contracts.protocols import Removed

# Requests looked at between two pauses of the caller: a few milliseconds.
SLICE = 64

# A calendar that was put forward by less makes nothing old, for workers keep objects an hour longer than they must.
JUMP_S = 3_600.0

# In the lock's file: the time of the last sweep, then what is known of the calendar.
_SWEPT_AT_BYTES, _SEEN_BYTES = 32, 256

NOTHING = Removed()

_log = logging.getLogger(__name__)


class Found(NamedTuple):
    """A file and what the file system says of it."""

    mtime: float
    path: Path
    size_bytes: int


class Seen(NamedTuple):
    """What calendar and clock showed at the last look, and until when the calendar makes nothing old."""

    boot_id: str = ""
    since_boot_s: float = 0.0
    date: float = 0.0
    kept_until: float = 0.0


_decoder = msgspec.json.Decoder(Seen)


class SweepLock:
    """Held by the one process that sweeps; remembers when a sweep was last finished, and what the calendar said."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def swept_within(self, period_s: float, *, now: float) -> bool:
        """Say whether a sweep was finished so short a time ago; one in the future was another clock's."""
        written = os.pread(self._descriptor, _SWEPT_AT_BYTES, 0).strip(b"\0")
        return 0 <= now - float(written or "-inf") < period_s

    def was_put_forward(self, *, now: float, older_than_s: float) -> bool:
        """Say whether the calendar jumped ahead since this start of the machine, and objects are older by it than true.

        Everything is kept then for as long as what was written before could still be wanted.
        """
        seen, this_boot, awake_s = self._seen(), boot_id(), since_boot_s()
        jump_s = (now - seen.date) - (awake_s - seen.since_boot_s)
        kept_until = min(seen.kept_until, now + older_than_s)
        if this_boot and seen.boot_id == this_boot and jump_s > JUMP_S:
            kept_until = now + older_than_s
            _log.warning("the calendar was put forward by %.0f s: nothing is swept for %.0f s", jump_s, older_than_s)
        seen = Seen(this_boot, awake_s, now, kept_until)
        os.pwrite(self._descriptor, msgspec.json.encode(seen).ljust(_SEEN_BYTES), _SWEPT_AT_BYTES)
        return now < kept_until

    def note(self, *, now: float) -> None:
        """Remember that a sweep was finished."""
        os.pwrite(self._descriptor, f"{now:.3f}".ljust(_SWEPT_AT_BYTES).encode(), 0)

    def _seen(self) -> Seen:
        try:
            return _decoder.decode(os.pread(self._descriptor, _SEEN_BYTES, _SWEPT_AT_BYTES))
        except msgspec.DecodeError:  # an older version's file, or a new one
            return Seen()


@contextmanager
def sweep_lock(path: Path) -> Iterator[SweepLock]:
    """Hold the lock while sweeping; it goes with the process, however that ends.

    Raises: StoreUnavailable: another process sweeps
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise StoreUnavailable("Another process is sweeping the store; try again when it is done.") from error
        yield SweepLock(descriptor)
    finally:
        os.close(descriptor)


def sweep_folder(folder: Path, *, before: float, dry_run: bool) -> Iterator[Removed]:
    """Remove requests and results whose newest object is older than `before`; what each slice removed.

    Raises: OSError: something could not be removed; raised at the end, when all the rest was
    """
    failures: list[OSError] = []
    for kind in (REQUESTS_FOLDER, RESULTS_FOLDER):
        if not (folder / kind).is_dir():
            continue
        with os.scandir(folder / kind) as entries:
            while looked_at := list(islice(entries, SLICE)):
                removed = [_swept(entry, before=before, dry_run=dry_run, failures=failures) for entry in looked_at]
                yield Removed(
                    object_count=sum(each.object_count for each in removed),
                    size_bytes=sum(each.size_bytes for each in removed),
                )
    if failures:
        raise failures[0]


def _swept(entry: os.DirEntry[str], *, before: float, dry_run: bool, failures: list[OSError]) -> Removed:
    try:
        # Objects are created once and never written again: a folder that nothing was put into since holds none newer.
        if entry.stat(follow_symlinks=False).st_mtime >= before:
            return NOTHING
        if entry.is_dir(follow_symlinks=False):
            return _sweep_request(Path(entry.path), before=before, dry_run=dry_run)
        return _remove([found for found in [_look_at(Path(entry.path))] if found], dry_run=dry_run)
    except FileNotFoundError:  # somebody else removed it just now
        return NOTHING
    except OSError as error:
        failures.append(error)
        return NOTHING


def _sweep_request(path: Path, *, before: float, dry_run: bool) -> Removed:
    files: list[Found] = []
    folders: list[Path] = []
    for above, _, names in os.walk(path, topdown=False):
        folders.append(Path(above))
        files += [found for name in names if (found := _look_at(Path(above, name)))]
    if any(found.mtime >= before for found in files):
        return NOTHING
    removed = _remove(files, dry_run=dry_run)
    if not dry_run:
        for folder in folders:
            with suppress(OSError):  # no longer empty, or never was: a link is left alone
                folder.rmdir()
    return removed


def _remove(files: list[Found], *, dry_run: bool) -> Removed:
    # The youngest first: without its response, which was stored last, a result is one that was not finished.
    for found in sorted(files, reverse=True):
        if not dry_run:
            found.path.unlink()
    return Removed(object_count=len(files), size_bytes=sum(found.size_bytes for found in files))


def _look_at(path: Path) -> Found | None:
    about = path.lstat()
    return Found(about.st_mtime, path, about.st_size) if stat.S_ISREG(about.st_mode) else None
