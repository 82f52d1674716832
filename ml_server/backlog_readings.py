"""The backlog for those who look often: asked of the broker seldom, and never waited for long."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from handoff.contracts.errors import FashionError
from handoff.contracts.protocols import UNKNOWN_BACKLOG, Backlog

# The broker is asked again no sooner, however many look.
ASK_AGAIN_AFTER_S = 5.0

# Cloud Monitoring may take 20 s to say nothing; Prometheus waits 10 s for a whole scrape.
ANSWER_WITHIN_S = 2.0

# A figure older than this is no longer given out.
FORGET_AFTER_S = 60.0


class BacklogReadings:
    """Remembers the last reading; thread-safe."""

    def __init__(self, read: Callable[[], Backlog], *, clock: Callable[[], float] = time.monotonic) -> None:
        self._read = read
        self._clock = clock
        self._reading = threading.Lock()
        self._known = UNKNOWN_BACKLOG
        self._read_at = -FORGET_AFTER_S

    def latest(self) -> Backlog:
        """What waits, as of the last seconds; unknown where the broker does not say."""
        # Who comes while another asks takes what was known before.
        if self._clock() - self._read_at >= ASK_AGAIN_AFTER_S and self._reading.acquire(blocking=False):
            asking = threading.Thread(target=self._ask, name="read-backlog", daemon=True)
            asking.start()
            asking.join(ANSWER_WITHIN_S)
        return self._known if self._clock() - self._read_at < FORGET_AFTER_S else UNKNOWN_BACKLOG

    def _ask(self) -> None:
        known = UNKNOWN_BACKLOG
        try:
            known = self._read()
        except FashionError:  # unknown, which is what the absent figure says
            pass
        finally:
            self._known, self._read_at = known, self._clock()
            self._reading.release()
