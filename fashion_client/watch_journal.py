"""The journal of `fashion watch`: the requests that are begun or published and whose files still lie in the folder."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from types import TracebackType
from typing import IO, Literal, NamedTuple, Self

import msgspec

from fashion_client.journal_commits import Commits
from fashion_client.journal_file import claim, connect, is_empty, release, transaction, translated_errors
from fashion_client.watch_plan import Binding, Plan
from handoff.contracts.errors import SettingsInvalid
from handoff.durability import flush_folder

# "fajw", so that no other program's database, nor another journal of ours, is taken for one.
APPLICATION_ID = 0x66616A77
VERSION = 1

FILE_NAME = ".fashion-watch.journal"
"""In the folder of the published, unless another file is named: wherever a watcher is started, it finds this one."""

SCHEMA = (
    "CREATE TABLE watch (binding TEXT NOT NULL)",
    "CREATE TABLE request (request_id TEXT PRIMARY KEY, state TEXT NOT NULL, plan TEXT NOT NULL)",
)

State = Literal["begun", "published"]

_bindings, _plans = msgspec.json.Decoder(Binding), msgspec.json.Decoder(Plan)


class Entry(NamedTuple):
    """A request that is not done with."""

    state: State
    plan: Plan


class WatchJournal:
    """The journal of one watcher, held by one process; thread-safe. What writes returns when the disk has it."""

    def __init__(self, path: Path, *, connection: sqlite3.Connection, claimed: IO[bytes], binding: Binding) -> None:
        self.path = path
        self.binding = binding
        self._commits = Commits(connection, path)
        self._claimed = claimed

    @classmethod
    def open(cls, path: Path, binding: Binding) -> Self:
        """Open the journal, or begin it; one without requests is taken over by whoever opens it.

        Raises: SettingsInvalid: the file cannot be used, another process has it, or it has requests of other folders
        """
        claimed = claim(path)
        try:
            with translated_errors(path):
                connection = connect(path)
                try:
                    with _refusing(path):
                        _prepare(connection, path, binding)
                        found = _bind(connection, path, binding)
                    return cls(path, connection=connection, claimed=claimed, binding=found)
                except BaseException:
                    connection.close()
                    raise
        except BaseException:
            release(path, claimed)
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def begin(self, plan: Plan) -> None:
        """Write a request down before its upload."""
        self._commits.write("INSERT INTO request VALUES (?, 'begun', ?)", plan.request_id, _encoded(plan))

    def mark_published(self, plan: Plan) -> None:
        """Note that the broker has a request, and which of its files are still to be moved where."""
        self._commits.write(
            "UPDATE request SET state = 'published', plan = ? WHERE request_id = ?", _encoded(plan), plan.request_id
        )

    def forget(self, request_id: str) -> None:
        """Have done with a request: its files are moved, or it never left."""
        self._commits.write("DELETE FROM request WHERE request_id = ?", request_id)

    def entries(self) -> list[Entry]:
        """The requests that are not done with, in the order in which they were begun."""
        with self._commits.reading() as connection:
            return _entries(connection)

    def close(self) -> None:
        """Close the file, and let others have it."""
        try:
            self._commits.close()
        finally:
            release(self.path, self._claimed)


def read_watch_journal(path: Path) -> list[Entry]:
    """Read the requests that are not done with, also while a watcher is at work.

    Raises: SettingsInvalid: there is no journal
    """
    with translated_errors(path), closing(connect(path, read_only=True)) as connection, _refusing(path):
        return _entries(connection)


def _prepare(connection: sqlite3.Connection, path: Path, binding: Binding) -> None:
    """Make an empty file a journal, whole or not at all; then let each commit return when the disk has it."""
    if is_empty(connection):
        with transaction(connection):
            for statement in SCHEMA:
                connection.execute(statement)
            connection.execute("INSERT INTO watch VALUES (?)", (msgspec.json.encode(binding).decode(),))
            connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
            connection.execute(f"PRAGMA user_version = {VERSION}")
        flush_folder(path.parent)
    _check_kind(connection, path)
    # Not WAL: its shared memory asks for a local disk, and the published may go to a network folder.
    connection.execute("PRAGMA journal_mode = TRUNCATE")
    connection.execute("PRAGMA synchronous = FULL")


def _check_kind(connection: sqlite3.Connection, path: Path) -> None:
    application_id, version = (
        int(connection.execute(f"PRAGMA {name}").fetchone()[0]) for name in ("application_id", "user_version")
    )
    if application_id != APPLICATION_ID:
        raise _no_journal(path)
    if version != VERSION:
        raise SettingsInvalid(
            f"The journal {path} has version {version}, this program knows {VERSION}; go on with the program it is of."
        )


def _bind(connection: sqlite3.Connection, path: Path, wanted: Binding) -> Binding:
    """Say whose the journal is from now on; one without requests is taken over.

    Raises: SettingsInvalid: it has requests of other folders, or of another broker or store
    """
    found = _bindings.decode(connection.execute("SELECT binding FROM watch").fetchone()[0])
    if found.is_for(wanted):
        return found
    count = len(_entries(connection))
    if count:
        raise SettingsInvalid(
            f"The journal {path} has {count} unfinished requests of --input {found.input} --published"
            f" {found.published} --broker {found.deployment.broker} --store {found.deployment.store}; finish them there"
            " (`--once`), or name another --journal."
        )
    binding = msgspec.structs.replace(wanted, client_id=found.client_id)
    with transaction(connection):
        connection.execute("UPDATE watch SET binding = ?", (msgspec.json.encode(binding).decode(),))
    return binding


def _entries(connection: sqlite3.Connection) -> list[Entry]:
    rows = connection.execute("SELECT state, plan FROM request ORDER BY rowid").fetchall()
    return [Entry(state, _plans.decode(plan)) for state, plan in rows]


@contextmanager
def _refusing(path: Path) -> Iterator[None]:
    """Say of a file that is something else that it is no such journal."""
    try:
        yield
    except sqlite3.Error as error:
        if getattr(error, "sqlite_errorcode", None) != sqlite3.SQLITE_NOTADB:
            raise
        raise _no_journal(path) from error
    except (msgspec.MsgspecError, TypeError) as error:
        raise _no_journal(path) from error


def _no_journal(path: Path) -> SettingsInvalid:
    return SettingsInvalid(f"{path} is no journal of `fashion watch`; name another file as --journal.")


def _encoded(plan: Plan) -> str:
    return msgspec.json.encode(plan).decode()
