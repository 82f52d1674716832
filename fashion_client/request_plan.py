"""What one run of `fashion request` sends: told once, and the same batches whenever it is gone on with."""

from __future__ import annotations

import itertools
import math
import secrets
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

from msgspec import Meta, Struct, field

from fashion_client.sources import SAMPLE_IMAGES, SAMPLE_LABELS, Size, batches, count_images, read_images
from handoff.adapters import local_path
from handoff.contracts.batches import Batch
from handoff.contracts.messages import PayloadFormat
from handoff.settings import Settings


class Plan(Struct, frozen=True, kw_only=True):
    """Which images, cut and stored how; without `images` the sample."""

    images: str | None = None
    labels: str | None = None
    size: Size | None = None
    channels: int | None = None
    batch_size: int
    format: PayloadFormat
    repeat: int = 1
    count: int | None = None
    model: str | None = None

    def batches(self) -> Iterator[Batch]:
        """Read the batches, in an order that does not change.

        Raises: DataSetUnavailable
        """
        return itertools.islice(self._all_batches(), self.count)

    def request_count(self) -> int | None:
        """How many requests that makes, where it takes no reading of all images."""
        known = count_images(self._source) if self._source.exists() else None
        if known is None:
            return self.count
        return int(min(self.count or math.inf, self.repeat * math.ceil(known / self.batch_size)))

    @property
    def _source(self) -> Path:
        return SAMPLE_IMAGES if self.images is None else Path(self.images)

    def _all_batches(self) -> Iterator[Batch]:
        labels = SAMPLE_LABELS if self.images is None else Path(self.labels) if self.labels else None
        for _ in range(self.repeat):
            images = read_images(self._source, labels=labels, size=self.size, channels=self.channels)
            yield from batches(images, size=self.batch_size)


class Deployment(Struct, frozen=True):
    """Where a run sends its requests."""

    broker: str
    store: str


class Run(Struct, frozen=True, kw_only=True):
    """One run: its plan, where it goes, and the names under which it goes there."""

    plan: Plan
    deployment: Deployment
    run_id: Annotated[str, Meta(pattern=r"\A[0-9a-f]{12}\Z")] = field(default_factory=lambda: secrets.token_hex(6))
    client_id: str = field(default_factory=lambda: f"client-{secrets.token_hex(16)}")
    begun_at: datetime = field(default_factory=lambda: datetime.now(UTC))

    def request_id(self, position: int) -> str:
        """The id under which a batch is requested, however often."""
        return f"{self.run_id}-{position}"


def deployment_of(settings: Settings) -> Deployment:
    """Say where requests go, the same from whatever folder a console is started."""
    return Deployment(_absolute(settings.broker), _absolute(settings.store))


def _absolute(url: str) -> str:
    scheme, _, rest = url.partition(":")
    path = local_path(url) if scheme in {"embedded", "file"} else None
    return url if path is None or rest.startswith("//") else f"{scheme}://{Path(path).absolute()}"
