"""Figures of a run of the harness: collected round by round, printed as one table, kept as JSON."""

from __future__ import annotations

import json
import os
import platform
import statistics
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path


@dataclass
class Figure:
    """One line of the table: its value is the median of its runs, which are all of one session."""

    key: str
    what: str
    unit: str
    runs: list[float] = field(default_factory=list)

    @property
    def value(self) -> float:
        """The median."""
        return statistics.median(self.runs)


class Figures:
    """Every figure by its key, in the order they were first measured."""

    def __init__(self) -> None:
        self._figures: dict[str, Figure] = {}

    def add(self, key: str, what: str, unit: str, value: float) -> None:
        """Add one run's value."""
        self._figures.setdefault(key, Figure(key, what, unit)).runs.append(value)

    def add_ratio(self, key: str, what: str, over: str, under: str) -> None:
        """Add `over` ÷ `under`, each run of the one divided by the run of the other in the same round."""
        pairs = zip(self._figures[over].runs, self._figures[under].runs, strict=True)
        for one, other in pairs:
            self.add(key, what, "ratio", one / other)

    def add_alias(self, key: str, of: str) -> None:
        """Give a figure a second, shorter key."""
        figure = self._figures[of]
        self._figures[key] = Figure(key, figure.what, figure.unit, figure.runs)

    def print_table(self) -> None:
        """Print a Markdown table, a row a figure."""
        cores = len(os.sched_getaffinity(0))
        print(f"\n{platform.machine()}, {cores} cores, Python {platform.python_version()}\n")
        print("| figure | key | median | min | max | runs | unit |")
        print("| --- | --- | ---: | ---: | ---: | ---: | --- |")
        for figure in self._figures.values():
            low, high = min(figure.runs), max(figure.runs)
            shown = " | ".join(_shown(number) for number in (figure.value, low, high))
            print(f"| {figure.what} | `{figure.key}` | {shown} | {len(figure.runs)} | {figure.unit} |")

    def write(self, path: Path) -> None:
        """Write the figures into a JSON file; figures of other sessions that this one did not measure stay in it."""
        path.parent.mkdir(parents=True, exist_ok=True)
        kept: dict[str, Mapping[str, object]] = json.loads(path.read_text()) if path.exists() else {}
        measured = {
            figure.key: {
                "value": figure.value,
                "unit": figure.unit,
                "runs": [float(f"{run:.5g}") for run in figure.runs],
            }
            for figure in self._figures.values()
        }
        path.write_text(json.dumps({**kept, **measured}, indent=1))


def _shown(number: float) -> str:
    return f"{number:,.0f}" if abs(number) >= 100 else f"{number:.3g}"  # noqa: PLR2004 - three digits are enough
