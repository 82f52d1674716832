"""A batch of images in memory, whatever format it came in."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from handoff.contracts.errors import InvalidBatch

ImageShape: TypeAlias = tuple[int, int, int]
"""Height, width and channels of one image."""

# Room for a path or an address, and still less than what a CSV reader takes as one cell.
MAX_NAME_LENGTH = 1024


@dataclass(frozen=True)
class Batch:
    """The images of one request, with the id of each and, where known, its true label ("" where one is not).

    Shapes: images uint8 (N, H, W, C), perhaps read-only; image_ids N; labels N or None
    Raises: InvalidBatch: columns of different lengths, an id that is empty or stands twice, a name too long
    """

    images: npt.NDArray[np.uint8]
    image_ids: list[str]
    labels: list[str] | None = None

    def __post_init__(self) -> None:
        _check_length("image_id", self.image_ids, self.images)
        if len(set(self.image_ids)) < len(self.image_ids) or "" in self.image_ids:
            _refuse_ids(self.image_ids)
        if self.labels is not None:
            _check_length("label", self.labels, self.images)

    def __len__(self) -> int:
        return len(self.images)


def default_image_ids(count: int) -> list[str]:
    """The ids of images that came without any: their places in the batch, from "0"."""
    return list(map(str, range(count)))


def place(row: int, column: str) -> str:
    """Name a cell for a person; `row` counts from 0, what is said counts from 1."""
    return f"data row {row + 1} (1 is the first after the header), column {column}"


def excerpt(text: str) -> str:
    """Quote what was found, cut so that a message stays small whatever is sent."""
    return repr(text if len(text) <= 40 else f"{text[:40]}…")  # noqa: PLR2004 - characters that fit a line


def _check_length(column: str, names: list[str], images: npt.NDArray[Any]) -> None:
    if len(names) != len(images):
        raise InvalidBatch(f"There are {len(images)} images but {len(names)} entries in column {column}.")
    if max(map(len, names), default=0) > MAX_NAME_LENGTH:
        row = next(row for row, name in enumerate(names) if len(name) > MAX_NAME_LENGTH)
        raise InvalidBatch(f"{place(row, column)}: {len(names[row])} characters, allowed are {MAX_NAME_LENGTH}.")


def _refuse_ids(image_ids: list[str]) -> None:
    seen: dict[str, int] = {}
    for row, image_id in enumerate(image_ids):
        if not image_id:
            raise InvalidBatch(f"{place(row, 'image_id')}: it is empty.")
        if image_id in seen:
            raise InvalidBatch(f"{place(row, 'image_id')}: {excerpt(image_id)} stands in row {seen[image_id] + 1} too.")
        seen[image_id] = row
