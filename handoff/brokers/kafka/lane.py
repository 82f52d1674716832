"""The thread of a lane: it goes on through outages, and nobody is left waiting for it when it cannot."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable

from confluent_kafka import KafkaError, KafkaException

from handoff.brokers.kafka.calls import error_of, meaning
from handoff.brokers.kafka.delivery import Holdings
from handoff.brokers.outage import Outage
from handoff.contracts.errors import BrokerUnavailable, FashionError

_log = logging.getLogger(__name__)

# How long a subscriber outlives brokers that do not answer.
OUTAGE_S = 120.0
# How long it has for leaving, from when it is told to; within a silence, acks of the last seconds are lost either way.
LEAVE_WITHIN_S = 30.0


class LaneThread:
    """Fetches with one consumer after another, until it is closed or its cluster does not come back."""

    def __init__(self, serve: Callable[[], None], *, name: str, subscription: str, holdings: Holdings) -> None:
        """`serve` fetches with one consumer, until this is closed or that is of no use any more."""
        self._serve = serve
        self._subscription = subscription
        self._holdings = holdings
        self._outage = Outage(give_up_after_s=OUTAGE_S)
        self._leave_by: float | None = None
        self._joined = threading.Event()
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        """Begin to fetch."""
        self._thread.start()

    def wait_joined(self, timeout_s: float) -> None:
        """Wait until it may fetch, or as long as said."""
        self._joined.wait(timeout_s)

    def close(self) -> None:
        """Fetch no more, give back what was not yielded, and leave what it belongs to, soon."""
        self._leave_by = self._leave_by or time.monotonic() + LEAVE_WITHIN_S
        self._closed.set()

    def join(self) -> None:
        """Wait until that is done, or goes on by itself: a commit under way waits for minutes for a silent cluster."""
        self._thread.join(None if self._leave_by is None else max(0.0, self._leave_by - time.monotonic()))
        if self._thread.is_alive():
            _log.warning("a reader of %s is left behind: its cluster does not answer", self._subscription)

    @property
    def is_closed(self) -> bool:
        """Whether to fetch no more."""
        return self._closed.is_set()

    def joined(self) -> None:
        """It may fetch now."""
        self._joined.set()

    def answered(self) -> None:
        """The cluster is there."""
        self._outage.end()

    def wait_out(self, error: KafkaError) -> None:
        """Wait for a while after a failure, for as long as the cluster is worth waiting for."""
        wait_s = self._outage.next_wait_s()
        if wait_s is None:
            self._fail(meaning(error, f"read {self._subscription}"))
            return
        _log.info("nothing is read of %s, again in %.1f s: %s", self._subscription, wait_s, error.str())
        self._closed.wait(wait_s)

    def look(self, is_there: Callable[[], bool]) -> None:
        """Go through an outage with the same consumer, so that what is held stays its own."""
        try:
            if is_there():
                self.answered()
        except KafkaException as problem:
            self.wait_out(error_of(problem))

    def _run(self) -> None:
        try:
            while not self.is_closed:
                try:
                    self._serve()
                except KafkaException as problem:
                    self.wait_out(error_of(problem))
                except FashionError as error:
                    self._fail(error)
        finally:
            if not self.is_closed:  # by a mistake, which Python tells of
                self._fail(BrokerUnavailable(f"Cannot read {self._subscription}: the thread that did so has ended."))
            self._joined.set()

    def _fail(self, error: FashionError) -> None:
        self._holdings.fail(error)
        self._closed.set()
