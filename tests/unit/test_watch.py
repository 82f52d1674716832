"""The folder watcher, step by step on a clock that stands still: what is taken, when, and as what."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from fashion_client.image_blocks import Reading
from fashion_client.watch_journal import read_watch_journal
from handoff.contracts.errors import BrokerUnavailable, FolderUnavailable, StoreUnavailable
from tests.watching import LINGER_S, SETTLE_S, SIDE, UNREADABLE_AFTER_S, Watched, files_below, picture_bytes

SOON_S = SETTLE_S + LINGER_S + 1.0
LATE_S = UNREADABLE_AFTER_S + LINGER_S + 1.0


@pytest.fixture
def watched(tmp_path: Path) -> Iterator[Watched]:
    """Three folders and what it takes to watch them."""
    watched = Watched(tmp_path)
    yield watched
    watched.end()


def test_a_file_is_published_and_moved(watched: Watched) -> None:
    """Under its name below the folder, with the sub-folder as its label; its bytes are the same in the other place."""
    data = watched.put("cat/a.png", 9).read_bytes()
    watched.start()
    watched.watch(SOON_S)
    (batch,) = watched.batches()
    assert (batch.image_ids, batch.labels, int(batch.images[0, 0, 0, 0])) == (["cat/a.png"], ["cat"], 9)
    assert files_below(watched.published) == {"cat/a.png": data}
    assert files_below(watched.input) == {}
    assert read_watch_journal(watched.journal_path) == []
    assert watched.requests()[0].client_id == watched.journal.binding.client_id  # type: ignore[union-attr]


def test_a_file_has_to_lie_still_before_it_is_taken(watched: Watched) -> None:
    """Neither before its time, nor while it grows; a half-written one decodes to nothing anyway."""
    whole = picture_bytes(5, side=32)
    path = watched.input / "slow.png"
    watched.start()
    for size in range(0, len(whole) + 1, 5):
        path.write_bytes(whole[:size])
        watched.watch(SETTLE_S * 0.75)
        assert watched.requests() == []
    path.write_bytes(whole)
    watched.watch(SOON_S)
    assert watched.images() == {("slow.png", 5): 1}
    assert files_below(watched.unreadable) == {}


@pytest.mark.parametrize("cut_bytes", [1, 12, 20, 40])
def test_an_upload_that_pauses_is_neither_published_nor_given_up(watched: Watched, cut_bytes: int) -> None:
    """However near to its end it stops: decoders take a PNG whose last 20 bytes are not there yet."""
    whole = picture_bytes(5)
    path = watched.input / "slow.png"
    path.write_bytes(whole[:-cut_bytes])
    watched.start()
    watched.watch(UNREADABLE_AFTER_S - 1.0)
    assert (watched.requests(), files_below(watched.unreadable)) == ([], {})
    path.write_bytes(whole)
    watched.watch(SOON_S)
    assert watched.images() == {("slow.png", 5): 1}


@pytest.mark.parametrize("ending", ["png", "jpg"])
def test_what_is_no_picture_for_long_is_put_aside_with_the_reason(watched: Watched, ending: str) -> None:
    """A file cut off for good; nothing else waits for it."""
    data = picture_bytes(5, ending=f".{ending}")
    (watched.input / "dog").mkdir()
    (watched.input / "dog" / f"cut.{ending}").write_bytes(data[: len(data) // 2])
    watched.put("good.png")
    watched.start()
    watched.watch(SOON_S)
    assert watched.images() == {("good.png", 7): 1}
    assert files_below(watched.unreadable) == {}
    watched.watch(LATE_S)
    found = files_below(watched.unreadable)
    assert set(found) == {f"dog/cut.{ending}", f"dog/cut.{ending}.reason.txt"}
    reason = found[f"dog/cut.{ending}.reason.txt"].decode()
    assert reason.startswith(f"dog/cut.{ending} is no picture that can be read: ")
    assert reason.count("\n") == 1
    assert any(line.startswith(f"unreadable: dog/cut.{ending} ") for line in watched.said.lines)
    assert watched.report.figures()["unreadable"] == 1


def test_a_picture_without_its_end_mark_is_taken_once_it_is_old(watched: Watched) -> None:
    """All pixels are there, so `fashion request` would take it as well; there is no more to come."""
    (watched.input / "x.png").write_bytes(picture_bytes(5)[:-4])
    watched.start()
    watched.watch(LATE_S)
    assert watched.images() == {("x.png", 5): 1}


def test_what_takes_the_place_of_a_broken_file_is_another(watched: Watched) -> None:
    """The time of the first does not count for the second."""
    path = watched.input / "x.png"
    path.write_bytes(b"\x89PNG")
    watched.start()
    watched.watch(UNREADABLE_AFTER_S - 1.0)
    path.write_bytes(b"\x89PNG, longer")
    watched.watch(UNREADABLE_AFTER_S - 1.0)
    assert files_below(watched.unreadable) == {}
    watched.put("x.png", 6)
    watched.watch(SOON_S)
    assert watched.images() == {("x.png", 6): 1}


def test_a_file_that_is_renamed_into_place_needs_no_more_than_to_lie_still(watched: Watched) -> None:
    """Temporary names, hidden ones and other kinds of file are not looked at."""
    others = [".x.png", "x.png.tmp", "x.png.part", "notes.txt", ".hidden/y.png"]
    (watched.input / ".hidden").mkdir()
    for name in others:
        (watched.input / name).write_bytes(picture_bytes(1))
    (watched.input / "link.png").symlink_to(watched.input / ".x.png")
    os.mkfifo(watched.input / "pipe.png")
    watched.start()
    watched.watch(LATE_S)
    assert watched.requests() == []
    (watched.input / "x.png.part").rename(watched.input / "x.png")
    watched.watch(SETTLE_S + LINGER_S + 0.5)
    assert watched.images() == {("x.png", 1): 1}
    assert files_below(watched.unreadable) == {}


def test_the_same_name_again_is_another_image(watched: Watched) -> None:
    """Cameras that call every picture the same: each is published, none overwrites another."""
    watched.start()
    for level in (1, 2, 2, 3):
        watched.put("cam/latest.png", level)
        watched.watch(SOON_S)
    assert watched.images() == {("cam/latest.png", 1): 1, ("cam/latest.png", 2): 2, ("cam/latest.png", 3): 1}
    names = ["cam/latest.png", "cam/latest-2.png", "cam/latest-3.png", "cam/latest-4.png"]
    levels = [1, 2, 2, 3]
    assert files_below(watched.published) == {
        name: picture_bytes(level) for name, level in zip(names, levels, strict=True)
    }


def test_equal_files_of_different_names_are_different_images(watched: Watched) -> None:
    """Whatever their bytes are."""
    for name in ("a.png", "b.png", "c/a.png"):
        watched.put(name, 3)
    watched.start()
    watched.watch(SOON_S)
    assert watched.images() == {("a.png", 3): 1, ("b.png", 3): 1, ("c/a.png", 3): 1}


@pytest.mark.parametrize("way", ["written over", "renamed over", "a twin"])
def test_what_changes_between_reading_and_moving_stays_and_is_published_too(
    watched: Watched, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    """The bytes that were read are published; those that came meanwhile are another image."""
    path, create = watched.put("x.png", 1), watched.store.create
    before, others = path.stat(), iter([picture_bytes(2, side=SIDE if way == "a twin" else SIDE + 1)])

    def create_late(uri: str, data: bytes) -> bool:
        for other in others:
            partial = path if way == "written over" else path.with_suffix(".part")
            partial.write_bytes(other)
            if way == "a twin":
                os.utime(partial, ns=(before.st_atime_ns, before.st_mtime_ns))
                assert partial.stat().st_size == before.st_size
            partial.rename(path)
        return create(uri, data)

    monkeypatch.setattr(watched.store, "create", create_late)
    watched.start()
    watched.watch(SETTLE_S + LINGER_S)
    assert (watched.images(), files_below(watched.published)) == ({("x.png", 1): 1}, {})
    watched.watch(SOON_S)
    assert watched.images() == {("x.png", 1): 1, ("x.png", 2): 1}
    assert list(files_below(watched.published)) == ["x.png"]


def test_a_file_that_is_removed_after_it_was_read_is_published_all_the_same(
    watched: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And said to be missing; should the very file come back, it is moved and not published again."""
    path, create, aside = watched.put("x.png", 1), watched.store.create, watched.input.parent / "aside.png"

    def create_late(uri: str, data: bytes) -> bool:
        path.rename(aside)
        return create(uri, data)

    monkeypatch.setattr(watched.store, "create", create_late)
    watched.start()
    watched.watch(SOON_S)
    assert watched.images() == {("x.png", 1): 1}
    assert "1 published files are not there to be moved; if they come back, they will be." in watched.said.lines
    aside.rename(path)
    watched.watch(SOON_S)
    assert watched.images() == {("x.png", 1): 1}
    assert set(files_below(watched.published)) == {"x.png"}
    assert read_watch_journal(watched.journal_path) == []


def test_images_that_appear_together_go_together(watched: Watched) -> None:
    """At once when a request is full, the rest when its first image has waited."""
    watched.batch_size = 3
    for number in range(7):
        watched.put(f"{number}.png", number)
    watched.start()
    watched.watch(SETTLE_S)
    assert [len(batch) for batch in watched.batches()] == [3, 3]
    watched.watch(LINGER_S / 2)
    assert len(watched.batches()) == 2
    watched.watch(LINGER_S)
    assert [batch.image_ids for batch in watched.batches()] == [
        ["0.png", "1.png", "2.png"],
        ["3.png", "4.png", "5.png"],
        ["6.png"],
    ]


def test_an_odd_image_spoils_nobody_elses_request(watched: Watched) -> None:
    """Sizes, colours and labels each go by themselves, unless all are made alike."""
    watched.put("a.png")
    watched.put("b.png", side=SIDE + 1)
    watched.put("cat/c.png")
    watched.put("d.png")
    watched.start()
    watched.watch(SOON_S)
    assert sorted(batch.image_ids for batch in watched.batches()) == [["a.png", "d.png"], ["b.png"], ["cat/c.png"]]
    watched.reading, watched.labelled = Reading(size=(2, 2), channels=1), False
    for name, mode in (("cat/e.png", "L"), ("dog/f.png", "RGB"), ("g.jpg", "L")):
        watched.put(name, mode=mode)
    watched.put("h.png", side=SIDE + 1)
    watched.start()
    watched.watch(SOON_S)
    last = watched.batches()[-1]
    assert (last.image_ids, last.labels) == (["cat/e.png", "dog/f.png", "g.jpg", "h.png"], None)
    assert last.images.shape == (4, 2, 2, 1)


def test_names_are_quoted_as_they_are(watched: Watched) -> None:
    """Commas, quotes and line ends come back with the response; what is no UTF-8 is put aside."""
    names = ['a,b".png', "two\nlines.png", " ü .PNG"]
    for name in names:
        watched.put(name, 4)
    strange = os.fsencode(watched.input) + b"/\xff.png"
    with open(strange, "wb") as file:  # noqa: PTH123 - a name of bytes
        file.write(picture_bytes(4))
    watched.start()
    watched.watch(LATE_S)
    assert watched.images() == {(name, 4): 1 for name in names}
    assert files_below(watched.input) == {}
    reasons = [text for name, text in files_below(watched.unreadable).items() if name.endswith(".reason.txt")]
    assert len(reasons) == 1
    assert b"is no UTF-8" in reasons[0]


def test_an_outage_is_said_once_and_loses_nothing(watched: Watched) -> None:
    """The watcher waits longer and longer, and says when it is over; what may have arrived is marked as such."""
    watched.put("x.png", 1)
    watched.start()
    watched.store.failures, watched.broker.failures = 4, 3
    watched.watch(SOON_S)
    assert watched.images() == {("x.png", 1): 1}
    assert [received.republished for received in watched.requests()] == [True]
    said = [line for line in watched.said.lines if "answer" in line]
    assert said == [
        "The store did not answer. Trying again; nothing is lost.",
        "The store answers again.",
        "The broker did not answer. Trying again; nothing is lost.",
        "The broker answers again.",
    ]
    assert len(watched.waits) == 7
    assert set(files_below(watched.published)) == {"x.png"}


@pytest.mark.parametrize("is_stores", [True, False])
def test_a_watcher_that_is_stopped_in_an_outage_tries_once_more(watched: Watched, *, is_stores: bool) -> None:
    """And leaves the rest to the next one, which sends the same request."""
    watched.put("x.png", 1)
    watcher = watched.start()
    if is_stores:
        watched.store.failures = 1000
    else:
        watched.broker.failures = 1000
    watched.stops_after_waits = 3
    watched.watch(SOON_S)
    assert len(watched.waits) == 3
    with pytest.raises(StoreUnavailable if is_stores else BrokerUnavailable):
        watcher.finish()
    (entry,) = read_watch_journal(watched.journal_path)
    watched.store.failures = watched.broker.failures = 0
    watched.stops_after_waits = None
    watched.start()
    watched.watch(SOON_S)
    assert [received.request for received in watched.requests()] == [entry.plan.request]
    assert set(files_below(watched.published)) == {"x.png"}


def test_a_published_file_that_cannot_be_moved_is_not_published_again(
    watched: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is moved as soon as that works."""
    watched.put("x.png", 1)
    watched.put("y.png", 2)
    rename, refusals = Path.rename, iter(range(3))

    def refuse(path: Path, target: Path) -> Path:
        if path.name == "x.png" and next(refusals, None) is not None:
            raise PermissionError(13, "Permission denied")
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", refuse)
    watched.start()
    watched.watch(SOON_S)
    assert watched.images() == {("x.png", 1): 1, ("y.png", 2): 1}
    assert len(watched.requests()) == 1
    assert set(files_below(watched.published)) == {"x.png", "y.png"}
    assert len(watched.waits) == 3
    assert "1 published files cannot be moved: x.png, Permission denied. Trying again; nothing is lost." in (
        watched.said.lines
    )


def test_a_folder_that_is_away_is_waited_for(watched: Watched) -> None:
    """A network folder that comes back; with `once` it ends the run."""
    watcher = watched.start()
    away = watched.input.with_name("away")
    watched.input.rename(away)
    watched.watch(2.0)
    away.rename(watched.input)
    watched.put("x.png", 1)
    watched.watch(SOON_S)
    said = [line for line in watched.said.lines if "folder" in line]
    assert len(said) == 2
    assert "cannot be looked into: No such file or directory" in said[0]
    assert said[1] == "The watched folder is there again."
    assert watched.images() == {("x.png", 1): 1}
    assert watcher.is_idle
    watched.input.rename(away)
    with pytest.raises(FolderUnavailable):
        run_once(watched)


def test_once_takes_what_is_there_and_ends(watched: Watched) -> None:
    """Broken files are waited for, those that came later or change are left."""
    for name in ("a.png", "b.png"):
        watched.put(name, 1)
    (watched.input / "broken.png").write_bytes(b"x")
    growing = watched.put("growing.png", 1)
    watcher = watched.start(once=True)
    watcher.step()
    assert not watcher.is_idle
    watched.put("late.png", 1)
    growing.write_bytes(picture_bytes(2, side=SIDE + 1))
    watched.watch(SOON_S)
    assert not watcher.is_idle
    watched.watch(LATE_S)
    assert watcher.is_idle
    assert watched.images() == {("a.png", 1): 1, ("b.png", 1): 1}
    assert set(files_below(watched.input)) == {"late.png", "growing.png"}
    assert set(files_below(watched.unreadable)) == {"broken.png", "broken.png.reason.txt"}


def test_gzip_goes_too(watched: Watched) -> None:
    """The other format that carries names."""
    watched.format = "csv.gz"
    watched.put("x.png", 1)
    watched.start()
    watched.watch(SOON_S)
    (received,) = watched.requests()
    assert (received.request.format, received.request.image_count) == ("csv.gz", 1)


def run_once(watched: Watched) -> None:
    """Run a watcher as the console does, until it has dealt with what is there."""
    import threading

    class Wake(threading.Event):
        """Puts the clock forward instead of waiting."""

        def wait(self, timeout: float | None = None) -> bool:
            watched.clock.now += timeout or 0.0
            return True

    watched.start(once=True).run(stopped=threading.Event(), wake=Wake(), once=True)
