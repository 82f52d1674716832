"""What a worker tells of itself while it works; without anyone to listen, nothing."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Literal, NamedTuple, Protocol

from handoff.contracts.messages import ModelReference
from handoff.contracts.protocols import Backlog
from ml_server.work import Work


class End(NamedTuple):
    """How a delivery ended, for logs, metrics and traces; `code` and `reason` of what went wrong."""

    outcome: Literal["succeeded", "failed", "dead-letter", "retry"]
    code: str = ""
    reason: str = ""
    delay_s: float | None = None


class Serving(NamedTuple):
    """What a worker that is ready works with."""

    model: Callable[[], ModelReference]
    """What answers now; a remote runtime's version may change."""
    threads: Sequence[threading.Thread]
    """Those without which it serves nothing; some begin only when it runs."""
    backlog: Callable[[], Backlog]
    fault: Callable[[], str] = str
    """What keeps a remote runtime from answering; empty for nothing."""


class Recorder(Protocol):
    """Hears what a worker does; called by its threads, so that it must be quick and never raise."""

    def serving(self, serving: Serving) -> None:
        """The worker is warm and subscribed."""

    def pulled(self, work: Work) -> None:
        """A delivery is held from now on."""

    def classified(self, image_count: int) -> None:
        """A micro-batch of so many images was classified."""

    def ended(self, work: Work, end: End) -> None:
        """A delivery was acked or given back."""

    def draining(self) -> None:
        """Nothing more is pulled."""


class NoRecorder:
    """Hears nothing."""

    def serving(self, serving: Serving) -> None:
        """Pass."""

    def pulled(self, work: Work) -> None:
        """Pass."""

    def classified(self, image_count: int) -> None:
        """Pass."""

    def ended(self, work: Work, end: End) -> None:
        """Pass."""

    def draining(self) -> None:
        """Pass."""


NO_RECORDER: Recorder = NoRecorder()
