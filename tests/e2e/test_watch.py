"""A folder watcher whose process dies again and again: each image is classified and received once, each file moved."""

from __future__ import annotations

import csv
import io
import os
import random
import signal
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from classifiers.protocol import Images
from fashion_client.watch_journal import FILE_NAME, read_watch_journal
from handoff.contracts.errors import ExitCode
from handoff.contracts.protocols import Store
from tests.e2e.conftest import Start
from tests.e2e.mortal_watch import STEPS
from tests.e2e.programs import RECEIVE, WATCH, Program, script, wait_until
from tests.watching import files_below

MORTAL = Path(__file__).with_name("mortal_watch.py")

EMBEDDED = pytest.mark.parametrize("deployment", ["embedded+file"], indirect=True)

IMAGES = 200
SLOW = 20
KILLS = 4
QUICK = ("--settle", "0.5", "--linger", "0.2", "--period", "0.1", "--unreadable-after", "30", "--batch-size", "7")


class Drop:
    """Puts pictures into a folder: in place at once, or slowly, a piece at a time under their own name."""

    def __init__(self, folder: Path, sample: tuple[Images, list[str]], *, count: int, slow: int) -> None:
        images, labels = sample
        self.files: dict[str, bytes] = {}
        for number in range(count):
            # Every other one in a sub-folder that says what it is.
            name = f"{number}.png" if number % 2 else f"{labels[number]}/{number}.png"
            file = io.BytesIO()
            Image.fromarray(np.asarray(images[number])[..., 0]).save(file, "PNG")
            self.files[name] = file.getvalue()
        self._folder = folder
        self._slow = set(random.Random(3).sample(sorted(self.files), slow))
        self._over = threading.Event()

    @contextmanager
    def under_way(self) -> Iterator[None]:
        """Write while the block runs; what is not written when it ends never is."""
        quick = threading.Thread(target=self._write_quickly)
        slow = threading.Thread(target=self._write_slowly)
        quick.start()
        slow.start()
        try:
            yield
        finally:
            self._over.set()
            quick.join()
            slow.join()

    def _write_quickly(self) -> None:
        for name in self.files.keys() - self._slow:
            path = self._path(name)
            partial = path.with_suffix(".part")
            partial.write_bytes(self.files[name])
            partial.rename(path)
            self._over.wait(0.02)

    def _write_slowly(self) -> None:
        for name in self._slow:
            data = self.files[name]
            with self._path(name).open("wb", buffering=0) as file:
                for start in range(0, len(data), 1 + len(data) // 3):
                    file.write(data[start : start + 1 + len(data) // 3])
                    self._over.wait(0.15)

    def _path(self, name: str) -> Path:
        path = self._folder / name
        path.parent.mkdir(exist_ok=True)
        return path


@pytest.fixture
def answers(start: Start, store: Store, tmp_path: Path) -> Callable[[], Counter[str]]:
    """Receive the response to every request there is; how often each image was answered."""

    def receive() -> Counter[str]:
        requests = sum(1 for _ in store.list(f"{store.root}/requests/"))
        found = tmp_path / "found.csv"
        console = script(RECEIVE, "--predictions", str(found), "--count", str(requests), "--json")
        program = start(console, name="receive")
        assert program.wait() == ExitCode.OK, program.log
        with found.open(encoding="utf-8", newline="") as file:
            return Counter(row["image_id"] for row in csv.DictReader(file))

    return receive


@pytest.fixture
def watch(start: Start, tmp_path: Path) -> Callable[..., Program]:
    """Start watchers of one folder, each with another name."""
    (tmp_path / "in").mkdir()
    starts = iter(range(100))

    def begin(*flaw: str, path: Path = WATCH) -> Program:
        folders = ["--input", str(tmp_path / "in"), "--published", str(tmp_path / "out")]
        return start(script(path, *flaw, *folders, *QUICK, "--json"), name=f"watch-{next(starts)}")

    return begin


def everything_is_moved(folder: Path, files: dict[str, bytes]) -> bool:
    """Whether all files lie in the folder of the published, whole."""
    return len(list((folder / "out").rglob("*.png"))) == len(files) and files_below(folder / "out") == files


def finish(program: Program, folder: Path, files: dict[str, bytes]) -> None:
    """Wait until all is moved, and end the watcher as a service manager does."""
    wait_until(
        lambda: everything_is_moved(folder, files) or not program.is_running,
        what=f"{len(files)} files in {folder / 'out'}",
    )
    program.terminate()
    assert program.wait() == ExitCode.OK, program.log
    assert program.figures["unfinished"] == 0
    assert files_below(folder / "out") == files
    assert files_below(folder / "in") == {}
    assert files_below(folder / "unreadable") == {}
    assert read_watch_journal(folder / "out" / FILE_NAME) == []


@EMBEDDED
def test_images_are_classified_once_however_often_the_watcher_is_killed(
    watch: Callable[..., Program],
    answers: Callable[[], Counter[str]],
    start_worker: Start,
    tmp_path: Path,
    sample: tuple[Images, list[str]],
) -> None:
    """SIGKILL in the middle of 200 files, some of which are still being written, and again."""
    drop = Drop(tmp_path / "in", sample, count=IMAGES, slow=SLOW)
    start_worker("w-1")
    with drop.under_way():
        for _ in range(KILLS):
            program = watch()
            wait_until(lambda program=program: program.output.count(" images") >= 3, what="requests published")  # type: ignore[misc]
            program.kill()
        finish(watch(), tmp_path, drop.files)
    assert answers() == dict.fromkeys(drop.files, 1)


def test_a_watcher_that_dies_at_every_step_repeats_and_loses_nothing(
    watch: Callable[..., Program],
    answers: Callable[[], Counter[str]],
    start_worker: Start,
    tmp_path: Path,
    sample: tuple[Images, list[str]],
) -> None:
    """Each time another process goes on, under the same ids."""
    drop = Drop(tmp_path / "in", sample, count=IMAGES, slow=2)
    start_worker("w-1")
    with drop.under_way():
        for step in STEPS:
            dying = watch(step, "2", path=MORTAL)
            assert dying.wait() == -signal.SIGKILL, dying.log
        last = watch()
        finish(last, tmp_path, drop.files)
    assert last.figures["resumed"] >= 1
    assert answers() == dict.fromkeys(drop.files, 1)


@EMBEDDED
def test_an_outage_is_waited_for_or_left_to_the_next_process(
    watch: Callable[..., Program], tmp_path: Path, sample: tuple[Images, list[str]]
) -> None:
    """A store that is away is waited for; whoever does not want to wait leaves it to the next process."""
    store, away = tmp_path / "store", tmp_path / "away"
    store.rename(away)
    store.write_bytes(b"no folder")
    drop = Drop(tmp_path / "in", sample, count=10, slow=0)
    with drop.under_way():
        program = watch()
        program.wait_for("Trying again; nothing is lost.")
        os.kill(program.pid, signal.SIGINT)
        assert program.wait() == ExitCode.STORE_UNAVAILABLE, program.log
        assert "the same command goes on with them" in program.log
        assert program.log.count("Trying again") == 1
        store.unlink()
        away.rename(store)
        finish(watch(), tmp_path, drop.files)
