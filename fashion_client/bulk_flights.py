"""The batches of a bulk classification that are with the service: a window of them, taken back in their order."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from functools import partial
from typing import TypeVar

from fashion_client.bulk_batches import BulkBatch, Origin, Place
from fashion_client.bulk_rows import Rows, make_rows
from fashion_client.client import Client
from fashion_client.submission import MAX_PREDICTIONS_BYTES, Submission
from handoff.contracts.errors import RequestRefused, ResponseTimeout
from handoff.contracts.messages import AnalysisResponse, FailureReason, PayloadFormat
from handoff.contracts.protocols import Store

T = TypeVar("T")

# Enough to hide a distant store's answer time, few enough for a laptop; each holds one batch's images.
UPLOADS = 4
# Predictions fetched and made into rows at a time.
READERS = 4

NO_WORKER = "No response yet: is a worker running (`fashion worker`)? Waiting for one."


@dataclass(frozen=True)
class Patience:
    """How long to wait: for a first word to the user, for a response before asking again, and how often to ask."""

    notice_s: float = 10.0
    timeout_s: float = 60.0
    most_repeats: int = 3


@dataclass(frozen=True)
class Order:
    """What is the same for every request of a job; `with_file` puts the file's name into the rows."""

    format: PayloadFormat = "npy"
    model: str | None = None
    with_file: bool = False


@dataclass(frozen=True)
class Answer:
    """What came of a batch: rows of the output, or why there are none; neither where it had no image to ask for."""

    response: AnalysisResponse | None = None
    rows: Rows | None = None
    failure: FailureReason | None = None


@dataclass
class Flight:
    """A batch on its way or with the service; its images are not kept."""

    request_id: str
    origins: list[Origin]
    end: Place
    unreadable: list[tuple[Origin, str]]
    submission: Submission | None = None
    has_response: bool = False
    repeats: int = 0
    answer: Future[Answer] = field(default_factory=Future)

    @property
    def image_count(self) -> int:
        """How many images it takes from the inputs."""
        return sum(origin.count for origin in self.origins) + len(self.unreadable)


class Flights:
    """Batches that were sent and not yet taken back, at most `window` of them."""

    def __init__(
        self,
        client: Client,
        *,
        store: Store,
        order: Order,
        window: int,
        patience: Patience,
        notify: Callable[[str], None],
    ) -> None:
        """Keep the client, which has to receive; `notify` is told once when nothing comes."""
        self._client = client
        self._store = store
        self._order = order
        self._window = window
        self._patience = patience
        self._notify = notify
        self._in_order: deque[Flight] = deque()
        self._uploads = ThreadPoolExecutor(UPLOADS, "upload")
        self._readers = ThreadPoolExecutor(READERS, "rows")
        # One more is read while these are uploaded, and no further one: images are what takes memory.
        self._room = threading.BoundedSemaphore(UPLOADS)
        self._lock = threading.Lock()
        self._heard_at = time.monotonic()
        self._has_heard = self._has_notified = False

    def __len__(self) -> int:
        return len(self._in_order)

    @property
    def is_full(self) -> bool:
        """Whether a batch has to be taken back before another may be sent."""
        return len(self._in_order) >= self._window

    @property
    def has_next(self) -> bool:
        """Whether `take` would not wait."""
        return bool(self._in_order) and self._in_order[0].answer.done()

    def send(self, batch: BulkBatch, *, request_id: str) -> None:
        """Upload a batch and publish its request, in another thread; waits while enough are being uploaded."""
        flight = Flight(request_id, batch.origins, batch.end, batch.unreadable)
        if not len(batch.images):
            flight.answer.set_result(Answer())
            self._in_order.append(flight)
            return
        self._room.acquire()
        self._in_order.append(flight)
        order = self._order
        upload = self._uploads.submit(
            self._client.submit, batch.images, format=order.format, model=order.model, request_id=request_id
        )
        upload.add_done_callback(partial(self._uploaded, flight))

    def take(self) -> tuple[Flight, Answer]:
        """Wait for the oldest batch, looking after it when its response does not come.

        Raises: ResponseTimeout: it never came; BrokerUnavailable; StoreUnavailable
        """
        head = self._in_order[0]
        period_s = min(1.0, self._patience.timeout_s, self._patience.notice_s)
        while not wait((head.answer,), timeout=period_s).done:
            self._look_after(head)
        answer = head.answer.result()
        self._in_order.popleft()
        # Its response's callback refers to the flight: together they would keep the rows until a garbage collection.
        head.submission = None
        return head, answer

    def close(self) -> None:
        """Send and receive no more; what is with the service stays there."""
        self._uploads.shutdown(cancel_futures=True)
        self._client.stop_receiving()  # before the readers: it hands them what comes
        self._readers.shutdown(cancel_futures=True)

    def _uploaded(self, flight: Flight, upload: Future[Submission]) -> None:
        self._room.release()
        if (submission := _result_or_pass_on(upload, flight.answer)) is not None:
            self._heard_at = time.monotonic()
            flight.submission = submission
            submission.add_done_callback(partial(self._responded, flight))

    def _responded(self, flight: Flight, future: Future[AnalysisResponse]) -> None:
        if self._is_first(flight) and (response := _result_or_pass_on(future, flight.answer)) is not None:
            self._take_response(flight, response)

    def _is_first(self, flight: Flight) -> bool:
        """Whether nothing has ended the wait for a response: its message, a look into the store, or giving up."""
        with self._lock:
            is_first, flight.has_response = not flight.has_response, True
            return is_first

    def _take_response(self, flight: Flight, response: AnalysisResponse) -> None:
        self._heard_at, self._has_heard = time.monotonic(), True
        reading = self._readers.submit(self._read, flight, response)
        reading.add_done_callback(lambda done: _pass_on(done, flight.answer))

    def _read(self, flight: Flight, response: AnalysisResponse) -> Answer:
        if response.status == "failed" or response.predictions_uri is None:
            return Answer(response, failure=response.error or FailureReason("failed", "The service gave no reason."))
        try:
            stored = self._store.read(response.predictions_uri, max_bytes=MAX_PREDICTIONS_BYTES)
            return Answer(response, rows=make_rows(stored, flight.origins, with_file=self._order.with_file))
        except RequestRefused as error:
            return Answer(response, failure=FailureReason(error.code, str(error)))

    def _look_after(self, head: Flight) -> None:
        silence_s = time.monotonic() - self._heard_at
        if not (self._has_heard or self._has_notified) and silence_s >= self._patience.notice_s:
            self._has_notified = True
            self._notify(NO_WORKER)
        if silence_s < self._patience.timeout_s or head.submission is None or head.has_response:
            return
        stored = self._client.stored_response(head.request_id)
        if stored is not None:
            if self._is_first(head):
                self._take_response(head, stored)
        elif head.repeats < self._patience.most_repeats:
            head.repeats += 1
            self._client.submit_again(head.submission)
            self._heard_at = time.monotonic()
        else:
            self._give_up(head)

    def _give_up(self, head: Flight) -> None:
        """End the job, unless the service answers everything else: then the fault lies in this batch."""
        others = [flight for flight in self._in_order if flight is not head]
        asked = f"asked {head.repeats + 1} times with {self._patience.timeout_s:g} s between"
        if not others or not all(flight.answer.done() for flight in others):
            raise ResponseTimeout(
                f"No response to request {head.request_id}, {asked}; is a worker running (`fashion worker`)?"
                " The same command goes on from there."
            )
        missing = AnalysisResponse(
            request_id=head.request_id, status="failed", image_count=head.image_count, worker="none", attempt=1
        )
        reason = FailureReason("response_timeout", f"No response, {asked}, while others came; see the dead letters.")
        if self._is_first(head):
            head.answer.set_result(Answer(missing, failure=reason))


def _result_or_pass_on(future: Future[T], answer: Future[Answer]) -> T | None:
    """Give what came of a step; an error ends the batch instead, and a step that was called off leaves it."""
    if future.cancelled():
        return None
    error = future.exception()
    if error is None:
        return future.result()
    answer.set_exception(error)
    return None


def _pass_on(future: Future[Answer], answer: Future[Answer]) -> None:
    if (found := _result_or_pass_on(future, answer)) is not None:
        answer.set_result(found)
