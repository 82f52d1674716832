"""The journal: what is in it survives, belongs to one process, and is no other program's file."""

from __future__ import annotations

import sqlite3
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import msgspec
import pytest

from fashion_client.journal import ROWS_AT_ONCE, Journal, Row, read_journal
from fashion_client.journals import begin_journal, resume_journal
from fashion_client.request_plan import Deployment, Plan, Run, deployment_of
from handoff.contracts.errors import ExitCode, SettingsInvalid
from handoff.contracts.messages import AnalysisRequest, AnalysisResponse
from handoff.settings import Settings

RUN = Run(plan=Plan(batch_size=2, format="csv", size=(28, 28)), deployment=Deployment("embedded:///q", "file:///s"))


def request_of(position: int) -> AnalysisRequest:
    """A request of the run."""
    request_id = RUN.request_id(position)
    return AnalysisRequest(
        request_id=request_id,
        batch_uri=f"memory://store/requests/{request_id}/images.csv",
        format="csv",
        image_count=2,
        checksum="sha256:" + f"{position:064x}",
    )


def response_to(position: int, *, failed: bool = False) -> AnalysisResponse:
    """A response to a request of the run."""
    return AnalysisResponse(
        request_id=RUN.request_id(position),
        status="failed" if failed else "succeeded",
        image_count=2,
        worker="w",
        attempt=1,
    )


def states(path: Path) -> list[tuple[int, str, int]]:
    """Position, state and publications of every row."""
    return [(row.position, row.state, row.publications) for row in read_journal(path)]


def test_a_request_goes_through_its_states(tmp_path: Path) -> None:
    """Begun, published, answered, each there for another reader; a publication is noted with the next commit."""
    path = tmp_path / "r.journal"
    with Journal.create(path, RUN) as journal:
        assert journal.begin(0, request_of(0))
        assert states(path) == [(0, "begun", 0)]
        journal.mark_published(0)
        journal.mark_published(0)
        journal.flush()
        assert states(path) == [(0, "published", 2)]
        assert journal.answer(response_to(0, failed=True))
        (row,) = read_journal(path)
        assert row == Row(
            0, RUN.request_id(0), request_of(0), "answered", 2, row.published_at, response_to(0, failed=True)
        )
        assert (journal.request_count, journal.image_count, journal.answered_count, journal.failed_count) == (
            1,
            2,
            1,
            1,
        )


def test_an_answer_is_taken_once(tmp_path: Path) -> None:
    """Neither a second one, nor a publication that is noted late, nor a stranger's changes anything."""
    path = tmp_path / "r.journal"
    with Journal.create(path, RUN) as journal:
        journal.begin(0, request_of(0))
        assert journal.answer(response_to(0))
        assert not journal.answer(response_to(0, failed=True))
        assert not journal.answer(response_to(7))
        assert not journal.begin(0, request_of(0))
        journal.mark_published(0)
        journal.flush()
        assert states(path) == [(0, "answered", 1)]
        assert (journal.answered_count, journal.failed_count) == (1, 0)


def test_a_journal_is_gone_on_with(tmp_path: Path) -> None:
    """The run and its figures come back; it is finished when all its requests are written down and answered."""
    path = tmp_path / "r.journal"
    with Journal.create(path, RUN) as journal:
        for position in (0, 2, 1):
            journal.begin(position, request_of(position))
        journal.mark_published(0)
        journal.answer(response_to(1, failed=True))
        assert not journal.is_sent
    with Journal.open(path) as journal:
        assert journal.run == RUN
        assert (journal.request_count, journal.image_count, journal.next_position) == (3, 6, 3)
        assert (journal.answered_count, journal.failed_count, journal.published_before) == (1, 1, 2)
        assert [row.position for row in journal.unanswered()] == [0, 2]
        journal.complete(3)
        assert not journal.is_sent
        journal.mark_published(2)
        assert journal.is_sent
        assert not journal.is_finished
        journal.answer(response_to(0))
        journal.answer(response_to(2))
        assert journal.is_finished
        assert journal.row(3) is None


def test_many_threads_write_together(tmp_path: Path) -> None:
    """Each call's change is its own, however they are grouped; more rows than are read at a time come in order."""
    path, count = tmp_path / "r.journal", ROWS_AT_ONCE + 10
    with Journal.create(path, RUN) as journal, ThreadPoolExecutor(8) as threads:
        assert all(threads.map(lambda position: journal.begin(position, request_of(position)), range(count)))
        assert not any(threads.map(lambda position: journal.begin(position, request_of(position)), range(count)))
        list(threads.map(journal.mark_published, range(count)))
        first = list(threads.map(lambda number: journal.answer(response_to(number // 2)), range(20)))
        assert sum(first) == journal.answered_count == 10
        assert [row.position for row in journal.unanswered()] == list(range(10, count))
    assert [position for position, _, _ in states(path)] == list(range(count))


def test_a_journal_belongs_to_one_process(tmp_path: Path) -> None:
    """Another one is refused until it is closed; reading is allowed, and no lock file stays."""
    path = tmp_path / "r.journal"
    with Journal.create(path, RUN):
        with pytest.raises(SettingsInvalid, match="Another process is at work on"):
            Journal.open(path)
        assert states(path) == []
    Journal.open(path).close()
    assert [each.name for each in tmp_path.iterdir()] == ["r.journal"]


def test_a_run_that_sent_nothing_leaves_no_journal(tmp_path: Path) -> None:
    """An empty run is nothing to go on with."""
    with Journal.create(tmp_path / "r.journal", RUN) as journal:
        journal.discard()
    assert list(tmp_path.iterdir()) == []


def other_version(path: Path) -> None:
    """A later program's journal."""
    Journal.create(path, RUN).close()
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA user_version = 2")


def other_database(path: Path) -> None:
    """Another program's database."""
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE run (run TEXT)")


def broken_run(path: Path) -> None:
    """A journal whose run cannot be read."""
    Journal.create(path, RUN).close()
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("UPDATE run SET run = '{}'")


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda path: path.write_bytes(b"no database at all" * 100), "is no journal of `fashion request`"),
        (lambda path: path.write_bytes(b""), "is empty: its run ended before the first request"),
        (other_database, "is no journal of `fashion request`"),
        (broken_run, "is no journal of `fashion request`"),
        (other_version, "has version 2, this program knows 1"),
        (lambda _path: None, "There is no journal"),
    ],
)
def test_what_is_no_journal_is_refused(tmp_path: Path, make: object, sentence: str) -> None:
    """In a sentence that says what it is; what it holds stays as it was."""
    path = tmp_path / "r.journal"
    make(path)  # type: ignore[operator]
    before = path.read_bytes() if path.exists() else b""
    with pytest.raises(SettingsInvalid, match=sentence) as refused:
        Journal.open(path)
    assert refused.value.exit_code == ExitCode.SETTINGS_INVALID
    assert (path.read_bytes() if before else b"") == before


def test_a_journal_that_cannot_be_made_is_refused(tmp_path: Path) -> None:
    """A file where its folder should be."""
    (tmp_path / "file").write_text("")
    with pytest.raises(SettingsInvalid, match="cannot be locked"):
        Journal.create(tmp_path / "file" / "r.journal", RUN)


def test_no_run_is_begun_in_anothers_journal(tmp_path: Path) -> None:
    """An interrupted one is to be gone on with, a finished one kept; an empty file is of a run that never began."""
    path = tmp_path / "r.journal"
    path.write_bytes(b"")
    with begin_journal(path, folder=tmp_path, run=RUN) as journal:
        journal.begin(0, request_of(0))
    with pytest.raises(SettingsInvalid, match=f"`fashion request --resume --journal {path}` goes on with it"):
        begin_journal(path, folder=tmp_path, run=RUN)
    with Journal.open(path) as journal:
        journal.answer(response_to(0))
        journal.complete(1)
    with pytest.raises(SettingsInvalid, match="journal of a finished run"):
        begin_journal(path, folder=tmp_path, run=RUN)


def test_the_newest_unfinished_run_is_gone_on_with(tmp_path: Path) -> None:
    """Not those that are finished, in another process's hands, or no journals."""
    runs = [
        Run(
            plan=RUN.plan,
            deployment=RUN.deployment,
            begun_at=RUN.begun_at.replace(year=2020 + number),
        )
        for number in range(4)
    ]
    journals = [begin_journal(None, folder=tmp_path, run=run) for run in runs]
    journals[2].complete(0)
    for journal in journals[:3]:
        journal.close()
    (tmp_path / "z.journal").write_text("no journal")
    found = resume_journal(None, folder=tmp_path, deployment=RUN.deployment)
    assert found is not None
    with found:
        assert found.run == runs[1]
        older = resume_journal(None, folder=tmp_path, deployment=RUN.deployment)
        assert older is not None
        older.close()
        assert older.run == runs[0]
    journals[3].close()
    assert resume_journal(None, folder=tmp_path / "nowhere", deployment=RUN.deployment) is None


def test_a_run_goes_on_where_it_was_begun(tmp_path: Path) -> None:
    """Requests that were sent to one deployment are answered by no other."""
    path = tmp_path / "r.journal"
    Journal.create(path, RUN).close()
    with pytest.raises(SettingsInvalid, match="--broker embedded:///q --store file:///s; go on with it there"):
        resume_journal(path, folder=tmp_path, deployment=Deployment("embedded:///q", "file:///other"))
    Journal.open(path).close()


def test_a_deployment_is_the_same_from_every_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Relative paths are of the folder where a console was started."""
    monkeypatch.chdir(tmp_path)
    near = deployment_of(Settings(broker="embedded:var/q.db", store="file:store"))
    assert near == Deployment(f"embedded://{tmp_path}/var/q.db", f"file://{tmp_path}/store")
    assert near == deployment_of(Settings(broker=near.broker, store=near.store))
    assert deployment_of(Settings(broker="pubsub://p", store="gs://b/p")) == Deployment("pubsub://p", "gs://b/p")
    assert msgspec.json.decode(msgspec.json.encode(RUN), type=Run) == RUN
