"""The output of a bulk classification: rows in input order, and what is needed to go on after a crash.

Rows are appended and flushed to the disk, then the progress file says how far they count, then the batches' objects are
deleted from the store. Whatever lies between two of these steps at a crash is done again: rows beyond what counts are
cut off, objects of batches that count are deleted once more.
"""

from __future__ import annotations

import csv
import fcntl
import io
import os
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from contextlib import ExitStack, suppress
from pathlib import Path
from types import TracebackType
from typing import IO, Self

from msgspec.structs import replace

from fashion_client.bulk_batches import Origin, Place
from fashion_client.bulk_progress_file import JobProgress, remove_progress, write_progress
from fashion_client.bulk_rows import Rows
from handoff.contracts.errors import FashionError, SettingsInvalid
from handoff.contracts.messages import AnalysisResponse, FailureReason

# Commits are as frequent as waits for the service, and at least one in so many batches.
MOST_UNCOMMITTED = 8

_FAILED_HEADER = "file,first_image,last_image,code,message\n"

# Images by label and by model.
_NOTHING: tuple[Counter[str], Counter[str]] = (Counter(), Counter())

Delete = Callable[[range], Future[None]]
"""Deletes the objects of these batches."""


class OutputFile:
    """A file that this process alone appends to; a crash costs what was appended since the last flush."""

    def __init__(self, path: Path, file: IO[bytes], *, length: int) -> None:
        """`open` makes one."""
        self._path = path
        self._file = file
        self.length = self._flushed_length = length

    @classmethod
    def open(cls, path: Path, *, length: int) -> Self:
        """Open a file, cut to the length that counts, or make it.

        Raises: SettingsInvalid: it cannot be written, is shorter, or another process writes it
        """
        try:
            file = os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT, 0o666), "r+b")
        except OSError as error:
            raise SettingsInvalid(f"The predictions cannot be written to {path}: {error.strerror}.") from error
        try:
            _take(file, path, length)
        except BaseException:
            file.close()
            raise
        return cls(path, file, length=length)

    def first_line(self) -> bytes:
        """What stands in the first line, with its end."""
        self._file.seek(0)
        line = self._file.readline()
        self._file.seek(self.length)
        return line

    def append(self, data: bytes) -> None:
        """Write at the end; it counts as written only when all of it was.

        Raises: SettingsInvalid: the disk does not take it
        """
        try:
            self._file.write(data)
        except OSError as error:
            raise self._refuse(error) from error
        self.length += len(data)

    def flush(self) -> None:
        """Return when the disk has everything.

        Raises: SettingsInvalid: it does not take it
        """
        if self._flushed_length == self.length:
            return
        try:
            self._file.flush()
            os.fsync(self._file.fileno())
            self._flushed_length = self.length
        except OSError as error:
            raise self._refuse(error) from error

    def close(self) -> None:
        """Close the file; what was not flushed may be lost."""
        self._file.close()

    def _refuse(self, error: OSError) -> SettingsInvalid:
        return SettingsInvalid(
            f"The predictions cannot be written to {self._path}: {error.strerror};"
            " make room, then the same command goes on from there."
        )


class BulkOutput:
    """The predictions of a job, the list of its failed batches, and its progress."""

    def __init__(self, path: Path, progress: JobProgress, *, delete: Delete) -> None:
        """Name the file; `with` opens it. `delete` is told of batches that are complete."""
        self.progress = progress
        """As it was last written, with what was appended since."""
        self.failed_path = path.with_name(f"{path.name}.failed.csv")
        self._path = path
        self._delete = delete
        self._deleting: Future[None] | None = None
        self._uncommitted = 0
        self._header = b""
        self._answered = _NOTHING

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            progress = self.progress
            self._rows = OutputFile.open(self._path, length=progress.output_bytes)
            stack.callback(self._rows.close)
            self._failed = OutputFile.open(self.failed_path, length=progress.failed_bytes)
            stack.callback(self._failed.close)
            self._header = self._rows.first_line()
            write_progress(self._path, progress)
            self._clear(progress.batches)
            self._opened = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._opened:
            if error is not None:
                with suppress(FashionError):  # the error that ends the job is the one to be told
                    self.commit()
            if not self._failed.length:
                self.failed_path.unlink(missing_ok=True)

    def append(self, rows: Rows, response: AnalysisResponse, *, count: int) -> None:
        """Add the rows of a batch of `count` images; they count once it is complete and committed."""
        self._rows.append(rows.lines if self._header else rows.header + rows.lines)
        self._header = rows.header
        model = f"{response.model.name}:{response.model.version}" if response.model else "unknown"
        self._answered = (Counter(response.label_counts), Counter({model: count}))

    def fits(self, rows: Rows) -> bool:
        """Whether rows have the columns of those before them."""
        return self._header in {b"", rows.header}

    def complete(
        self, failed: Sequence[tuple[Origin, FailureReason]], *, is_failed: bool, images: int, end: Place
    ) -> None:
        """End a batch that took `images` images of the inputs, up to `end`; those that failed are listed."""
        if failed:
            self._list(failed)
        labels, models = self._answered
        self._answered = _NOTHING
        done = self.progress
        self.progress = replace(
            done,
            next_input=end.input,
            next_position=end.position,
            batches=done.batches + 1,
            images=done.images + images,
            output_bytes=self._rows.length,
            failed_bytes=self._failed.length,
            failed_batches=done.failed_batches + is_failed,
            failed_images=done.failed_images + sum(origin.count for origin, _ in failed),
            labels=dict(Counter(done.labels) + labels),
            models=dict(Counter(done.models) + models),
        )
        self._uncommitted += 1
        if self._uncommitted >= MOST_UNCOMMITTED:
            self.commit()

    def commit(self) -> None:
        """Make what was appended count.

        Raises: SettingsInvalid: the disk does not take it; StoreUnavailable: objects could not be deleted
        """
        if not self._uncommitted:
            return
        self._rows.flush()
        self._failed.flush()
        self._settle_deletion()
        write_progress(self._path, self.progress)
        self._uncommitted = 0
        self._clear(self.progress.batches)

    def finish(self) -> JobProgress:
        """Commit the rest and forget the job; what came of it.

        Raises: as `commit`
        """
        self.commit()
        self._settle_deletion()
        remove_progress(self._path)
        return self.progress

    def _list(self, failed: Sequence[tuple[Origin, FailureReason]]) -> None:
        text = io.StringIO()
        lines = csv.writer(text, lineterminator="\n")
        for origin, reason in failed:
            first = origin.place.position
            names = [str(position) for position in (first, first + origin.count - 1)]
            if origin.image_ids:
                ids = (origin.image_ids[0], origin.image_ids[-1])
                names = [own or name for own, name in zip(ids, names, strict=True)]
            lines.writerow([origin.file, *names, reason.code, reason.message])
        self._failed.append((text.getvalue() if self._failed.length else _FAILED_HEADER + text.getvalue()).encode())

    def _clear(self, batches: int) -> None:
        """Begin to delete what complete batches have left in the store, beside the work that goes on."""
        if self.progress.deleted_batches < batches:
            self._deleting = self._delete(range(self.progress.deleted_batches, batches))
            self._deleting_until = batches

    def _settle_deletion(self) -> None:
        if self._deleting is not None:
            self._deleting.result()
            self._deleting = None
            self.progress = replace(self.progress, deleted_batches=self._deleting_until)


def _take(file: IO[bytes], path: Path, length: int) -> None:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        raise SettingsInvalid(f"Another process writes {path}; wait for it, or name another file.") from error
    found = os.fstat(file.fileno()).st_size
    if found < length:
        raise SettingsInvalid(
            f"{path} has {found} bytes where {length} were written: it was changed. --overwrite begins it anew."
        )
    file.truncate(length)
    file.seek(length)
