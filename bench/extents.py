"""How much is measured of each deployment: the loads, and how often what is measured."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from loads import Load

# The load that the ratios are of: seconds of work, so that its beginning and its end do not show.
MAIN = Load(1_000, 55)
# Requests of the other loads.
REQUESTS = {1: 120, 10: 60, 100: 30, 1_000: 10, 10_000: 2}


@dataclass(frozen=True)
class Extent:
    """What is measured of one deployment, so that all of them take minutes."""

    sizes: Sequence[int] = tuple(REQUESTS)
    """Images a request; those of MAIN always, and more of them."""
    every: int = 1
    """Measured in every so many-th round."""
    everything_every: int | None = 3
    """In such rounds also that of which no ratio is made, with half as many small requests; None: never."""
    loads_percent: Sequence[int] = (80, 50, 1)
    """Latencies are measured unloaded, and at these shares of the highest rate."""


_WHOLE = Extent()
_EXTENTS = {
    "kafka": Extent((1, 100, MAIN.images_per_request), every=2, everything_every=None, loads_percent=()),
    "kafka_share": Extent((1, MAIN.images_per_request), every=3, everything_every=None, loads_percent=()),
}


def extent_of(name: str) -> Extent:
    """The extent of a deployment."""
    return _EXTENTS.get(name, _WHOLE)
