"""Keeping leases alive off the busy threads."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Hashable, Sequence
from typing import Generic, TypeVar

from handoff.contracts.errors import FashionError

_log = logging.getLogger(__name__)


Lease = TypeVar("Lease", bound=Hashable)


class LeaseKeeper(Generic[Lease]):
    """Extends every held lease well before it runs out, from one thread, until told to let go of it."""

    def __init__(self, extend: Callable[[Sequence[Lease]], None], *, ack_deadline_s: float) -> None:
        """`extend` prolongs these leases by a whole ack deadline; it may raise FashionError."""
        self._extend = extend
        # A third of the deadline: two extensions in a row may fail before a lease is lost.
        self._period_s = ack_deadline_s / 3
        self._held: set[Lease] = set()
        self._lock = threading.Lock()
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="lease-keeper", daemon=True)

    def start(self) -> None:
        """Begin to extend."""
        self._thread.start()

    def stop(self) -> list[Lease]:
        """Extend no more; what was still held."""
        self._stopped.set()
        self._thread.join()
        with self._lock:
            held, self._held = list(self._held), set()
        return held

    def hold(self, lease: Lease) -> None:
        """Keep this lease alive from now on."""
        with self._lock:
            self._held.add(lease)

    def release(self, lease: Lease) -> bool:
        """Let go of a lease; False when it was let go of before."""
        with self._lock:
            known = lease in self._held
            self._held.discard(lease)
            return known

    def _run(self) -> None:
        while not self._stopped.wait(self._period_s):
            with self._lock:
                held = list(self._held)
            try:
                if held:
                    self._extend(held)
            except FashionError as error:
                _log.warning("leases not extended, will try again: %s", error)
