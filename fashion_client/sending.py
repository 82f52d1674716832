"""Sending a run's batches: each under its own id, written down before it leaves, a few at a time."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

from fashion_client.client import Client
from fashion_client.journal import Journal, Row
from fashion_client.submission import Prepared
from handoff.contracts.batches import Batch
from handoff.contracts.errors import DataSetUnavailable

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
            if row is not None and not self._is_same(row, batch):
                raise self._changed(position)
            if row is None or row.state == "begun":
                yield position, batch
        if count < self._known:
            raise self._changed(count)
        self._journal.complete(count)

    def send(self, numbered: Iterable[tuple[int, Batch]]) -> Iterator[int]:
        """Send batches and yield their positions, in their order."""
        return in_order(self._send, numbered)

    def _send(self, numbered: tuple[int, Batch]) -> int:
        position, batch = numbered
        with self._client.sending(self._journal.run.request_id(position)) as span:
            prepared = self._prepare(position, batch)
            self._journal.begin(position, prepared.request)
            is_new = self._client.upload(prepared)
            self._client.publish(prepared.request, republished=not is_new, span=span)
        self._journal.mark_published(position)
        return position

    def _prepare(self, position: int, batch: Batch) -> Prepared:
        run = self._journal.run
        return self._client.prepare(
            batch, format=run.plan.format, model=run.plan.model, request_id=run.request_id(position)
        )

    def _is_same(self, row: Row, batch: Batch) -> bool:
        """Say whether a batch is the one that was written down.

        Encoding each would take as long as sending it. Those that are to be sent have to be the same; of the others the
        last tells whether images were added or removed before it.
        """
        if row.state == "begun" or row.position == self._known - 1:
            return self._prepare(row.position, batch).request == row.request
        return row.request.image_count == len(batch)

    def _changed(self, position: int) -> DataSetUnavailable:
        return DataSetUnavailable(
            f"The images are not those that the run in {self._journal.path} began with (request {position} differs);"
            " bring them back to go on, or begin another run."
        )


def in_order(call: Callable[[T], R], every: Iterable[T]) -> Iterator[R]:
    """Call for a few at a time, never more, and yield what comes of them in their order."""
    with ThreadPoolExecutor(UPLOADS, "upload") as uploads:
        waiting: deque[Future[R]] = deque()
        try:
            for each in every:
                waiting.append(uploads.submit(call, each))
                if len(waiting) > UPLOADS:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            uploads.shutdown(wait=False, cancel_futures=True)  # after a failure: what is not begun would fail the same
