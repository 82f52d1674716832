"""What is asked of whatever classifies images."""

from __future__ import annotations

from typing import NamedTuple, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

Images = npt.NDArray[np.uint8]
Probabilities = npt.NDArray[np.float32]


class Classifier(Protocol):
    """One loaded model; used by one thread."""

    def classify(self, images: Images) -> Probabilities:
        """Classify images.

        Shapes: uint8 (N, H, W, C) -> float32 (N, K), rows summing to 1
        Raises: RuntimeUnavailable: a remote runtime did not answer; RuntimeFailed: it answered with something else
        """

    def warm_up(self, sizes: list[int]) -> None:
        """Run once at each micro-batch size, so that no request pays for a first run."""


@runtime_checkable
class RemoteClassifier(Classifier, Protocol):
    """A model that another process holds, which may be gone for a while, and come back with another version."""

    @property
    def version(self) -> str | None:
        """Which version the last `classify` was answered by; None where the server does not tell."""

    @property
    def fault(self) -> str:
        """What keeps its server from answering at present; empty while it does. Callable from any thread."""

    def stop_waiting(self) -> None:
        """Wait no more for a server that does not answer; callable from any thread."""


class RemoteServer(NamedTuple):
    """Where a remote runtime is, and how long to wait for it."""

    url: str
    timeout_s: float = 10.0
    """For one call."""
    patience_s: float = 120.0
    """For a server that does not answer: how long `classify` tries again before it gives up."""
