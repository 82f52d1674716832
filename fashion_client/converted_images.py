"""What is converted: the images of one file or folder, or some of them, with all that is known of each."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import numpy.typing as npt

from fashion_client.image_blocks import Block, Reading, read_file
from fashion_client.sources import count_images, own_id
from handoff.contracts.errors import DataSetUnavailable
from handoff.image_files.arrays import read_npz_labels
from handoff.image_files.kinds import kind_of
from handoff.image_files.labels import labels_of, read_labels
from handoff.image_files.table import read_rows

# An array's images at a time; of large ones fewer, by bytes (handoff.image_files.blocks).
_TOGETHER = 1_000


@dataclass(frozen=True)
class Chunk:
    """Some images, one after another.

    Shapes: pixels uint8 (N, H, W, C); image_ids N; labels N, "" where one is not known, None where none is
    """

    pixels: npt.NDArray[np.uint8]
    image_ids: Sequence[str]
    labels: Sequence[str] | None
    is_named: bool
    """Whether the ids are the images' own, and not their places."""

    def __len__(self) -> int:
        return len(self.pixels)


@dataclass(frozen=True)
class ImageSource:
    """A file or folder of images as `fashion request` reads it; `labels` names a file of labels for arrays.

    Positions are those of a Python slice: from 0, the end exclusive, negative ones from the end.
    """

    path: Path
    labels: Path | None = None
    reading: Reading = field(default_factory=Reading)
    start: int | None = None
    end: int | None = None

    @cached_property
    def span(self) -> tuple[int, int | None]:
        """The first position and the one after the last; None where only reading tells the latter.

        Raises: DataSetUnavailable: there are no images between them
        """
        known = self._count
        if known is None and not any(place is not None and place < 0 for place in (self.start, self.end)):
            first, last = self.start or 0, self.end
        else:
            count = sum(len(rows.pixels) for rows in read_rows(self.path)) if known is None else known
            first, last, _ = slice(self.start, self.end).indices(count)
        if last is not None and first >= last:
            raise self.refuse_span()
        return first, last

    @property
    def count(self) -> int | None:
        """How many images that makes, where it takes no reading of them all."""
        first, last = self.span
        return None if last is None or self._count is None else last - first

    def chunks(self) -> Iterator[Chunk]:
        """Read the images.

        Raises: DataSetUnavailable: they cannot be read, or there are none
        """
        first, last = self.span
        labels, position = self._array_labels, first
        for block in read_file(self.path, self.reading, start=first, most=_TOGETHER):
            if block.unreadable is not None:
                raise DataSetUnavailable(block.unreadable)
            found = _cut(block, None if last is None else last - position)
            if len(found):
                yield self._named(found, position, labels)
            position += len(found)
            if position == last:
                return
        if position == first:
            raise self.refuse_span()

    def refuse_span(self) -> DataSetUnavailable:
        """Say that there is nothing between two positions."""
        if self.start is None and self.end is None:
            return DataSetUnavailable(f"{self.path} holds no images.")
        held = "" if self._count is None else f", which holds {self._count}"
        start, end = self.start or 0, "the end" if self.end is None else self.end
        return DataSetUnavailable(
            f"There are no images from position {start} up to, without, {end} in {self.path}{held};"
            " positions count from 0, and --end is the first that is left out."
        )

    @cached_property
    def _count(self) -> int | None:
        return count_images(self.path)

    @cached_property
    def _array_labels(self) -> list[str] | None:
        """The labels of images that have them in another file, or beside them in an npz file."""
        kind = kind_of(self.path)
        if self.labels is not None:
            if kind in {"csv", "picture", "folder"}:
                raise DataSetUnavailable(
                    f"--labels goes with idx and npy images; {self.path} says its labels itself, if it does."
                )
            found: list[str] | None = read_labels(self.labels)
        else:
            array = read_npz_labels(self.path, part="test") if kind == "npz" else None
            found = None if array is None else labels_of(array, name=f"{self.path} (its labels)")
        if found is not None and len(found) != self._count:
            raise DataSetUnavailable(
                f"{self.labels or self.path} holds {len(found)} labels for {self._count} images;"
                " name the file that belongs to them."
            )
        return found

    def _named(self, block: Block, position: int, labels: list[str] | None) -> Chunk:
        own = block.image_ids or [""] * len(block)
        ids = [image_id or own_id(self.path, place) for place, image_id in enumerate(own, position)]
        known = block.labels if labels is None else labels[position : position + len(block)]
        return Chunk(block.pixels, ids, known, is_named=block.image_ids is not None)


def _cut(block: Block, most: int | None) -> Block:
    if most is None or len(block) <= most:
        return block
    ids, labels = (None if names is None else names[:most] for names in (block.image_ids, block.labels))
    return replace(block, pixels=block.pixels[:most], image_ids=ids, labels=labels)
