"""The parts of the folder watcher that its steps do not show: what they cost, and where their bounds are."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from fashion_client import watch_pictures, watch_scan, watch_settling
from fashion_client.image_blocks import Reading
from fashion_client.watch_outages import Notices
from fashion_client.watch_parcels import Parcels
from fashion_client.watch_pictures import Broken, Changed, Picture, read_found
from fashion_client.watch_plan import WatchedFile
from fashion_client.watch_scan import Identity, Lookout, find_names, identify
from fashion_client.watch_settling import Settling, Sighting
from handoff.contracts.errors import FolderUnavailable
from tests.watching import Clock, picture_bytes

ALL = {"most": 1000, "most_bytes": 1 << 30}


def sighting_of(path: Path) -> Sighting:
    """A file as it is now."""
    identity = identify(path)
    assert identity is not None
    return Sighting(path.name, identity, 0.0)


def picture(bytes_count: int, *, label: str = "") -> Picture:
    """A picture of so many bytes."""
    return Picture(
        WatchedFile(name="x", size_bytes=1, mtime_ns=1, inode=1, sha256="", label=label),
        np.zeros((1, bytes_count, 1), np.uint8),
    )


def test_two_looks_at_a_file_are_enough(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """However often its name is read: 100,000 files that wait cost no look each, each time."""
    names = {f"{number}.png" for number in range(50)}
    for name in names:
        (tmp_path / name).write_bytes(b"x")
    looks: list[Path] = []

    def counted(path: Path) -> Identity | None:
        looks.append(path)
        return identify(path)

    monkeypatch.setattr(watch_settling, "identify", counted)
    settling = Settling(tmp_path, settle_s=1.0, unreadable_after_s=10.0)
    for now in range(100):
        settling.see(names, now=now / 100)
        assert settling.settled(now=now / 100, **ALL) == []
    found = settling.settled(now=1.0, most=20, most_bytes=1 << 30)
    found += settling.settled(now=1.0, most=1000, most_bytes=5)
    assert len(found) == 25
    found += settling.settled(now=5.0, **ALL)
    assert [each.name for each in found] == sorted(names)
    assert len(looks) == 2 * len(names)
    assert settling.settled(now=50.0, **ALL) == []


def test_a_file_that_is_gone_is_forgotten(tmp_path: Path) -> None:
    """Whether its name is gone, or it alone just before it is due."""
    for name in ("a.png", "b.png"):
        (tmp_path / name).write_bytes(b"x")
    settling = Settling(tmp_path, settle_s=1.0, unreadable_after_s=10.0)
    settling.see({"a.png", "b.png", "never.png"}, now=0.0)
    settling.see({"b.png"}, now=0.5)
    (tmp_path / "b.png").unlink()
    assert settling.settled(now=2.0, **ALL) == []
    assert settling.is_idle


def test_looks_take_no_more_than_half_of_the_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder that answers slowly is looked at less often."""
    clock, takes_s = Clock(), 0.1

    def find_slowly(folder: Path, **_: object) -> set[str]:
        clock.now += takes_s
        return {folder.name}

    monkeypatch.setattr(watch_scan, "find_names", find_slowly)
    lookout = Lookout(tmp_path, period_s=0.5, notices=Notices(print), clock=clock)
    assert lookout.look() == {tmp_path.name}
    assert lookout.look() is None
    assert lookout.due_at == clock.now + 0.5
    clock.now, takes_s = lookout.due_at, 3.0
    assert lookout.look() is not None
    assert lookout.due_at == clock.now + 3.0


def test_a_sub_folder_that_cannot_be_looked_into_is_passed_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The rest is found; one that is gone meanwhile is no fault, and the folder itself is."""
    for name in ("a", "b", "c"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "x.png").write_bytes(b"x")
    passed, scan = [], os.scandir
    faults = {"b/": PermissionError(13, "Permission denied", "b"), "c/": FileNotFoundError(2, "gone", "c")}

    def refuse(path: Path) -> object:
        fault = next((fault for name, fault in faults.items() if path == tmp_path / name), None)
        if fault is not None:
            raise fault
        return scan(path)

    monkeypatch.setattr(os, "scandir", refuse)
    assert find_names(tmp_path, pass_over=passed.append) == {"a/x.png"}
    assert passed == [faults["b/"]]
    with pytest.raises(FolderUnavailable, match="cannot be looked into: No such file"):
        find_names(tmp_path / "none", pass_over=passed.append)


def test_a_sub_folder_that_cannot_be_entered_is_passed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its names can be read and none of its files looked at: said, and not waited for without a word."""
    (tmp_path / "a").mkdir()
    (tmp_path / "a/x.png").write_bytes(b"x")
    (tmp_path / "y.png").write_bytes(b"y")
    passed: list[OSError] = []
    monkeypatch.setattr(os, "access", lambda path, _: path != tmp_path / "a")  # root may enter any
    assert find_names(tmp_path, pass_over=passed.append) == {"y.png"}
    assert [(error.filename, error.strerror) for error in passed] == [(str(tmp_path / "a"), "Permission denied")]


def test_a_file_that_changes_while_it_is_read_is_not_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor one that is another by then, or gone."""
    path = tmp_path / "x.png"
    path.write_bytes(picture_bytes(1))
    sighting = sighting_of(path)
    assert isinstance(read_found(tmp_path, sighting, reading=Reading(), labelled=True), Picture)
    identify_open, calls = watch_pictures.identity_of, iter([sighting.identity])
    monkeypatch.setattr(watch_pictures, "identity_of", lambda status: next(calls, None) or identify_open(status))
    with path.open("ab") as file:
        file.write(b"more")
    assert read_found(tmp_path, sighting, reading=Reading(), labelled=True) == Changed()
    assert read_found(tmp_path, sighting, reading=Reading(), labelled=True) == Changed()
    path.unlink()
    assert read_found(tmp_path, sighting, reading=Reading(), labelled=True) == Changed()


def test_what_cannot_be_read_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not allowed is for good, not answering is not; a file of gigabytes and an endless name are not tried."""
    path = tmp_path / "x.png"
    path.write_bytes(picture_bytes(1))
    sighting = sighting_of(path)
    large = Sighting("x.png", Identity(1 << 40, 1, 1), 0.0)
    assert read_found(tmp_path, large, reading=Reading(), labelled=True) == Broken(
        f"x.png has {1 << 40} bytes; at most {watch_pictures.MAX_FILE_BYTES} are read."
    )
    long = read_found(
        tmp_path, Sighting(f"{'d/' * 600}x.png", sighting.identity, 0.0), reading=Reading(), labelled=True
    )
    assert isinstance(long, Broken)
    assert "has 1205 characters; at most 1024 are taken." in long.reason
    for error, expected in (
        (PermissionError(13, "Permission denied"), Broken("x.png cannot be read: Permission denied.")),
        (OSError(5, "Input/output error"), Changed(f"{path} cannot be read just now: Input/output error.")),
    ):

        def refuse(*_: object, error: OSError = error) -> int:
            raise error

        with monkeypatch.context() as patched:
            patched.setattr(os, "open", refuse)
            assert read_found(tmp_path, sighting, reading=Reading(), labelled=True) == expected


def test_parcels_bound_what_they_hold() -> None:
    """A request holds 12 MiB of pixels at most, all open ones four times as much: the oldest goes before its time."""
    parcels = Parcels(batch_size=100, linger_s=1.0)
    mebibyte = 1024 * 1024
    assert list(parcels.add(picture(7 * mebibyte), now=0.0)) == []
    assert [len(full) for full in parcels.add(picture(7 * mebibyte), now=0.5)] == [1]
    assert parcels.due_at == 1.5
    sent = []
    for number in range(6):
        sent += list(parcels.add(picture(9 * mebibyte, label=str(number)), now=1.0))
    assert [full[0].file.label for full in sent] == ["", "0"]
    assert len(parcels) == 5
    assert parcels.take_due(now=1.9) is None
    assert parcels.take_due(now=2.0) is not None
    assert len(parcels) == 4
