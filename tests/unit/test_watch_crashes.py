"""Watchers that die at every step: whoever comes next publishes each image that is not, and none that is."""

from __future__ import annotations

import errno
import itertools
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from fashion_client import watch_moves, watch_places
from fashion_client.watch_journal import WatchJournal, read_watch_journal
from fashion_client.watch_moves import Moves
from fashion_client.watch_scan import Identity, identify
from tests.fakes import FakeBroker, FakeStore
from tests.watching import Killed, Watched, files_below, picture_bytes

STEPS: dict[str, tuple[type, str]] = {
    "begin": (WatchJournal, "begin"),
    "upload": (FakeStore, "create"),
    "publish": (FakeBroker, "publish"),
    "mark": (WatchJournal, "mark_published"),
    "move": (Moves, "move"),
    "flush": (Moves, "flush"),
    "forget": (WatchJournal, "forget"),
}
POINTS = [f"{when} {step}" for step in STEPS for when in ("before", "after")]

NAMES = [f"{number}.png" for number in range(5)]


class Death:
    """Kills whoever comes to a point for the n-th time."""

    def __init__(self) -> None:
        self._point, self._left = "", 0
        self.has_struck = False

    def await_at(self, point: str, *, times: int = 1) -> None:
        """Wait for somebody."""
        self._point, self._left = point, times

    def come_to(self, point: str) -> None:
        """Come to a point, and perhaps not past it."""
        if point == self._point:
            self._left -= 1
            if not self._left:
                self.has_struck = True
                raise Killed(point)


@pytest.fixture
def death(monkeypatch: pytest.MonkeyPatch) -> Death:
    """Stands before and behind each step."""
    death = Death()

    def surrounded(step: str, call: Callable[..., Any]) -> Callable[..., Any]:
        def mortal(*args: Any, **options: Any) -> Any:  # noqa: ANN401
            death.come_to(f"before {step}")
            result = call(*args, **options)
            death.come_to(f"after {step}")
            return result

        return mortal

    for step, (kind, name) in STEPS.items():
        monkeypatch.setattr(kind, name, surrounded(step, getattr(kind, name)))
    return death


@pytest.fixture
def watched(tmp_path: Path) -> Iterator[Watched]:
    """Three folders with five pictures in the first, two a request."""
    watched = Watched(tmp_path)
    watched.batch_size = 2
    for level, name in enumerate(NAMES):
        watched.put(name, level)
    yield watched
    watched.end()


def every_image_once(watched: Watched) -> bool:
    """Whether all were published under one request's id, all are moved, and nothing is left to do."""
    assert watched.images() == {(name, level): 1 for level, name in enumerate(NAMES)}
    assert files_below(watched.published) == {name: picture_bytes(level) for level, name in enumerate(NAMES)}
    assert files_below(watched.input) == {}
    return read_watch_journal(watched.journal_path) == []


@pytest.mark.parametrize("point", POINTS)
@pytest.mark.parametrize("times", [1, 2, 3])
def test_a_crash_neither_loses_nor_repeats_an_image(watched: Watched, death: Death, point: str, times: int) -> None:
    """At each step of each request; a request that may have been published before says so."""
    death.await_at(point, times=times)
    watched.survive()
    assert death.has_struck
    published = watched.requests()
    noted = {each.plan.request_id for each in read_watch_journal(watched.journal_path) if each.state == "published"}
    watched.start()
    watched.watch(5.0)
    assert every_image_once(watched)
    later = watched.requests()[len(published) :]
    assert not noted & {received.request.request_id for received in later}
    known = {received.request.request_id for received in published}
    assert all(received.republished for received in later if received.request.request_id in known)


@pytest.mark.parametrize("points", list(itertools.product(POINTS[2::2], repeat=2)), ids=" then ".join)
def test_a_second_crash_while_a_first_is_made_up_for(watched: Watched, death: Death, points: tuple[str, str]) -> None:
    """What goes on with a request can be gone on with."""
    for point in points:
        death.await_at(point)
        watched.survive()
    watched.start()
    watched.watch(5.0)
    assert every_image_once(watched)


@pytest.mark.parametrize("point", POINTS)
def test_new_files_come_while_nobody_watches(watched: Watched, death: Death, point: str) -> None:
    """Also under the name of one that was on its way; that one's own file is not taken for it."""
    death.await_at(point)
    watched.survive()
    watched.put("0.png", 100)
    watched.put("new.png", 101)
    watched.start()
    watched.watch(5.0)
    asked = watched.images()
    # Whether the first 0.png was asked for or overwritten before is up to the moment; twice it never is.
    first = asked.pop(("0.png", 0), 0)
    assert first <= 1
    assert asked == {
        ("0.png", 100): 1,
        ("new.png", 101): 1,
        **{(name, level): 1 for level, name in enumerate(NAMES) if level},
    }
    moved = list(files_below(watched.published).values())
    assert sorted(moved).count(picture_bytes(100)) == 1
    assert read_watch_journal(watched.journal_path) == []


@pytest.mark.parametrize("point", ["before upload", "after upload", "after publish"])
@pytest.mark.parametrize("is_changed", [True, False])
def test_a_begun_request_whose_file_is_gone_or_another_is_what_was_uploaded(
    watched: Watched, death: Death, point: str, *, is_changed: bool
) -> None:
    """If anything was: else what is still there is sent under another id."""
    death.await_at(point)
    watched.survive()
    (entry,) = read_watch_journal(watched.journal_path)
    (watched.input / "0.png").write_bytes(picture_bytes(50, side=5)) if is_changed else (
        watched.input / "0.png"
    ).unlink()
    watched.start()
    watched.watch(5.0)
    ids = {received.request.request_id for received in watched.requests()}
    expected = {(name, level): 1 for level, name in enumerate(NAMES) if level}
    expected |= {("0.png", 50): 1} if is_changed else {}
    if point == "before upload":
        assert entry.plan.request_id not in ids
        assert any("never left" in line for line in watched.said.lines)
    else:
        assert entry.plan.request_id in ids
        expected |= {("0.png", 0): 1}
    assert watched.images() == expected
    assert files_below(watched.input) == {}


def test_a_begun_request_is_made_again_as_it_was_told(watched: Watched, death: Death) -> None:
    """Other options, which the next watcher has, are for other images."""
    death.await_at("before upload")
    watched.survive()
    (entry,) = read_watch_journal(watched.journal_path)
    watched.format, watched.labelled, watched.batch_size = "csv.gz", False, 1
    watched.start()
    first = watched.requests()[0]
    assert (first.request, first.republished) == (entry.plan.request, True)


@pytest.mark.parametrize("point", ["before move", "after mark", "after move", "before forget"])
def test_a_folder_that_was_away_at_the_restart(watched: Watched, death: Death, point: str) -> None:
    """Published files that are not to be seen are no files that were moved: when they are back, they are not new."""
    death.await_at(point)
    watched.survive()
    away = watched.input.with_name("away")
    watched.input.rename(away)
    watched.input.mkdir()
    watched.start()
    watched.watch(5.0)
    watched.input.rmdir()
    away.rename(watched.input)
    watched.watch(5.0)
    assert every_image_once(watched)


def test_a_place_that_somebody_took_meanwhile(watched: Watched, death: Death) -> None:
    """The published file gets another name, and what lay there stays."""
    death.await_at("before move")
    watched.survive()
    watched.put("x.png", 77).rename(watched.published / "0.png")
    watched.start()
    watched.watch(5.0)
    found = files_below(watched.published)
    assert (found.pop("0.png"), found.pop("0-2.png")) == (picture_bytes(77), picture_bytes(0))
    assert set(found) == set(NAMES[1:])
    assert watched.images() == {(name, level): 1 for level, name in enumerate(NAMES)}


def test_another_place_is_written_down_before_it_is_taken(watched: Watched, death: Death) -> None:
    """Else nobody would find the file there after a second crash, and wait for it."""
    death.await_at("before move")
    watched.survive()
    watched.put("x.png", 77).rename(watched.published / "0.png")
    death.await_at("after move")
    watched.survive()
    watched.start()
    watched.watch(5.0)
    assert files_below(watched.published)["0-2.png"] == picture_bytes(0)
    assert read_watch_journal(watched.journal_path) == []


def test_a_place_that_an_earlier_process_chose_is_kept(watched: Watched, death: Death) -> None:
    """Else one file would be taken for the copy of another with the same bytes, and removed."""
    for name in NAMES:
        (watched.input / name).unlink()
    watched.batch_size = 1
    for name in ("a-2.png", "a.png"):
        watched.put(name, 5)
    watched.put("x", 77).rename(watched.published / "a.png")
    death.await_at("before upload")
    watched.survive()
    begun = read_watch_journal(watched.journal_path)[0].plan
    size_bytes, mtime_ns, inode = identify(watched.input / "a.png")  # type: ignore[misc]
    file = msgspec.structs.replace(
        begun.files[0], name="a.png", size_bytes=size_bytes, mtime_ns=mtime_ns, inode=inode, destination="a-2.png"
    )
    request = msgspec.structs.replace(begun.request, request_id="other")
    watched.end()
    with WatchJournal.open(watched.journal_path, watched.binding) as journal:
        journal.begin(msgspec.structs.replace(begun, request=request, files=[file]))
        journal.mark_published(msgspec.structs.replace(begun, request=request, files=[file]))
    watched.start()
    watched.watch(5.0)
    assert set(files_below(watched.published)) == {"a.png", "a-2.png", "a-2-2.png"}
    assert files_below(watched.input) == {}


def test_a_copy_on_another_disk_is_made_once(watched: Watched, monkeypatch: pytest.MonkeyPatch) -> None:
    """However long it takes until the file itself can be removed."""
    refusals, withdraw = iter(range(3)), watch_places.withdraw

    def refuse(source: Path, identity: Identity) -> None:
        if next(refusals, None) is not None:
            raise PermissionError(13, "Permission denied")
        withdraw(source, identity)

    rename = Path.rename

    def rename_within(path: Path, target: Path) -> Path:
        if {path.parent, target.parent} == {watched.input, watched.published}:
            raise OSError(errno.EXDEV, "Invalid cross-device link")
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", rename_within)
    for module in (watch_places, watch_moves):
        monkeypatch.setattr(module, "withdraw", refuse)
    watched.start()
    watched.watch(5.0)
    assert every_image_once(watched)


def test_a_copy_that_was_put_in_place_of_a_moved_file_is_new(watched: Watched, death: Death) -> None:
    """With its bytes and its time, but not the file that was moved: somebody wants it classified again."""
    death.await_at("after move")
    watched.survive()
    shutil.copy2(watched.published / "0.png", watched.input / "0.png")
    watched.start()
    watched.watch(5.0)
    assert watched.images() == {(name, level): 2 if name == "0.png" else 1 for level, name in enumerate(NAMES)}
    assert set(files_below(watched.published)) == {*NAMES, "0-2.png"}


def test_what_lies_in_the_store_under_a_begun_id_is_not_published(watched: Watched, death: Death) -> None:
    """Somebody else's bytes: the images go under another id."""
    death.await_at("before upload")
    watched.survive()
    (entry,) = read_watch_journal(watched.journal_path)
    watched.store.objects[entry.plan.request.batch_uri] = b"image_id,pixel_0\n"
    watched.start()
    watched.watch(5.0)
    assert every_image_once(watched)
    assert entry.plan.request_id not in {received.request.request_id for received in watched.requests()}


def test_a_decoder_that_refuses_what_another_release_took(
    watched: Watched, death: Death, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing was uploaded, so nothing is lost: the file is dealt with as if it were new."""
    death.await_at("before upload")
    watched.survive()
    monkeypatch.setattr("handoff.image_files.pictures._FORMATS", ("JPEG",))
    watched.start()
    monkeypatch.undo()
    watched.watch(5.0)
    assert every_image_once(watched)
