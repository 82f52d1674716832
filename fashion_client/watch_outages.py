"""What does not answer just now: said once, tried again until it does or nobody waits any more."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable
from typing import TypeVar

from handoff.brokers.outage import Outage
from handoff.contracts.errors import Unavailable

T = TypeVar("T")


class Notices:
    """Says what is wrong once, and once that it is over; thread-safe."""

    def __init__(self, write: Callable[[str], None]) -> None:
        self._write = write
        self._lock = threading.Lock()
        self._said: set[str] = set()

    def begin(self, what: str, sentence: str) -> None:
        """Say what is wrong, unless that was said."""
        with self._lock:
            if what not in self._said:
                self._said.add(what)
                self._write(sentence)

    def end(self, what: str, sentence: str = "") -> None:
        """Say that it is over, where it was said to be wrong."""
        with self._lock:
            if what in self._said:
                self._said.discard(what)
                if sentence:
                    self._write(sentence)


class Persistence:
    """Tries again what is unavailable, less and less often.

    `stopped_within` waits so many seconds and says whether nobody wants to wait any longer; then there is one more try.
    """

    def __init__(
        self, notices: Notices, *, stopped_within: Callable[[float], bool], give_up_after_s: float = math.inf
    ) -> None:
        self._notices = notices
        self._stopped_within = stopped_within
        self._give_up_after_s = give_up_after_s

    def insist(self, call: Callable[[int], T], *, on: str) -> T:
        """Call with the number of the try, from 1, until that works; `on` names what has to answer.

        Raises: Unavailable: it did not in time; whatever else the call raises
        """
        outage, is_last, number = Outage(give_up_after_s=self._give_up_after_s), False, 0
        while True:
            number += 1
            try:
                result = call(number)
            except Unavailable as error:
                self._notices.begin(on, f"{error} Trying again; nothing is lost.")
                wait_s = outage.next_wait_s()
                if is_last or wait_s is None:
                    raise
                is_last = self._stopped_within(wait_s)
            else:
                self._notices.end(on, f"{on} answers again.")
                return result
