"""How long a subscriber puts up with a broker that does not answer."""

from __future__ import annotations

import random
import time

FIRST_WAIT_S = 0.1
LONGEST_WAIT_S = 10.0


class Outage:
    """A stretch of failures: how long to wait before trying again, and when to stop hoping."""

    def __init__(self, *, give_up_after_s: float) -> None:
        self._give_up_after_s = give_up_after_s
        self._failures = 0
        self._began = 0.0

    def end(self) -> None:
        """It answered."""
        self._failures = 0

    def next_wait_s(self) -> float | None:
        """Count a failure; the seconds to wait before the next try, or None when it has lasted too long."""
        now = time.monotonic()
        if not self._failures:
            self._began = now
        self._failures += 1
        if now - self._began >= self._give_up_after_s:
            return None
        # Full jitter, so that several do not come back in step.
        longest_s = min(LONGEST_WAIT_S, FIRST_WAIT_S * 2.0 ** min(self._failures, 10))
        return random.uniform(0.0, longest_s)  # noqa: S311 - no secret
