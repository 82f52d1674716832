"""One delivery on its way through the worker, with what is known of it so far."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from classifiers.protocol import Images, Probabilities
from handoff.contracts.envelope import ReceivedRequest
from handoff.contracts.protocols import Delivery
from handoff.telemetry.tracing import NO_SPAN, Span


@dataclass(slots=True, eq=False)
class Work:
    """A delivery and what the stages have made of it; its micro-batches may be classified by several threads.

    Shapes: images uint8 (N, H, W, C); true_label_ids int64 (N,); probabilities float32 (N, K)
    """

    delivery: Delivery
    received: ReceivedRequest | None = None
    images: Images | None = None
    image_ids: list[str] = field(default_factory=list)
    true_label_ids: npt.NDArray[np.int64] | None = None
    probabilities: Probabilities | None = None
    ended: bool = False
    ended_at: float = 0.0
    timings_ms: dict[str, float] = field(default_factory=dict)
    pulled_at: float = field(default_factory=time.perf_counter)
    span: Span = NO_SPAN
    versions: set[str] = field(default_factory=set)
    """Of the model, by which its images were classified; empty where the artifact's own graph did."""
    classifying_since: float | None = None
    """When its classification last came on; None before and after it."""
    _lap_at: float = field(default_factory=time.perf_counter)
    _classified_count: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def lap(self, stage: str) -> None:
        """Book the time since the last lap on a stage."""
        now = time.perf_counter()
        self.timings_ms[stage] = round((now - self._lap_at) * 1e3, 3)
        self._lap_at = now

    def begin_classification(self) -> None:
        """Book the wait for the first micro-batch; later ones change nothing."""
        with self._lock:
            if "wait" not in self.timings_ms:
                self.lap("wait")
                self.classifying_since = self._lap_at

    def add_probabilities(self, start: int, rows: Probabilities) -> bool:
        """Keep the probabilities of the images from `start` on; True when no image is left.

        The images themselves are let go of then.
        """
        count = len(self.image_ids)
        with self._lock:
            if self.probabilities is None:
                self.probabilities = rows if len(rows) == count else np.empty((count, rows.shape[1]), np.float32)
            if self.probabilities is not rows:
                self.probabilities[start : start + len(rows)] = rows
            self._classified_count += len(rows)
            self.classifying_since = time.perf_counter()
            if self._classified_count < count:
                return False
            self.images = self.classifying_since = None
            self.lap("classify")
            return not self.ended

    def end(self) -> bool:
        """Mark the delivery as ended; False when it was."""
        with self._lock:
            self.ended_at = self.ended_at or time.perf_counter()
            first, self.ended, self.classifying_since = not self.ended, True, None
            return first
