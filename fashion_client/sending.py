"""Sending a run's batches: each under its own id, written down before it leaves, a few at a time."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

from fashion_client.client import Client
from fashion_client.journal import Journal
from fashion_client.submission import Prepared
from handoff.contracts.batches import Batch
from handoff.contracts.errors import DataSetUnavailable
from handoff.contracts.messages import AnalysisRequest

# Uploads under way at once: enough to hide a distant store's answer time, few enough for a laptop.
UPLOADS = 4

T = TypeVar("T")
R = TypeVar("R")


class Sending:
    """Uploads and publishes what the journal does not know as published."""

    def __init__(self, client: Client, journal: Journal) -> None:
        self._client = client
        self._journal = journal
        self._known = journal.next_position

    def unsent(self, every: Iterable[Batch]) -> Iterator[tuple[int, Batch]]:
        """Number the batches and leave out those that were published.

        Raises: DataSetUnavailable: they are not those that the run began with
        """
        count = 0
        for position, batch in enumerate(every):
            count += 1
            row = self._journal.row(position) if position < self._known else None
            if row is None or row.state == "begun":
                yield position, batch
                continue
            # Encoding each would take as long as sending it: the last one tells whether images were added or removed.
            is_last = position == self._known - 1
            if row.request.image_count != len(batch) or (is_last and self._prepare(position, batch)[1] != row.request):
                raise self._changed(position)
        if count < self._known:
            raise self._changed(count)
        self._journal.complete(count)

    def send(self, numbered: Iterable[tuple[int, Batch]]) -> Iterator[int]:
        """Send batches and yield their positions, in their order."""
        return in_order(self._send, numbered)

    def _send(self, numbered: tuple[int, Batch]) -> int:
        position, batch = numbered
        prepared, request = self._prepare(position, batch)
        if not self._journal.begin(position, request):
            before = self._journal.row(position)
            if before is None or before.request != request:
                raise self._changed(position)
        is_new = self._client.upload(prepared)
        self._client.publish(request, republished=not is_new)
        self._journal.mark_published(position)
        return position

    def _prepare(self, position: int, batch: Batch) -> tuple[Prepared, AnalysisRequest]:
        run = self._journal.run
        prepared = self._client.prepare(
            batch, format=run.plan.format, model=run.plan.model, request_id=run.request_id(position)
        )
        return prepared, prepared.request

    def _changed(self, position: int) -> DataSetUnavailable:
        return DataSetUnavailable(
            f"The images are not those that the run in {self._journal.path} began with (request {position} differs);"
            " bring them back to go on, or begin another run."
        )


def in_order(call: Callable[[T], R], every: Iterable[T]) -> Iterator[R]:
    """Call for a few at a time, never more, and yield what comes of them in their order."""
    with ThreadPoolExecutor(UPLOADS, "upload") as uploads:
        waiting: deque[Future[R]] = deque()
        for each in every:
            waiting.append(uploads.submit(call, each))
            if len(waiting) > UPLOADS:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
