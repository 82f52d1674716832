"""Keeping a store without rules of its own to its retention, behind a worker's back."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from handoff.contracts.errors import FashionError
from handoff.contracts.protocols import Store, SweptStore

_log = logging.getLogger(__name__)

# All workers of a machine together sweep once in this time.
PERIOD_S = 3_600.0

# A worker that is only tried out, or ends at once, sweeps nothing.
FIRST_AFTER_S = 30.0

# Between two slices of a few milliseconds; a million requests take some 13 minutes.
PAUSE_S = 0.05

# A message delivered in the last second of its retention is still worked on after it.
GRACE_S = 3_600.0


@contextmanager
def store_swept(store: Store, *, retention_s: float) -> Iterator[None]:
    """Sweep meanwhile, from a thread of its own; nothing where objects are kept for ever or the store sees to it."""
    if not retention_s or not isinstance(store, SweptStore):
        yield
        return
    sweeper = StoreSweeper(store, older_than_s=retention_s + GRACE_S)
    sweeper.start()
    try:
        yield
    finally:
        sweeper.stop()


class StoreSweeper:
    """Sweeps once a period, unless another worker did."""

    def __init__(self, store: SweptStore, *, older_than_s: float) -> None:
        self._store = store
        self._older_than_s = older_than_s
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="sweep-store", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """End after the slice under way."""
        self._stopping.set()
        self._thread.join()

    def sweep(self, *, now: float) -> None:
        """Sweep once; what cannot be removed is logged, and tried again the next time."""
        removed = []
        try:
            for part in self._store.sweep(older_than_s=self._older_than_s, now=now, period_s=PERIOD_S):
                removed.append(part)
                if self._stopping.wait(PAUSE_S):
                    break
        except FashionError as error:
            _log.warning("the store was not swept: %s", error)
        if object_count := sum(part.object_count for part in removed):
            _log.info("swept objects=%d bytes=%d", object_count, sum(part.size_bytes for part in removed))

    def _run(self) -> None:
        wait_s = FIRST_AFTER_S
        while not self._stopping.wait(wait_s):
            self.sweep(now=time.time())
            wait_s = PERIOD_S
