"""Micro-batches: images classified together, gathered across requests."""

from __future__ import annotations

import threading
from collections import deque
from typing import NamedTuple

import numpy as np

from classifiers.protocol import Images
from ml_server.work import Work

# While other requests are being decoded, a part-filled micro-batch waits this long for them; with none, not at all.
LINGER_S = 0.002


class Slice(NamedTuple):
    """A run of one request's images."""

    work: Work
    images: Images
    start: int

    @property
    def stop(self) -> int:
        """One past the last image's position in its request."""
        return self.start + len(self.images)


class MicroBatches:
    """Cuts and joins decoded batches into micro-batches of at most `size` images, first come, first classified.

    An idle worker's request goes at once; a busy worker's micro-batches fill by themselves, because everything that
    was decoded during one is waiting for the next.
    """

    def __init__(self, *, size: int, max_waiting: int) -> None:
        """`size` images make a micro-batch; `put` waits while more than `max_waiting` images wait already."""
        self._size = size
        self._max_waiting = max_waiting
        self._waiting: deque[Slice] = deque()
        self._waiting_count = 0
        self._coming = 0
        self._closed = False
        self._changed = threading.Condition()

    def expect(self) -> None:
        """Announce a request that is being fetched and decoded."""
        with self._changed:
            self._coming += 1

    def put(self, work: Work | None) -> None:
        """Add an announced request's images, when there is room; None where none came of it."""
        with self._changed:
            self._coming -= 1
            if work is not None and work.images is not None:
                self._changed.wait_for(lambda: self._waiting_count < self._max_waiting)
                self._waiting.append(Slice(work, work.images, 0))
                self._waiting_count += len(work.images)
            self._changed.notify_all()

    def close(self) -> None:
        """End `take` once everything is taken."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def take(self) -> list[Slice]:
        """Wait for the next micro-batch; empty after `close`."""
        with self._changed:
            while self._changed.wait_for(lambda: self._waiting or self._closed) and self._waiting:
                self._changed.wait_for(lambda: self._waiting_count >= self._size or not self._coming, LINGER_S)
                # While this thread lingered, another one may have taken everything.
                if slices := self._cut():
                    self._changed.notify_all()
                    return slices
            return []

    def _cut(self) -> list[Slice]:
        slices: list[Slice] = []
        room = self._size
        while self._waiting and room:
            first = self._waiting.popleft()
            if len(first.images) > room:
                self._waiting.appendleft(Slice(first.work, first.images[room:], first.start + room))
                first = Slice(first.work, first.images[:room], first.start)
            slices.append(first)
            room -= len(first.images)
        self._waiting_count -= self._size - room
        return slices


def join(slices: list[Slice]) -> Images:
    """The images of a micro-batch as one array; without a copy where they come from one request."""
    if len(slices) == 1:
        return slices[0].images
    return np.concatenate([part.images for part in slices])
