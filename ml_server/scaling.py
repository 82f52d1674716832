"""How many workers a backlog wants: a pure policy, told the time.

It is the rule of Kubernetes' Horizontal Pod Autoscaler: so much backlog a worker, a tolerance around it, up at once and
down only after a while. docs/decisions/0008-worker-scaling.md says what was added, and what a simulation showed.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass

from handoff.contracts.protocols import Backlog

# A backlog this near to what the workers should have changes nothing; the autoscaler's own figure.
TOLERANCE = 0.1

# A scale-down that has to be taken back within two waits doubles the next wait, up to this many times the first one.
# A steady load between two numbers of workers would else swing between them for ever.
LONGEST_WAITS = 8


@dataclass(frozen=True, kw_only=True)
class ScalingRules:
    """Between what bounds workers are added and removed, and on what sign."""

    min_workers: int
    """At least 1: a subscription with no worker would never be served."""
    max_workers: int
    """At least `min_workers`."""
    backlog_per_worker: int
    """Unacked requests, held or waiting, that one worker is meant to have."""
    oldest_unacked_age_s: float
    """While the oldest request is older than this, a worker is added, and another after as long again."""
    scale_down_after_s: float
    """How long fewer workers must have been enough before any is removed."""

    def recommend(self, backlog: Backlog, *, workers: int, settled: bool = True) -> int:
        """Say how many workers this backlog alone wants; as many as there are where the broker cannot tell.

        `settled`: the worker that was added last has had its time to show what it does about the oldest request.
        """
        if backlog.count is None:
            return self.bounded(workers)
        surplus = backlog.count / (workers * self.backlog_per_worker) - 1
        by_count = workers if abs(surplus) <= TOLERANCE else math.ceil(backlog.count / self.backlog_per_worker)
        # Few requests of many images are no large count, but they grow old. A worker without a request helps nobody.
        is_old = (backlog.oldest_unacked_age_s or 0.0) > self.oldest_unacked_age_s
        by_age = min(workers + settled, backlog.count) if is_old else 0
        return self.bounded(max(by_count, by_age))

    def bounded(self, workers: int) -> int:
        """The nearest number of workers that is allowed."""
        return min(max(workers, self.min_workers), self.max_workers)


class ScalingPolicy:
    """Remembers what was recommended, so that workers neither come late nor go early."""

    def __init__(self, rules: ScalingRules) -> None:
        self._rules = rules
        self._recommended: deque[tuple[float, int]] = deque()
        self._wait_s = rules.scale_down_after_s
        self._rose_at_s = -math.inf
        self._fell_at_s: float | None = None
        self._last_count: int | None = None

    def wanted(self, backlog: Backlog, *, workers: int, now_s: float) -> int:
        """Say how many workers there should be from now on, given how many there are (at least 1).

        Up at once, at most doubling. Down never while the backlog grows, only to the highest recommendation of the
        whole wait, and by half of the workers at most; a further step waits `scale_down_after_s` again.
        """
        settled = now_s - self._rose_at_s >= self._rules.oldest_unacked_age_s
        recommended = self._rules.recommend(backlog, workers=workers, settled=settled)
        highest = self._highest_while_waiting(recommended, workers=workers, now_s=now_s)
        grows = backlog.count is not None and self._last_count is not None and backlog.count > self._last_count
        self._last_count = backlog.count
        if recommended > workers:
            self._note_rise(now_s)
            return self._rules.bounded(min(recommended, 2 * workers))
        if grows or highest >= workers:
            return self._rules.bounded(workers)
        wanted = self._rules.bounded(max(highest, math.ceil(workers / 2)))
        self._recommended.append((now_s, wanted))
        self._fell_at_s = now_s
        return wanted

    def _highest_while_waiting(self, recommended: int, *, workers: int, now_s: float) -> int:
        """The highest recommendation since the wait began, this one included."""
        # Each recommendation holds until the next one, so the last before the wait's begin still counts. At the start
        # there is none: the workers there are were wanted by whoever started them.
        if not self._recommended:
            self._recommended.append((now_s, workers))
        wait_s = self._wait_s if self._fell_at_s is None else self._rules.scale_down_after_s
        while len(self._recommended) > 1 and self._recommended[1][0] <= now_s - wait_s:
            self._recommended.popleft()
        self._recommended.append((now_s, recommended))
        return max(each for _, each in self._recommended)

    def _note_rise(self, now_s: float) -> None:
        """Learn from a scale-down that has to be taken back: soon after it, it came too early."""
        self._rose_at_s = now_s
        if self._fell_at_s is None:
            return
        first_s = self._rules.scale_down_after_s
        too_early = now_s - self._fell_at_s <= 2 * self._wait_s
        self._wait_s = min(2 * self._wait_s, LONGEST_WAITS * first_s) if too_early else first_s
        self._fell_at_s = None
