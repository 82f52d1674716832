"""The console of the folder watcher and its journal: whose they are, what they refuse, and how they end."""

from __future__ import annotations

import fcntl
import json
import os
import signal
import sqlite3
import sys
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from fashion import main
from fashion_client import watch_folder
from fashion_client.request_plan import Deployment
from fashion_client.watch_folders import watching
from fashion_client.watch_journal import FILE_NAME, VERSION, WatchJournal, read_watch_journal
from fashion_client.watch_plan import Binding
from handoff.brokers.urls import open_broker
from handoff.contracts.errors import ExitCode, SettingsInvalid
from handoff.contracts.topology import Topology
from tests.watching import files_below, picture_bytes

QUICK = ("--settle", "0.05", "--linger", "0", "--period", "0.02", "--unreadable-after", "0.1")


def run(*arguments: str) -> Result:
    """Run the command as a shell does."""
    return CliRunner().invoke(main, ["watch", *arguments], prog_name="fashion")


def watch_once(*arguments: str) -> Result:
    """Publish what is there."""
    return run("--input", "in", "--published", "out", "--once", "--json", *QUICK, *arguments)


@pytest.fixture(autouse=True)
def input_folder(folder: Path) -> Path:
    """A folder to watch, with a picture in it."""
    (folder / "in").mkdir()
    (folder / "in" / "a.png").write_bytes(picture_bytes(1))
    return folder / "in"


def figures(result: Result) -> dict[str, object]:
    """The JSON object on the last line."""
    found: dict[str, object] = json.loads(result.stdout.splitlines()[-1])
    return found


def test_once_publishes_and_sums_up(folder: Path) -> None:
    """A line a request, a sentence, and the figures as one object; then there is nothing more to do."""
    (folder / "in" / "broken.png").write_bytes(b"x")
    result = watch_once()
    assert result.exit_code == ExitCode.OK, result.output
    seconds = figures(result)["seconds"]
    assert figures(result) == {
        "requests": 1,
        "images": 1,
        "resumed": 0,
        "unreadable": 1,
        "seconds": seconds,
        "unfinished": 0,
        "journal": str(folder / "out" / FILE_NAME),
    }
    lines = result.stdout.splitlines()
    assert lines[0].endswith("  1 images  a.png")
    assert lines[1].startswith("Published 1 requests with 1 images in ")
    assert "unreadable: broken.png is no picture that can be read" in result.stderr
    assert "published: 1 images" in result.stderr
    assert set(files_below(folder / "out")) == {"a.png"}
    assert set(files_below(folder / "unreadable")) == {"broken.png", "broken.png.reason.txt"}
    assert figures(watch_once())["requests"] == 0


@pytest.mark.parametrize(
    ("arguments", "code", "sentence"),
    [
        (["--input", "none", "--published", "out"], 5, "There is no folder none to watch"),
        (["--input", "in/a.png", "--published", "out"], 5, "There is no folder in/a.png to watch"),
        (["--input", "in", "--published", "in"], 3, "--input ("),
        (["--input", "in", "--published", "in/out"], 3, "--published ("),
        (["--input", "in", "--published", "."], 3, "--input ("),
        (["--input", "in", "--published", "link"], 3, "so that what is moved there would be taken again"),
        (["--input", "in", "--published", "out", "--unreadable", "in/bad"], 3, "--unreadable ("),
        (["--input", "in", "--published", "out", "--unreadable", "out"], 3, "as --published is; name another"),
        (["--input", "in", "--published", "none/out"], 3, "cannot be made (No such file or directory)"),
        (["--input", "in", "--published", "file"], 3, "cannot be made (File exists)"),
        (["--input", "in", "--published", "out", "--format", "npy"], 2, "Invalid value for '--format'"),
        (["--input", "in", "--published", "out", "--settle", "0"], 2, "Invalid value for '--settle'"),
        (["--input", "in", "--published", "out", "--settle", "11"], 2, "--unreadable-after must not be shorter"),
        (["--input", "in", "--published", "out", "--size", "28"], 2, "is no height x width such as 28x28"),
        (["--input", "in", "--published", "out", "--broker", "amqp://x"], 3, "unknown scheme"),
        (["--input", "in", "--published", "out", "--journal", "file"], 3, "file is no journal of `fashion watch`"),
        (["--published", "out"], 2, "Missing option '--input'"),
    ],
)
def test_a_users_error_is_one_sentence(folder: Path, arguments: list[str], code: int, sentence: str) -> None:
    """And an exit code; nothing is published or moved."""
    (folder / "file").write_bytes(b"no database, no folder\n" * 100)
    (folder / "link").symlink_to(folder / "in")
    result = run(*arguments, "--once")
    assert result.exit_code == code, result.output
    assert sentence in result.output
    assert "Traceback" not in result.output
    assert set(files_below(folder / "in")) == {"a.png"}


def test_npy_as_a_setting_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """It has no room for the files' names."""
    monkeypatch.setenv("FASHION_CLIENT_FORMAT", "npy")
    result = watch_once()
    assert result.exit_code == ExitCode.SETTINGS_INVALID
    assert "use --format csv or csv.gz" in result.output
    assert watch_once("--format", "csv.gz").exit_code == ExitCode.OK


def test_a_folder_that_cannot_be_written_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Said before anything is published, for it could not be moved."""
    access = os.access
    monkeypatch.setattr(os, "access", lambda path, mode: access(path, mode) and not str(path).endswith("/in"))
    result = watch_once()
    assert result.exit_code == ExitCode.SETTINGS_INVALID
    assert "cannot be written" in result.output
    assert "name another as --input." in result.output


def test_a_missing_package_is_named_before_the_first_picture(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not when it comes, in the middle of the night."""
    monkeypatch.setitem(sys.modules, "PIL.Image", None)
    monkeypatch.setitem(sys.modules, "PIL", None)
    result = watch_once()
    assert result.exit_code == ExitCode.MISSING_PACKAGE
    assert "needed for `fashion watch`" in result.output


def test_two_watchers_do_not_share_a_folder(folder: Path) -> None:
    """Neither the one watched, whatever the others are, nor a journal."""
    with watching(folder / "in"):
        result = watch_once()
        assert result.exit_code == ExitCode.SETTINGS_INVALID
        assert f"Another process watches {folder}/in" in result.output
    with opened(folder / "out" / FILE_NAME, binding(folder)):
        result = watch_once()
        assert result.exit_code == ExitCode.SETTINGS_INVALID
        assert "Another process is at work on" in result.output
    assert watch_once().exit_code == ExitCode.OK


def test_folders_that_cannot_be_locked_are_watched_all_the_same(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Some network file systems lock files only; the journal's lock is one."""

    def refuse(*_: object) -> None:
        raise OSError(9, "Bad file descriptor")

    monkeypatch.setattr(fcntl, "flock", refuse)
    with watching(folder / "in"):
        pass


def test_a_silent_store_ends_a_single_run(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With its exit code, and a word on what is left; the next run goes on with it."""
    monkeypatch.setattr(watch_folder, "ONCE_GIVES_UP_AFTER_S", 0.05)
    (folder / "store").write_bytes(b"no folder")
    result = watch_once()
    assert result.exit_code == ExitCode.STORE_UNAVAILABLE, result.output
    assert "1 requests are not done with; the same command goes on with them." in result.stderr
    assert figures(result)["unfinished"] == 1
    (folder / "store").unlink()
    result = watch_once()
    assert (result.exit_code, figures(result)["resumed"], figures(result)["images"]) == (ExitCode.OK, 1, 1)
    assert "1 images  gone on with  a.png" in result.stdout


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_when_what_is_begun_is_done(folder: Path, number: signal.Signals) -> None:
    """Exit code 0, and nothing left."""
    broker = open_broker(f"embedded://{folder}/queue.db", Topology())
    tick = threading.Event()

    def interrupt() -> None:
        assert any(broker.backlog(Topology().requests).count or tick.wait(0.01) for _ in range(3000))
        os.kill(os.getpid(), number)

    watching_it = threading.Thread(target=interrupt)
    watching_it.start()
    result = run("--input", "in", "--published", "out", "--json", *QUICK)
    watching_it.join()
    broker.close()
    assert result.exit_code == ExitCode.OK, result.output
    assert (figures(result)["images"], figures(result)["unfinished"]) == (1, 0)
    assert set(files_below(folder / "out")) == {"a.png"}


def binding(folder: Path, *, watched: str = "in") -> Binding:
    """What a journal is of."""
    deployment = Deployment(f"embedded://{folder}/queue.db", f"file://{folder}/store")
    return Binding(input=str(folder / watched), published=str(folder / "out"), deployment=deployment)


@contextmanager
def opened(path: Path, wanted: Binding) -> Iterator[WatchJournal]:
    """A journal that another process has."""
    with WatchJournal.open(path, wanted) as journal:
        yield journal


def test_a_journal_without_requests_goes_to_whoever_opens_it(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One with requests does not: they are of other folders, or of another broker."""
    path = folder / "x.journal"
    with opened(path, binding(folder)) as journal:
        client_id = journal.binding.client_id
    with opened(path, binding(folder, watched="other")) as journal:
        assert (journal.binding.client_id, journal.binding.input) == (client_id, str(folder / "other"))
    monkeypatch.setattr(watch_folder, "ONCE_GIVES_UP_AFTER_S", 0.05)
    (folder / "store").write_bytes(b"no folder")
    assert watch_once("--journal", str(path)).exit_code == ExitCode.STORE_UNAVAILABLE
    (entry,) = read_watch_journal(path)
    assert (entry.state, [file.name for file in entry.plan.files]) == ("begun", ["a.png"])
    with pytest.raises(SettingsInvalid, match="has 1 unfinished requests of --input"):
        WatchJournal.open(path, binding(folder, watched="other"))


def test_other_files_are_no_journals(folder: Path) -> None:
    """Neither another program's database, which is not changed, nor a later version's, nor a damaged one."""
    path = folder / "x.db"
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("CREATE TABLE x (y)")
    before = path.read_bytes()
    with pytest.raises(SettingsInvalid, match="is no journal of `fashion watch`"):
        WatchJournal.open(path, binding(folder))
    assert path.read_bytes() == before
    path.unlink()
    with opened(path, binding(folder)):
        pass
    for statement, sentence in (
        (f"PRAGMA user_version = {VERSION + 1}", f"has version {VERSION + 1}, this program knows {VERSION}"),
        ("PRAGMA user_version = 1; UPDATE watch SET binding = '{}'", "is no journal of"),
        ("DELETE FROM watch", "is no journal of"),
    ):
        with closing(sqlite3.connect(path)) as connection:
            connection.executescript(statement)
        with pytest.raises(SettingsInvalid, match=sentence):
            WatchJournal.open(path, binding(folder))
    with pytest.raises(SettingsInvalid, match="cannot be used"):
        read_watch_journal(folder / "none.journal")
