"""A queue and its workers in steps of a second, to see what a scaling policy does with them."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

from handoff.contracts.protocols import UNKNOWN_BACKLOG, Backlog
from ml_server.scaling import ScalingPolicy, ScalingRules


@dataclass(frozen=True, kw_only=True)
class Machine:
    """What workers can do here, and how the broker tells of it."""

    served_per_s: float = 10.0
    """Requests that one worker serves."""
    start_s: int = 1
    """From its start until a worker serves."""
    figures_lag_s: int = 0
    """How old the broker's figures are when it tells them."""
    period_s: int = 2
    """Between two looks at them."""


@dataclass(frozen=True, kw_only=True)
class Moment:
    """One second of a simulation."""

    workers: int
    backlog: Backlog
    """As it is."""
    seen: Backlog | None
    """As the policy was told, in a second in which it was asked."""


class Simulation:
    """What happened, a moment a second."""

    def __init__(self, rules: ScalingRules, machine: Machine | None = None) -> None:
        self._rules = rules
        self._machine = machine or Machine()
        self._policy = ScalingPolicy(rules)
        self._waiting: deque[list[float]] = deque()  # (when it came, how much of it is left), a pair a second
        self._serving_from = [0] * rules.min_workers
        self.moments: list[Moment] = []

    def run(self, arrivals_per_s: Callable[[int], float], *, seconds: int) -> Simulation:
        """Go on for so long."""
        for now in range(len(self.moments), len(self.moments) + seconds):
            if arrived := arrivals_per_s(now):
                self._waiting.append([now, arrived])
            self._serve(self._machine.served_per_s * sum(start <= now for start in self._serving_from))
            asked = now % self._machine.period_s == 0
            backlog, seen = self._backlog(now), None
            if asked:
                seen = self._told(now, backlog)
                self._scale(self._policy.wanted(seen, workers=len(self._serving_from), now_s=float(now)), now=now)
            self.moments.append(Moment(workers=len(self._serving_from), backlog=backlog, seen=seen))
        return self

    @property
    def workers(self) -> list[int]:
        """How many there were, a figure a second."""
        return [moment.workers for moment in self.moments]

    @property
    def changes(self) -> int:
        """How often their number changed."""
        return sum(before != after for before, after in pairwise(self.workers))

    @property
    def highest_backlog(self) -> int:
        """The most that waited."""
        return max(moment.backlog.count or 0 for moment in self.moments)

    def falls(self) -> list[tuple[Backlog, Backlog]]:
        """For each scale-down, the figures told just before it and at it."""
        asked = [moment for moment in self.moments if moment.seen is not None]
        return [
            (before.seen, after.seen)
            for before, after in pairwise(asked)
            if after.workers < before.workers and before.seen is not None and after.seen is not None
        ]

    def _serve(self, capacity: float) -> None:
        while self._waiting and capacity > 0:
            served = min(capacity, self._waiting[0][1])
            capacity -= served
            self._waiting[0][1] -= served
            if self._waiting[0][1] <= 1e-9:
                self._waiting.popleft()

    def _backlog(self, now: int) -> Backlog:
        count = math.ceil(sum(left for _, left in self._waiting) - 1e-6)
        return Backlog(count=count, oldest_unacked_age_s=now - self._waiting[0][0] if self._waiting else None)

    def _told(self, now: int, backlog: Backlog) -> Backlog:
        lag = self._machine.figures_lag_s
        if lag == 0:
            return backlog
        return self.moments[now - lag].backlog if now >= lag else UNKNOWN_BACKLOG

    def _scale(self, wanted: int, *, now: int) -> None:
        del self._serving_from[wanted:]
        self._serving_from += [now + self._machine.start_s] * (wanted - len(self._serving_from))
