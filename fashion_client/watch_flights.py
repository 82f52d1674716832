"""The requests of a watched folder that are on their way at once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Executor, Future, wait

from fashion_client.watch_journal import Entry
from fashion_client.watch_pictures import Picture
from fashion_client.watch_sending import Outcome, WatchSending

# As many again wait for a thread, with their pixels in memory.
THREADS = 4
WINDOW = 2 * THREADS


class Flights:
    """Sends in other threads, and hands out what came of it; used by one thread."""

    def __init__(self, sending: WatchSending, threads: Executor, *, when_landed: Callable[[], None]) -> None:
        self._sending = sending
        self._threads = threads
        self._when_landed = when_landed
        self._open: list[Future[Outcome]] = []
        self.fault: BaseException | None = None
        """What ended the first one that did not come to its end."""

    def __len__(self) -> int:
        return len(self._open)

    @property
    def is_full(self) -> bool:
        """Whether nothing more should be read just now."""
        return len(self._open) >= WINDOW

    def send(self, pictures: Sequence[Picture]) -> None:
        """Let a request for pictures go."""
        self._watch(self._threads.submit(self._sending.send, pictures))

    def resume(self, entry: Entry) -> None:
        """Let a request of an earlier process go on."""
        self._watch(self._threads.submit(self._sending.resume, entry))

    def landed(self) -> list[Outcome]:
        """Hand out what came of those that have ended."""
        done = [future for future in self._open if future.done()]
        self._open = [future for future in self._open if future not in done]
        outcomes = []
        for future in done:
            error = future.exception()
            if error is None:
                outcomes.append(future.result())
            else:
                self.fault = self.fault or error
        return outcomes

    def finish(self) -> list[Outcome]:
        """Wait for all, and hand out what came of them."""
        wait(self._open)
        return self.landed()

    def _watch(self, future: Future[Outcome]) -> None:
        self._open.append(future)
        future.add_done_callback(lambda _: self._when_landed())
