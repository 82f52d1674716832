"""Responses as lines, and figures over many of them."""

from __future__ import annotations

import time
from collections import Counter
from datetime import UTC, datetime

import numpy as np

from handoff.contracts.messages import AnalysisResponse

PERCENTILES = (50, 95, 99)
LABELS_SHOWN = 3

# Latencies kept for the percentiles: 8 bytes each, the newest ones of a console that runs for long.
MOST_LATENCIES = 1_000_000


class Summary:
    """Adds up responses as they come."""

    def __init__(self) -> None:
        self.response_count = 0
        self.failed_count = 0
        self.image_count = 0
        self.labelled_count = 0
        self.correct_count = 0
        self.by_label: Counter[str] = Counter()
        self.by_worker: Counter[str] = Counter()
        self._latencies_ms: list[float] = []
        self._first_at = time.time()
        self._last_at = self._first_at

    def add(self, response: AnalysisResponse) -> float | None:
        """Count a response; its latency in milliseconds, where its request says when it was published."""
        now = datetime.now(UTC)
        self._last_at = now.timestamp()
        if not self.response_count:
            self._first_at = self._last_at
        self.response_count += 1
        self.by_worker[response.worker] += 1
        if response.status == "failed":
            self.failed_count += 1
        else:
            self.image_count += response.image_count
            self.labelled_count += response.labelled_count
            self.correct_count += response.correct_count
            self.by_label.update(response.label_counts)
        return self._add_latency(response.requested_at, now)

    def figures(self) -> dict[str, object]:
        """The figures as plain values; None where there is nothing to say."""
        return {
            "responses": self.response_count,
            "failed": self.failed_count,
            "images": self.image_count,
            "seconds": round(self._last_at - self._first_at, 3),
            "images_per_s": self._rate(),
            "accuracy": self.correct_count / self.labelled_count if self.labelled_count else None,
            **{f"latency_p{p}_ms": self._latency(p) for p in PERCENTILES},
            "workers": dict(sorted(self.by_worker.items())),
            "labels": dict(self.by_label.most_common()),
        }

    def text(self) -> str:
        """The figures as a few lines for people."""
        figures = self.figures()
        lines = [
            f"{self.response_count} responses, {self.failed_count} failed, {self.image_count} images"
            + (f", {figures['images_per_s']:,.0f} images/s" if figures["images_per_s"] else ""),
            "workers: " + (", ".join(f"{name} {count}" for name, count in sorted(self.by_worker.items())) or "none"),
        ]
        if self.labelled_count:
            lines.append(f"accuracy: {figures['accuracy']:.2%} of {self.labelled_count} images with a known label")
        if self._latencies_ms:
            shown = ", ".join(f"p{p} {self._latency(p):.1f} ms" for p in PERCENTILES)
            lines.append(f"latency, request published to response received: {shown}")
        return "\n".join(lines)

    def _add_latency(self, requested_at: datetime | None, now: datetime) -> float | None:
        if requested_at is None:
            return None
        latency_ms = (now - requested_at).total_seconds() * 1e3
        if len(self._latencies_ms) >= MOST_LATENCIES:
            del self._latencies_ms[: MOST_LATENCIES // 2]
        self._latencies_ms.append(latency_ms)
        # The clock starts with the first request answered, unless that waited for this console to be started.
        if self.response_count == 1:
            self._first_at = max(requested_at.timestamp(), self._first_at - latency_ms / 1e3)
        return latency_ms

    def _rate(self) -> float | None:
        seconds = self._last_at - self._first_at
        return self.image_count / seconds if seconds > 0 and self.image_count else None

    def _latency(self, percentile: int) -> float | None:
        if not self._latencies_ms:
            return None
        return round(float(np.percentile(self._latencies_ms, percentile)), 3)


def line_of(response: AnalysisResponse, latency_ms: float | None) -> str:
    """One response as a line."""
    if response.error is not None:
        return f"{response.request_id}  FAILED  {response.error.code}: {response.error.message}"
    common = sorted(response.label_counts.items(), key=lambda entry: -entry[1])
    shown = ", ".join(f"{label} {count}" for label, count in common[:LABELS_SHOWN])
    shown += ", …" if len(common) > LABELS_SHOWN else ""
    right = f"  {response.correct_count / response.labelled_count:.1%} right" if response.labelled_count else ""
    took = f"  {latency_ms:.0f} ms" if latency_ms is not None else ""
    return f"{response.request_id}  {response.image_count} images{right}{took}  {response.worker}  {shown}"
