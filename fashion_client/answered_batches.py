"""What a request asked and what the service answered, image by image, read back from the object store."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import get_args

import numpy as np
import numpy.typing as npt

from fashion_client.submission import Result
from handoff.contracts.batches import Batch, decode_batch
from handoff.contracts.errors import InvalidBatch, PayloadNotFound
from handoff.contracts.images import ImageShape
from handoff.contracts.messages import AnalysisResponse, PayloadFormat
from handoff.contracts.objects import batch_uri
from handoff.contracts.predictions import PredictionTable
from handoff.contracts.protocols import Store
from handoff.image_files.pixels import guess_shape


@dataclass(frozen=True)
class BatchLimits:
    """The most that is read of one batch: of its object as of what that unpacks to, and images."""

    max_bytes: int = 64 * 1024 * 1024
    max_images: int = 20_000


@dataclass(frozen=True)
class AnsweredImage:
    """One image with what the model says of it.

    Shapes: pixels uint8 (H, W, C)
    """

    pixels: npt.NDArray[np.uint8]
    image_id: str
    label: str
    probability: float
    true_label: str = ""
    """As the model calls it; "" where it is unknown."""

    @property
    def is_wrong(self) -> bool:
        """Whether the model says something else than what is known."""
        return self.true_label not in {"", self.label}


class AnsweredBatches:
    """Finds the batches of succeeded responses, where this project's clients put them.

    `shape` is that of images in CSV and flat npy batches, which do not say it; without, they are taken as squares.
    """

    def __init__(self, store: Store, *, limits: BatchLimits | None = None, shape: ImageShape | None = None) -> None:
        self._store = store
        self._limits = limits or BatchLimits()
        self._shape = shape
        self._formats: list[PayloadFormat] = list(get_args(PayloadFormat))

    def of(self, response: AnalysisResponse) -> AnsweredBatch:
        """Stand for what one response is about; nothing is read before it is asked for."""
        return AnsweredBatch(Result(response, self._store), self)

    def read(self, request_id: str) -> Batch:
        """Read a request's batch.

        Raises: PayloadNotFound; PayloadTooLarge; PayloadCorrupt; InvalidBatch; StoreUnavailable
        """
        for format in self._formats:
            uri = batch_uri(self._store.root, request_id, format)
            try:
                data = self._store.read(uri, max_bytes=self._limits.max_bytes)
            except PayloadNotFound:
                continue
            self._formats = [format, *(other for other in self._formats if other != format)]  # clients keep to one
            return self._decode(data, format)
        places = ", ".join(self._formats)
        raise PayloadNotFound(
            f"No batch lies at {batch_uri(self._store.root, request_id, 'csv')} ({places}); its client has removed it"
            " or put it elsewhere, or its retention is over."
        )

    def _decode(self, data: bytes, format: PayloadFormat) -> Batch:
        most = self._limits
        batch = decode_batch(
            data, format=format, image_shape=None, max_images=most.max_images, max_bytes=most.max_bytes
        )
        images = _shaped(batch.images, self._shape)
        if images.shape[3] not in {1, 3}:
            raise InvalidBatch(f"Its images have {images.shape[3]} channels; pictures have 1 or 3.")
        return Batch(images, batch.image_ids, batch.labels)


class AnsweredBatch:
    """One request's images beside their predictions, each read once and when it is asked for."""

    def __init__(self, result: Result, batches: AnsweredBatches) -> None:
        self.response = result.response
        self._result = result
        self._batches = batches

    @property
    def request_id(self) -> str:
        """The request's id."""
        return self.response.request_id

    @cached_property
    def predictions(self) -> PredictionTable:
        """What the model says of every image.

        Raises: PayloadNotFound; PayloadTooLarge; PayloadForbidden; PayloadCorrupt; StoreUnavailable
        """
        return self._result.predictions()

    @cached_property
    def batch(self) -> Batch:
        """The images, as many and with the ids that the predictions are of.

        Raises: as `AnsweredBatches.read`, and InvalidBatch: the predictions are of others
        """
        batch = self._batches.read(self.request_id)
        if batch.image_ids != self.predictions.image_ids:
            raise InvalidBatch("The batch that lies under its id holds other images than those that were classified.")
        return batch

    @cached_property
    def true_labels(self) -> list[str]:
        """The labels that came with the images, as the model calls them; "" where one is unknown.

        Those of an npy batch are in the request's message alone, and unknown here.
        """
        names = self.predictions.label_names
        # Ids go first, as they do for the worker that counts the right answers.
        called = {name: name for name in names} | {str(position): name for position, name in enumerate(names)}
        return [called.get(label, "") for label in self.batch.labels or [""] * len(self.batch)]

    def __len__(self) -> int:
        return len(self.batch)

    def __iter__(self) -> Iterator[AnsweredImage]:
        found = self.predictions
        best = found.probabilities[np.arange(len(found)), found.label_ids].tolist()
        columns = (self.batch.images, found.image_ids, found.labels, best, self.true_labels)
        return (AnsweredImage(*cells) for cells in zip(*columns, strict=True))


def _shaped(images: npt.NDArray[np.uint8], shape: ImageShape | None) -> npt.NDArray[np.uint8]:
    """Give rows of pixels the shape that is known or can be guessed."""
    count, height, width, channels = images.shape
    if (height, channels) != (1, 1):
        return images
    if shape is not None and shape[0] * shape[1] * shape[2] != width:
        said = "x".join(map(str, shape))
        raise InvalidBatch(f"Its images have {width} pixels, of a shape other than {said}; name theirs with --shape.")
    return images.reshape(count, *(shape or guess_shape(width) or (1, width, 1)))
