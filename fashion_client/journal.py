"""What one run of `fashion request` has sent and what was answered, on the disk before anything depends on it."""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from types import TracebackType
from typing import IO, Literal, Self

from msgspec import Struct

from fashion_client.journal_commits import Commits
from fashion_client.journal_file import (
    claim,
    connect,
    flush_commits,
    make_file,
    read_run,
    release,
    translated_errors,
)
from fashion_client.request_plan import Run
from handoff.contracts.errors import SettingsInvalid
from handoff.contracts.messages import AnalysisRequest, AnalysisResponse, decode_request, decode_response, encode_body

State = Literal["begun", "published", "answered"]

# Rows read at a time: few enough that a run of a million requests does not notice.
ROWS_AT_ONCE = 500

_FROM = (
    "SELECT position, request_id, request, state, publications, published_at, response"
    " FROM request WHERE position >= ? ORDER BY position LIMIT ?"
)
_UNANSWERED_FROM = (
    "SELECT position, request_id, request, state, publications, published_at, response"
    " FROM request WHERE position >= ? AND state <> 'answered' ORDER BY position LIMIT ?"
)


class Row(Struct, frozen=True):
    """One request of a run: written down before its upload, published, answered."""

    position: int
    request_id: str
    request: AnalysisRequest
    state: State
    publications: int
    """How often it is known to have been published; a crash in between may have lost one."""
    published_at: float | None
    """The last time, in seconds since the epoch."""
    response: AnalysisResponse | None


class Journal:
    """The journal of one run, held by one process; thread-safe. `create` and `open` make one.

    What writes returns when the disk has it, but for `mark_published`. All raise SettingsInvalid where the file cannot
    be used.
    """

    def __init__(self, path: Path, *, connection: sqlite3.Connection, claimed: IO[bytes], run: Run) -> None:
        self.path = path
        self.run = run
        self.request_count = self.image_count = self.answered_count = self.failed_count = 0
        self.next_position = 0
        self.published_before = 0
        """Requests that were published when the journal was opened."""
        self.publications_made = 0
        """By this process."""
        self._is_discarded = False
        self._commits = Commits(connection, path)
        self._claimed = claimed
        self._lock = threading.Lock()

    @classmethod
    def create(cls, path: Path, run: Run) -> Self:
        """Begin the journal of a new run.

        Raises: SettingsInvalid: it cannot be made, or another run's is there
        """
        return cls._opened(path, run)

    @classmethod
    def open(cls, path: Path) -> Self:
        """Go on with the journal of an interrupted run.

        Raises: SettingsInvalid: there is none, it is another program's or version's, or another process has it
        """
        if not path.is_file():
            raise SettingsInvalid(f"There is no journal {path}; leave out --resume to begin a run.")
        return cls._opened(path, None)

    @classmethod
    def _opened(cls, path: Path, new: Run | None) -> Self:
        claimed = claim(path)
        try:
            if new is not None:
                make_file(path, new)
            with translated_errors(path):
                connection = connect(path)
                try:
                    journal = cls(path, connection=connection, claimed=claimed, run=read_run(connection, path))
                    flush_commits(connection)
                    journal._count()
                except BaseException:
                    connection.close()
                    raise
                return journal
        except BaseException:
            release(path, claimed)
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def unanswered_count(self) -> int:
        """Requests written down and not answered."""
        return self.request_count - self.answered_count

    @property
    def is_sent(self) -> bool:
        """Whether the run's every request is published."""
        with self._commits.reading() as connection:
            (total,) = connection.execute("SELECT request_count FROM run").fetchone()
            begun = connection.execute("SELECT 1 FROM request WHERE state <> 'answered' AND state = 'begun'")
            return total == self.request_count and begun.fetchone() is None

    @property
    def is_finished(self) -> bool:
        """Whether the run's every request is answered."""
        return not self.unanswered_count and self.is_sent

    def begin(self, position: int, request: AnalysisRequest) -> bool:
        """Write a request down before its upload; False when one is there for that position."""
        is_new = self._commits.write(
            "INSERT INTO request (position, request_id, request, image_count, state, publications)"
            " VALUES (?, ?, ?, ?, 'begun', 0) ON CONFLICT DO NOTHING",
            position,
            request.request_id,
            encode_body(request).decode(),
            request.image_count,
        )
        if is_new:
            with self._lock:
                self.request_count += 1
                self.image_count += request.image_count
                self.next_position = max(self.next_position, position + 1)
        return is_new

    def mark_published(self, position: int) -> None:
        """Note that the broker has confirmed a publication; written with what is written next.

        Where a crash takes the note along, the request is sent once more, which is harmless.
        """
        statement = (
            "UPDATE request SET state = CASE state WHEN 'begun' THEN 'published' ELSE state END,"
            " publications = publications + 1, published_at = ? WHERE position = ?"
        )
        self._commits.note(statement, time.time(), position)
        with self._lock:
            self.publications_made += 1

    def answer(self, response: AnalysisResponse) -> bool:
        """Write a response down; False when the request was answered before, or is not of this run."""
        is_first = self._commits.write(
            "UPDATE request SET state = 'answered', status = ?, response = ?"
            " WHERE request_id = ? AND state <> 'answered'",
            response.status,
            encode_body(response).decode(),
            response.request_id,
        )
        if is_first:
            with self._lock:
                self.answered_count += 1
                self.failed_count += response.status == "failed"
        return is_first

    def complete(self, request_count: int) -> None:
        """Note how many requests the run has, now that all images are read."""
        self._commits.write("UPDATE run SET request_count = ?", request_count)

    def row(self, position: int) -> Row | None:
        """Look up one request."""
        with self._commits.reading() as connection:
            found = _select(connection, _FROM, position, most=1)
        return found[0] if found and found[0].position == position else None

    def unanswered(self) -> Iterator[Row]:
        """Yield the requests without an answer, in their order."""
        position = 0
        while True:
            with self._commits.reading() as connection:
                rows = _select(connection, _UNANSWERED_FROM, position)
            if not rows:
                return
            yield from rows
            position = rows[-1].position + 1

    def flush(self) -> None:
        """Write what was only noted."""
        self._commits.flush()

    def discard(self) -> None:
        """Let `close` remove the file: the run sent nothing."""
        self._is_discarded = True

    def close(self) -> None:
        """Write what was only noted, close the file, and let others have it."""
        try:
            self._commits.close()
        finally:
            if self._is_discarded:
                self.path.unlink(missing_ok=True)
            release(self.path, self._claimed)

    def _count(self) -> None:
        with self._commits.reading() as connection:
            counted = connection.execute(
                "SELECT count(*), coalesce(sum(image_count), 0), coalesce(sum(state = 'answered'), 0),"
                " coalesce(sum(status = 'failed'), 0), coalesce(max(position) + 1, 0),"
                " coalesce(sum(state <> 'begun'), 0) FROM request"
            ).fetchone()
        self.request_count, self.image_count, self.answered_count, self.failed_count = counted[:4]
        self.next_position, self.published_before = counted[4:]


def read_journal(path: Path) -> Iterator[Row]:
    """Yield every request of a journal in its order, also while a process is at work on it.

    Raises: SettingsInvalid: there is no journal
    """
    with translated_errors(path), closing(connect(path, read_only=True)) as connection:
        read_run(connection, path)
        position = 0
        while rows := _select(connection, _FROM, position):
            yield from rows
            position = rows[-1].position + 1


def _select(connection: sqlite3.Connection, statement: str, position: int, *, most: int = ROWS_AT_ONCE) -> list[Row]:
    found = connection.execute(statement, (position, most))
    return [
        Row(
            each[0],
            each[1],
            decode_request(each[2]),
            each[3],
            each[4],
            each[5],
            None if each[6] is None else decode_response(each[6]),
        )
        for each in found
    ]
