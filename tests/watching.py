"""A watcher in memory: its folders are real, its clock, its threads, its broker and its store are not."""

from __future__ import annotations

import io
import os
from collections import Counter
from collections.abc import Callable
from concurrent.futures import Executor, Future
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from PIL import Image

from fashion_client.client import Client
from fashion_client.image_blocks import Reading
from fashion_client.request_plan import Deployment
from fashion_client.watch_flights import Flights
from fashion_client.watch_folders import Folders, prepare_folders
from fashion_client.watch_journal import FILE_NAME, WatchJournal
from fashion_client.watch_moves import Moves
from fashion_client.watch_outages import Persistence
from fashion_client.watch_parcels import Parcels
from fashion_client.watch_pictures import read_found
from fashion_client.watch_plan import Binding
from fashion_client.watch_report import WatchReport
from fashion_client.watch_scan import Lookout
from fashion_client.watch_sending import Order, WatchSending
from fashion_client.watch_settling import Settling
from fashion_client.watcher import Watcher
from handoff.contracts.batches import Batch, decode_batch
from handoff.contracts.envelope import ReceivedRequest, parse_request
from handoff.contracts.messages import PayloadFormat
from handoff.contracts.topology import Topology
from handoff.progress import Progress
from tests.fakes import FakeBroker, FakeStore

T = TypeVar("T")

SIDE = 4
PERIOD_S, SETTLE_S, LINGER_S, UNREADABLE_AFTER_S = 0.5, 1.0, 1.0, 10.0


class Killed(BaseException):
    """The process is gone."""


class InlineExecutor(Executor):
    """Runs what it is given at once, in the same thread; a death goes through it."""

    def submit(self, call: Callable[..., T], /, *args: Any, **options: Any) -> Future[T]:  # noqa: ANN401
        """Run a call."""
        future: Future[T] = Future()
        try:
            future.set_result(call(*args, **options))
        except Exception as error:  # noqa: BLE001 - as the real ones do
            future.set_exception(error)
        return future


class Clock:
    """Stands still until somebody puts it forward."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        """Read it."""
        return self.now


class Lines(Progress):
    """Keeps what would be written."""

    def __init__(self) -> None:
        super().__init__("published", total=None, unit="images")
        self.lines: list[str] = []

    def write(self, line: str) -> None:
        """Keep a line."""
        self.lines.append(line)

    def note(self, line: str) -> None:
        """Keep a line."""
        self.lines.append(line)

    def advance(self, count: int) -> None:
        """Say nothing."""


class Watched:
    """Three folders, and watchers of them, one after the other."""

    def __init__(self, folder: Path) -> None:
        (folder / "in").mkdir()
        self.folders: Folders = prepare_folders(folder / "in", folder / "out", None)
        self.input, self.published, self.unreadable = (
            self.folders.input,
            self.folders.published,
            self.folders.unreadable,
        )
        self.journal_path = self.published / FILE_NAME
        self.store, self.broker, self.clock, self.said = FakeStore(), FakeBroker(), Clock(), Lines()
        self.waits: list[float] = []
        self.stops_after_waits: int | None = None
        self.batch_size, self.reading, self.labelled = 100, Reading(), True
        self.format: PayloadFormat = "csv"
        self.journal: WatchJournal | None = None

    def start(self, *, once: bool = False) -> Watcher:
        """Start a watcher, the last one being gone, and let it go on with what that one left."""
        self.end()
        self.journal = WatchJournal.open(self.journal_path, self.binding)
        report, moves = WatchReport(self.said), Moves(self.folders)
        client = Client(
            self.broker,
            store=self.store,
            topology=Topology(),
            client_id=self.journal.binding.client_id,
            receive="nothing",
        )
        sending = WatchSending(
            client,
            store=self.store,
            journal=self.journal,
            moves=moves,
            persistence=Persistence(report.notices, stopped_within=self._stopped_within),
            order=Order(self.input, self.reading, self.format),
        )
        self.report = report
        self.watcher = Watcher(
            Lookout(self.input, period_s=PERIOD_S, notices=report.notices, clock=self.clock),
            settling=Settling(self.input, settle_s=SETTLE_S, unreadable_after_s=UNREADABLE_AFTER_S, once=once),
            read=lambda sightings: [
                read_found(self.input, each, reading=self.reading, labelled=self.labelled) for each in sightings
            ],
            parcels=Parcels(batch_size=self.batch_size, linger_s=LINGER_S),
            flights=Flights(sending, InlineExecutor(), when_landed=lambda: None),
            moves=moves,
            report=report,
            clock=self.clock,
        )
        self.watcher.resume(self.journal.entries())
        return self.watcher

    @property
    def binding(self) -> Binding:
        """What the journal is of."""
        return Binding(
            input=str(self.input), published=str(self.published), deployment=Deployment("memory:q", "memory:s")
        )

    def end(self) -> None:
        """Let the process be gone: what it has not written down is lost."""
        if self.journal is not None:
            self.journal.close()
            self.journal = None

    def watch(self, seconds: float) -> None:
        """Let the watcher look for a while."""
        until = self.clock.now + seconds
        self.watcher.step()
        while self.clock.now < until:
            self.clock.now += PERIOD_S / 2
            self.watcher.step()

    def survive(self, seconds: float = 5.0) -> None:
        """Start, watch for a while, and perhaps die in it."""
        with suppress(Killed):
            self.start()
            self.watch(seconds)

    def put(self, name: str, level: int = 7, *, side: int = SIDE, mode: str = "L") -> Path:
        """Put a picture there as `mv` does: whole, under its own name at once."""
        path = self.input / name
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_name(f".{path.name}.tmp")
        partial.write_bytes(picture_bytes(level, side=side, mode=mode, ending=path.suffix))
        return partial.rename(path)

    def requests(self) -> list[ReceivedRequest]:
        """Every message that was published, in order."""
        return [parse_request(message) for _, message in self.broker.published]

    def batches(self) -> list[Batch]:
        """The batch of every request, each counted once however often it was published."""
        found = {}
        for received in self.requests():
            told = received.request
            data = self.store.objects[told.batch_uri]
            found[told.request_id] = decode_batch(
                data, format=told.format, image_shape=self.shape_of(data), max_images=1000, max_bytes=1_000_000
            )
        return list(found.values())

    def images(self) -> Counter[tuple[str, int]]:
        """How often each image was asked for, by its id and level."""
        every = [
            pair for batch in self.batches() for pair in zip(batch.image_ids, batch.images[:, 0, 0, 0], strict=True)
        ]
        return Counter((name, int(level)) for name, level in every)

    def shape_of(self, data: bytes) -> tuple[int, int, int]:
        """The shape that a batch's header tells; all are square and gray here."""
        header = data.split(b"\n", 1)[0].decode().split(",")
        side = round(sum(name.startswith("pixel_") for name in header) ** 0.5)
        return side, side, 1

    def _stopped_within(self, wait_s: float) -> bool:
        self.waits.append(wait_s)
        self.clock.now += wait_s
        return self.stops_after_waits is not None and len(self.waits) >= self.stops_after_waits


def picture_bytes(level: int, *, side: int = SIDE, mode: str = "L", ending: str = ".png") -> bytes:
    """A picture of one level, as a file of its kind."""
    pixels = np.full((side, side) if mode == "L" else (side, side, 3), level, np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG" if ending.lower() == ".png" else "JPEG")
    return file.getvalue()


def files_below(folder: Path) -> dict[str, bytes]:
    """What lies in a folder and its sub-folders, hidden files left out."""
    found = {}
    for place, _, names in os.walk(folder):
        for name in names:
            if not name.startswith("."):
                path = Path(place, name)
                found[path.relative_to(folder).as_posix()] = path.read_bytes()
    return found
