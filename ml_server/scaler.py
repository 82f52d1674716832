"""Follows the backlog: reads it every period, asks the policy, and has the supervisor start or drain workers."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Protocol

from handoff.contracts.errors import FashionError
from handoff.contracts.protocols import UNKNOWN_BACKLOG, Backlog, Broker
from handoff.contracts.topology import SubscriptionSpec
from ml_server.scaling import ScalingPolicy

_log = logging.getLogger(__name__)

# A reading under way may take a broker's whole timeout. This connection holds and publishes nothing, so that the end of
# the process may cut it off.
END_WITHIN_S = 1.0


class Workers(Protocol):
    """What a scaler needs of the supervisor."""

    @property
    def worker_count(self) -> int:
        """How many workers are wanted."""

    def scale_to(self, worker_count: int) -> bool:
        """Start or drain workers; False when all are being drained."""

    def wait_for_drain(self, timeout_s: float | None = None) -> bool:
        """Wait until draining begins; False when it has not within the time."""


class Scaler:
    """Sets the number of workers by the backlog of one subscription."""

    def __init__(
        self,
        workers: Workers,
        *,
        policy: ScalingPolicy,
        connect: Callable[[], Broker],
        subscription: SubscriptionSpec,
        period_s: float,
    ) -> None:
        """`connect` opens a broker connection of the scaler's own."""
        self._workers = workers
        self._policy = policy
        self._connect = connect
        self._subscription = subscription
        self._period_s = period_s
        self._broker: Broker | None = None
        self._is_blind = False

    def run(self) -> None:
        """Scale until the workers are drained."""
        try:
            while True:
                self._scale(self._backlog())
                if self._workers.wait_for_drain(self._period_s):
                    return
        finally:
            if self._broker is not None:
                self._broker.close()

    def _backlog(self) -> Backlog:
        """Read the backlog; unknown when the broker does not answer, which is said once and not at every reading."""
        try:
            self._broker = self._broker or self._connect()
            backlog = self._broker.backlog(self._subscription)
        except FashionError as error:
            self._note_sight(f"The backlog cannot be read: {error}")
            return UNKNOWN_BACKLOG
        self._note_sight("" if backlog.count is not None else "The broker does not say how large the backlog is.")
        return backlog

    def _note_sight(self, trouble: str) -> None:
        if trouble and not self._is_blind:
            _log.warning("the number of workers stays at %d: %s", self._workers.worker_count, trouble)
        elif self._is_blind and not trouble:
            _log.info("the backlog is known again")
        self._is_blind = bool(trouble)

    def _scale(self, backlog: Backlog) -> None:
        before = self._workers.worker_count
        wanted = self._policy.wanted(backlog, workers=before, now_s=time.monotonic())
        if wanted != before and self._workers.scale_to(wanted):
            age = "-" if backlog.oldest_unacked_age_s is None else f"{backlog.oldest_unacked_age_s:.1f}"
            _log.info("workers=%d→%d backlog=%s oldest_unacked_age_s=%s", before, wanted, backlog.count, age)


@contextmanager
def running(scaler: Scaler) -> Iterator[None]:
    """Scale in a thread of its own, which ends with the workers' drain."""
    thread = threading.Thread(target=scaler.run, name="scaler", daemon=True)
    thread.start()
    yield
    thread.join(END_WITHIN_S)
