"""The loop of `fashion watch`: look, wait until files lie still, read them, send them."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence

from fashion_client.watch_flights import Flights
from fashion_client.watch_journal import Entry
from fashion_client.watch_moves import Moves
from fashion_client.watch_parcels import Parcels
from fashion_client.watch_pictures import Broken, Changed, Found, Picture
from fashion_client.watch_report import WatchReport
from fashion_client.watch_scan import Lookout
from fashion_client.watch_sending import Outcome
from fashion_client.watch_settling import Settling, Sighting
from handoff.contracts.errors import FolderUnavailable

# Decoded together, then sorted into parcels; few enough that a signal is heard in between, and that a camera's
# pictures, ten times as large as their files, leave room in memory.
READ_TOGETHER = 64
READ_TOGETHER_BYTES = 8 * 1024 * 1024

THE_INPUT = "The watched folder"

Read = Callable[[Sequence[Sighting]], Sequence[Found]]


class Watcher:
    """Turns files that appear in a folder into requests. Used by one thread; `step` does what is due and returns."""

    def __init__(
        self,
        lookout: Lookout,
        *,
        settling: Settling,
        read: Read,
        parcels: Parcels,
        flights: Flights,
        moves: Moves,
        report: WatchReport,
        clock: Callable[[], float],
    ) -> None:
        self._lookout = lookout
        self._settling = settling
        self._read = read
        self._parcels = parcels
        self._flights = flights
        self._moves = moves
        self._report = report
        self._clock = clock
        self._absent: dict[str, Entry] = {}
        """Published requests by the names of their files that were not there to be moved."""
        self._has_looked = False
        self._folder_fault: FolderUnavailable | None = None

    @property
    def is_idle(self) -> bool:
        """Whether all that the looks so far have found is dealt with."""
        return self._has_looked and self._settling.is_idle and not self._parcels and not self._flights

    def run(self, *, stopped: threading.Event, wake: threading.Event, once: bool) -> None:
        """Watch until `stopped` is set, or with `once` until what is there now is dealt with; then finish.

        `wake` is set when a request has landed, and by whoever sets `stopped`.

        Raises: what kept a request from its end; with `once`, FolderUnavailable too
        """
        try:
            while not (stopped.is_set() or self._flights.fault or (once and self.is_idle)):
                wait_s = self.step()
                if once and self._folder_fault is not None:
                    raise self._folder_fault
                wake.wait(wait_s)
                wake.clear()
        finally:
            stopped.set()  # nobody waits for an outage to end any more
            self.finish()

    def resume(self, entries: Sequence[Entry]) -> None:
        """Go on with the requests of an earlier process; before anything else is done."""
        for entry in entries:
            self._moves.keep_free(entry.plan)
        for entry in entries:
            self._go_on(entry)

    def step(self) -> float:
        """Do what is due; in how many seconds there is more to do, if nothing lands before."""
        for outcome in self._flights.landed():
            self._take_in(outcome)
        self._look()
        may_have_more = self._read_some()
        while not self._flights.is_full and (pictures := self._parcels.take_due(now=self._clock())) is not None:
            self._flights.send(pictures)
        if may_have_more and not self._flights.is_full:
            return 0.0
        due_at = self._lookout.due_at
        if self._parcels.due_at is not None and not self._flights.is_full:
            due_at = min(due_at, self._parcels.due_at)
        return max(0.0, due_at - self._clock())

    def finish(self) -> None:
        """Wait for what is on its way; what was read and not begun stays where it is.

        Raises: what kept a request from its end
        """
        for outcome in self._flights.finish():
            self._take_in(outcome)
        if self._flights.fault is not None:
            raise self._flights.fault

    def _take_in(self, outcome: Outcome) -> None:
        self._report.add(outcome)
        for file in outcome.plan.files:
            self._settling.release(file.name)
        if outcome.absent is not None:
            entry = Entry("published", outcome.absent)
            self._absent.update((file.name, entry) for file in outcome.absent.files)

    def _look(self) -> None:
        try:
            names = self._lookout.look()
        except FolderUnavailable as error:
            self._folder_fault = error
            self._report.notices.begin(THE_INPUT, f"{error} Looking again every so often.")
            return
        if names is not None:
            self._has_looked, self._folder_fault = True, None
            self._report.notices.end(THE_INPUT, f"{THE_INPUT} is there again.")
            self._settling.see(names, now=self._clock())

    def _read_some(self) -> bool:
        """Read files that lie still, if there is room for what they make; whether there may be more of them."""
        if self._flights.is_full:
            return False
        settled = self._settling.settled(now=self._clock(), most=READ_TOGETHER, most_bytes=READ_TOGETHER_BYTES)
        back = [sighting for sighting in settled if sighting.name in self._absent]
        for sighting in back:
            if (entry := self._absent.get(sighting.name)) is not None:  # not with another one's request already
                self._go_on(entry)
        new = [sighting for sighting in settled if sighting not in back]
        for sighting, found in zip(new, self._read(new), strict=True):
            self._sort(sighting, found)
        return bool(settled)

    def _sort(self, sighting: Sighting, found: Found) -> None:
        now = self._clock()
        is_old = self._settling.is_old(sighting, now=now)
        match found:
            case Changed(fault):
                if fault:
                    self._report.notices.begin(sighting.name, fault)
                self._settling.again(sighting.name, now=now)
            case Picture(is_whole=is_whole) if is_whole or is_old:
                for pictures in self._parcels.add(found, now=now):
                    self._flights.send(pictures)
            case Broken(reason) if is_old:
                self._put_aside(sighting, reason)
            case _:
                self._settling.doubt(sighting)

    def _put_aside(self, sighting: Sighting, reason: str) -> None:
        try:
            target = self._moves.condemn(sighting.name, sighting.identity, reason)
        except OSError as error:
            sentence = f"{sighting.name} is no picture and cannot be moved: {error.strerror}. Trying again."
            self._report.notices.begin(f"{sighting.name} (unreadable)", sentence)
            self._settling.again(sighting.name, now=self._clock())
            return
        self._settling.release(sighting.name)
        if target is not None:
            self._report.add_unreadable(reason, target)

    def _go_on(self, entry: Entry) -> None:
        for file in entry.plan.files:
            self._absent.pop(file.name, None)
            self._settling.hold(file.name)
        self._flights.resume(entry)
