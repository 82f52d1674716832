"""Waiting for a run's responses: each taken once, and asked for again when it does not come."""

from __future__ import annotations

import heapq
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from types import TracebackType
from typing import NamedTuple, Self

import msgspec

from fashion_client.client import Client
from fashion_client.journal import Journal
from fashion_client.sending import UPLOADS, in_order
from fashion_client.summary import Summary
from handoff.contracts.messages import AnalysisResponse

# The longest time between two publications of a request, unless the first is longer: a worker that was missing is
# noticed by then, and a backlog of hours is not asked for over and over.
MOST_WAIT_S = 600.0

# How often a wait looks whether all is answered; a response is shown when it comes, not then.
LOOK_PERIOD_S = 0.05


@dataclass(frozen=True)
class Patience:
    """How long a published request is waited for, and how often it is published in all."""

    timeout_s: float = 60.0
    most_publications: int = 5

    def wait_s(self, publications: int) -> float:
        """How long to wait after so many publications: twice as long after each."""
        return min(self.timeout_s * 2.0 ** (publications - 1), max(self.timeout_s, MOST_WAIT_S))


class Answers:
    """Takes the responses to a run: each first into the journal, then before the user's eyes, once."""

    def __init__(self, journal: Journal, *, show: Callable[[AnalysisResponse, float | None], None]) -> None:
        self.summary = Summary()
        self._journal = journal
        self._show = show
        self._lock = threading.Lock()

    def take(self, response: AnalysisResponse, *, was_stored: bool = False) -> None:
        """Write a response down and show it, unless its request was answered before or is another run's."""
        if self._journal.answer(response):
            # How long one has lain in the store says nothing of the service.
            timed = msgspec.structs.replace(response, requested_at=None) if was_stored else response
            with self._lock:
                self._show(response, self.summary.add(timed))


class Due(NamedTuple):
    """When an unanswered request is to be looked after, and how often this process has published it."""

    at: float
    position: int
    publications: int


class Waiting:
    """Looks after what was published and is not answered; memory holds a few numbers for each, the journal the rest.

    Used by one thread; with `listen`, responses are taken in another as they come.
    """

    def __init__(self, client: Client, journal: Journal, *, answers: Answers, patience: Patience) -> None:
        self._client = client
        self._journal = journal
        self._answers = answers
        self._patience = patience
        self._due: list[Due] = []
        self._listener = ThreadPoolExecutor(1, "responses")
        self._listening: Future[None] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._client.stop_receiving()
        self._listener.shutdown()

    def listen(self) -> None:
        """Begin to take the responses that come; the client has to stream them."""
        self._listening = self._listener.submit(self._take_all)

    def expect(self, position: int) -> None:
        """A request was published just now."""
        heapq.heappush(self._due, self._due_after(position, 1))

    def ask_for_all(self) -> None:
        """Look once after every request that an earlier process left unanswered.

        Raises: StoreUnavailable; BrokerUnavailable
        """
        self._look_after(Due(0.0, row.position, 0) for row in self._journal.unanswered())

    def look_after(self, *, most: int = UPLOADS) -> None:
        """Look after requests whose time is up, a few at a time: beside them, others are to be sent.

        Raises: what ended the listening; StoreUnavailable; BrokerUnavailable
        """
        if self._listening is not None and self._listening.done():
            self._listening.result()
        due = list(self._overdue(most))
        if due:
            self._look_after(due)

    def finish(self) -> int:
        """Wait until every request is answered, or was asked for in vain; how many were.

        Raises: what ended the listening; StoreUnavailable; BrokerUnavailable
        """
        self._journal.flush()
        while self._due and self._journal.unanswered_count:
            self.look_after(most=UPLOADS * UPLOADS)
            next_s = self._due[0].at - time.monotonic() if self._due else 0.0
            if self._listening is not None and next_s > 0:
                wait((self._listening,), timeout=min(next_s, LOOK_PERIOD_S))
        self._client.stop_receiving()
        if self._listening is not None:
            self._listening.result()  # what was written down last is shown now, or says why it is not
        return self._journal.unanswered_count

    def _take_all(self) -> None:
        for response in self._client.responses():
            self._answers.take(response)

    def _overdue(self, most: int) -> Iterator[Due]:
        now = time.monotonic()
        while self._due and self._due[0].at <= now and most > 0:
            most -= 1
            yield heapq.heappop(self._due)

    def _look_after(self, every: Iterable[Due]) -> None:
        for found in in_order(self._ask, every):
            if found is not None:
                heapq.heappush(self._due, found)

    def _ask(self, due: Due) -> Due | None:
        """Look for one response in the store, else publish its request again; None when there is no more to do."""
        row = self._journal.row(due.position)
        if row is None or row.state == "answered":
            return None
        stored = self._client.stored_response(row.request_id)
        if stored is not None:
            self._answers.take(stored, was_stored=True)
            return None
        # What was only begun is sent with the images, as if for the first time.
        if row.state == "begun" or due.publications >= self._patience.most_publications:
            return None
        self._client.publish(row.request, republished=True)
        self._journal.mark_published(row.position)
        return self._due_after(row.position, due.publications + 1)

    def _due_after(self, position: int, publications: int) -> Due:
        return Due(time.monotonic() + self._patience.wait_s(publications), position, publications)
