"""Progress of long work: a bar in a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
import time
from datetime import timedelta
from types import TracebackType
from typing import Any, Self

LINE_PERIOD_S = 5.0


class Progress:
    """Counts towards a total (None: unknown) on standard error; use as `with Progress(…) as progress`.

    `done` counts what an earlier run did: it is no part of the rate.
    """

    def __init__(self, title: str, *, total: int | None, unit: str, done: int = 0, is_estimate: bool = False) -> None:
        self._title = title
        self._total = total
        self._is_estimate = is_estimate
        self._unit = unit
        self._count = self._done_before = done
        self._bar: Any = None
        self._started_at = self._shown_at = 0.0

    def __enter__(self) -> Self:
        self._started_at = self._shown_at = time.monotonic()
        if sys.stderr.isatty():
            from tqdm import tqdm

            self._bar = tqdm(
                total=self._total, initial=self._count, desc=self._title, unit=f" {self._unit}", leave=True
            )
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.close()
        elif error is None or self._count > self._done_before:
            self._show()

    def advance(self, count: int) -> None:
        """Count `count` more as done."""
        self._count += count
        if self._bar is not None:
            self._bar.update(count)
        elif time.monotonic() - self._shown_at >= LINE_PERIOD_S:
            self._show()

    def write(self, line: str) -> None:
        """Print a line on standard output without tearing the bar."""
        if self._bar is not None:
            self._bar.write(line, file=sys.stdout)
        else:
            sys.stdout.write(line + "\n")
            sys.stdout.flush()

    def note(self, line: str) -> None:
        """Print a line on standard error without tearing the bar."""
        if self._bar is not None:
            self._bar.write(line, file=sys.stderr)
        else:
            sys.stderr.write(line + "\n")

    def _show(self) -> None:
        self._shown_at = time.monotonic()
        rate = (self._count - self._done_before) / max(1e-9, self._shown_at - self._started_at)
        of = f" of {'about ' if self._is_estimate else ''}{self._total}" if self._total is not None else ""
        missing = (self._total or 0) - self._count
        left = f", {timedelta(seconds=round(missing / rate))} left" if missing > 0 and rate > 0 else ""
        sys.stderr.write(f"{self._title}: {self._count}{of} {self._unit}, {rate:.0f}/s{left}\n")
