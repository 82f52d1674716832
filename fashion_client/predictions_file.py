"""A CSV file of predictions: a response's rows whole or not at all, and one console goes on where another ended."""

from __future__ import annotations

import csv
import errno
import fcntl
import io
import os
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from fashion_client.answered_batches import AnsweredBatch
from handoff.contracts.errors import SettingsInvalid

HEADING = b"request_id,image_id,label_id,label,probability\r\n"

# Longer than any row: an id has 1,024 characters at most, of four bytes each or a quote that is doubled.
_TAIL_BYTES = 64 * 1024

Save = Callable[[AnsweredBatch], None]


@contextmanager
def open_predictions(path: Path) -> Iterator[Save]:
    """Open a file for every prediction; what is there already stays, for its responses are acked.

    Raises: SettingsInvalid: it cannot be written, holds something else, or another console writes it
    """
    with _writing(path):
        file = path.open("ab", buffering=0)
    with file:
        with _writing(path):
            _claim(file, path)
            if not _keep_whole_rows(file, path):
                _append(file, HEADING)

        def save(answered: AnsweredBatch) -> None:
            rows = _rows(answered)
            with _writing(path):
                _append(file, rows)  # its response is acked next, and does not come again

        yield save


def _rows(answered: AnsweredBatch) -> bytes:
    found, text = answered.predictions, io.StringIO(newline="")
    best = found.probabilities.max(axis=1).astype(float).round(6)
    columns = (found.image_ids, found.label_ids.tolist(), found.labels, best.tolist())
    csv.writer(text).writerows((answered.request_id, *row) for row in zip(*columns, strict=True))
    return text.getvalue().encode()


def _claim(file: io.FileIO, path: Path) -> None:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:  # file systems that cannot lock say something else
        if _size_bytes(file) is not None and error.errno in {errno.EWOULDBLOCK, errno.EAGAIN, errno.EACCES}:
            raise SettingsInvalid(f"Another console writes its predictions to {path}; name another file.") from error


def _keep_whole_rows(file: io.FileIO, path: Path) -> int:
    """Cut off the row in whose middle a console ended; how many bytes there are then."""
    size_bytes = _size_bytes(file)
    if not size_bytes:
        return 0
    with path.open("rb") as there:
        if not HEADING.startswith(there.read(len(HEADING))):
            raise SettingsInvalid(f"{path} is there already and holds no predictions; name another file.")
        there.seek(max(0, size_bytes - _TAIL_BYTES))
        tail = there.read()
    whole_bytes = size_bytes - len(tail) + tail.rfind(b"\n") + 1
    file.truncate(whole_bytes)
    return whole_bytes


def _append(file: io.FileIO, data: bytes) -> None:
    before_bytes, rest = _size_bytes(file), memoryview(data)
    try:
        while rest:
            rest = rest[file.write(rest) :]
    except OSError:
        if before_bytes is not None:
            with suppress(OSError):
                file.truncate(before_bytes)
        raise


def _size_bytes(file: io.FileIO) -> int | None:
    """How large a file is; None for a pipe or a device."""
    status = os.fstat(file.fileno())
    return status.st_size if stat.S_ISREG(status.st_mode) else None


@contextmanager
def _writing(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise SettingsInvalid(f"The predictions cannot be written to {path}: {error.strerror}.") from error
