"""A job's images as batches: the same images in the same batch, whenever the job is read again."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from fashion_client.bulk_inputs import Inputs
from fashion_client.image_blocks import Reading
from fashion_client.sources import refuse_shapes

# Eighty colour pictures of 224x224; as CSV, at most four times as much, they fit worker.max_batch_bytes. A few such
# batches are in memory at once, and larger ones gain nothing.
MAX_PIXEL_BYTES = 12 * 1024 * 1024


class Place(NamedTuple):
    """Where in the inputs an image lies."""

    input: int
    position: int


@dataclass(frozen=True)
class Origin:
    """Where some images that follow each other come from, and what they are called."""

    file: str
    place: Place
    count: int
    image_ids: list[str] | None = None
    """"" for an image that is called by its position."""


@dataclass(frozen=True)
class Run:
    """Some images of one input.

    Shapes: pixels uint8 (N, H, W, C)
    """

    origin: Origin
    pixels: npt.NDArray[np.uint8]
    unreadable: str | None = None
    """Why the one picture that this stands for cannot be read."""

    def cut(self, count: int) -> tuple[Run, Run]:
        """Divide after `count` images, or after all where there are fewer."""
        count = min(count, self.origin.count)
        origin, (at, position) = self.origin, self.origin.place
        ids, more_ids = (None, None) if origin.image_ids is None else _halves(origin.image_ids, count)
        rest = replace(origin, place=Place(at, position + count), count=origin.count - count, image_ids=more_ids)
        first = replace(origin, count=count, image_ids=ids)
        return Run(first, self.pixels[:count]), Run(rest, self.pixels[count:])


@dataclass(frozen=True)
class BulkBatch:
    """The images of one request.

    Shapes: images uint8 (N, H, W, C)
    """

    number: int
    images: npt.NDArray[np.uint8]
    origins: list[Origin]
    end: Place
    """Where the image after the last one lies."""
    unreadable: list[tuple[Origin, str]] = field(default_factory=list)
    """Pictures before and among these that cannot be read, each with the reason."""


def read_batches(inputs: Inputs, reading: Reading, *, size: int, start: Place, number: int) -> Iterator[BulkBatch]:
    """Read batches of `size` images, or of fewer where their pixels would take over 12 MiB; the first is `number`.

    Raises: DataSetUnavailable: a broken input, or images of different sizes
    """
    return join_runs(_runs(inputs, reading, start, most=size), size=size, number=number)


def join_runs(runs: Iterable[Run], *, size: int, number: int) -> Iterator[BulkBatch]:
    """Join runs of images to batches, the last one perhaps smaller, or without any where only unreadable ones are left.

    Unreadable pictures do not count towards the size: where a batch ends depends on nothing that came before it.

    Raises: DataSetUnavailable: images of different sizes
    """
    held: list[Run] = []
    first: Run | None = None
    for run in runs:
        if run.unreadable is not None:
            held.append(run)
            continue
        first = first or run
        if run.pixels.shape[1:] != first.pixels.shape[1:]:
            raise refuse_shapes(_name(run), run.pixels.shape[1:], _name(first), first.pixels.shape[1:])
        fit = max(1, min(size, MAX_PIXEL_BYTES // math.prod(first.pixels.shape[1:])))
        while run.origin.count:
            part, run = run.cut(fit - _image_count(held))  # noqa: PLW2901 - what is left of it
            held.append(part)
            if _image_count(held) == fit:
                yield _batch(number, held)
                number, held = number + 1, []
    if held:
        yield _batch(number, held)


def _runs(inputs: Inputs, reading: Reading, start: Place, *, most: int) -> Iterator[Run]:
    for place in range(start.input, len(inputs.every)):
        position = start.position if place == start.input else 0
        for block in inputs.blocks(place, reading, start=position, most=most):
            origin = Origin(inputs.every[place].name, Place(place, position), len(block), block.image_ids)
            yield Run(origin, block.pixels, block.unreadable)
            position += len(block)


def _image_count(runs: list[Run]) -> int:
    return sum(len(run.pixels) for run in runs)


def _batch(number: int, runs: list[Run]) -> BulkBatch:
    readable = [run for run in runs if run.unreadable is None]
    images = np.concatenate([run.pixels for run in readable]) if len(readable) > 1 else (readable or runs)[0].pixels
    last = runs[-1].origin
    return BulkBatch(
        number,
        images,
        _merged([run.origin for run in readable]),
        Place(last.place.input, last.place.position + last.count),
        [(run.origin, run.unreadable) for run in runs if run.unreadable is not None],
    )


def _merged(origins: list[Origin]) -> list[Origin]:
    """Put origins together that follow each other directly in one input, as the small blocks of a CSV file do."""
    merged = origins[:1]
    for origin in origins[1:]:
        last = merged[-1]
        if origin.place == (last.place.input, last.place.position + last.count):
            ids = None if last.image_ids is None else last.image_ids + (origin.image_ids or [])
            merged[-1] = replace(last, count=last.count + origin.count, image_ids=ids)
        else:
            merged.append(origin)
    return merged


def _halves(names: list[str], count: int) -> tuple[list[str], list[str]]:
    return names[:count], names[count:]


def _name(run: Run) -> str:
    ids, position = run.origin.image_ids, run.origin.place.position
    return f"{ids[0] if ids and ids[0] else position} of {run.origin.file}"
