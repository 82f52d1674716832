"""Where a client's images come from: idx, CSV, npy and npz files, and folders of PNG or JPEG files."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path

import numpy as np
import numpy.typing as npt

from handoff.contracts.batches import Batch
from handoff.contracts.errors import DataSetUnavailable
from handoff.image_files.arrays import Archive, count_npz_images, read_idx, read_npy, read_npz
from handoff.image_files.blocks import open_image_array
from handoff.image_files.kinds import kind_of
from handoff.image_files.labels import labels_of, read_labels
from handoff.image_files.pictures import find_pictures, read_picture, resize
from handoff.image_files.pixels import as_images, guess_shape
from handoff.image_files.table import read_rows

SAMPLE = Path(__file__).parent / "sample"
SAMPLE_IMAGES = SAMPLE / "images.idx3-ubyte.gz"
SAMPLE_LABELS = SAMPLE / "labels.idx1-ubyte.gz"

Size = tuple[int, int]
"""Height and width."""


@dataclass(frozen=True)
class Image:
    """One image with what is known of it.

    Shapes: pixels uint8 (H, W, C)
    """

    pixels: npt.NDArray[np.uint8]
    image_id: str
    label: str = ""


def read_images(
    path: Path, *, labels: Path | None = None, size: Size | None = None, channels: int | None = None
) -> Iterator[Image]:
    """Read images one after another from a file or a folder, told apart by name; `size` resizes each.

    Pictures that are gray stay so, others become RGB, unless `channels` (1 or 3) says what all shall be. Of a file that
    holds images to train on and to test with, the latter are read.

    Raises: DataSetUnavailable: nothing there, an unknown kind of file, or one that cannot be read
    """
    kind = kind_of(path)
    if kind in {"csv", "picture", "folder"} and labels is not None:
        raise DataSetUnavailable(f"--labels goes with idx and npy images; {path} says its labels itself, if it does.")
    match kind:
        case "folder":
            return _folder_images(path, size, channels)
        case "picture":
            return iter([Image(read_picture(path, size=size, channels=channels), path.name)])
        case "csv":
            images = _csv_images(path)
        case "npz":
            images = _array_images(read_npz(path, part="test"), path, labels)
        case "npy":
            images = _array_images(Archive(read_npy(path)), path, labels)
        case "idx":
            images = _array_images(Archive(read_idx(path)), path, labels)
    return images if size is None else (replace(image, pixels=resize(image.pixels, size)) for image in images)


def count_images(path: Path) -> int | None:
    """Say how many images `read_images` will find, where that takes no reading of them all; None for CSV files."""
    match kind_of(path):
        case "folder":
            return len(find_pictures(path))
        case "picture":
            return 1
        case "csv":
            return None
        case "npz":
            return count_npz_images(path, part="test")
        case "npy":
            return len(as_images(read_npy(path), name=str(path)))
        case "idx":
            return len(open_image_array(path, "idx"))


def batches(images: Iterable[Image], *, size: int) -> Iterator[Batch]:
    """Join images to batches of `size`, the last one perhaps smaller.

    Raises: DataSetUnavailable: images of different shapes
    """
    images = iter(images)
    while run := list(islice(images, size)):
        shape = run[0].pixels.shape
        odd = next((image for image in run if image.pixels.shape != shape), None)
        if odd is not None:
            raise refuse_shapes(odd.image_id, odd.pixels.shape, run[0].image_id, shape)
        labels = [image.label for image in run]
        yield Batch(
            np.stack([image.pixels for image in run]),
            [image.image_id for image in run],
            labels if any(labels) else None,
        )


def refuse_shapes(odd: str, odd_shape: Sequence[int], first: str, shape: Sequence[int]) -> DataSetUnavailable:
    """Say that two images differ in height, width or channels, and what makes them alike."""
    remedy = "--channels 3 makes all RGB" if odd_shape[:2] == shape[:2] else "--size HxW resizes all"
    said, expected = ("x".join(map(str, sides)) for sides in (odd_shape, shape))
    return DataSetUnavailable(
        f"The image {odd} is {said}, {first} is {expected}; make all images the same size first ({remedy})."
    )


def own_id(path: Path, position: int) -> str:
    """What an image is called that has no id: by its file and its place in it."""
    return f"{path.name.partition('.')[0]}-{position}"


def _array_images(archive: Archive, path: Path, labels_path: Path | None) -> Iterator[Image]:
    images = as_images(archive.images, name=str(path))
    labels = _labels(archive, path, labels_path)
    if labels is not None and len(labels) != len(images):
        raise DataSetUnavailable(
            f"{labels_path or path} holds {len(labels)} labels for {len(images)} images;"
            " name the file that belongs to them."
        )
    for position, (pixels, label) in enumerate(zip(images, labels or [""] * len(images), strict=True)):
        yield Image(pixels, own_id(path, position), label)


def _labels(archive: Archive, path: Path, labels_path: Path | None) -> list[str] | None:
    if labels_path is not None:
        return read_labels(labels_path)
    return None if archive.labels is None else labels_of(archive.labels, name=f"{path} (its labels)")


def _csv_images(path: Path) -> Iterator[Image]:
    """Read rows of pixels below a header; `image_id` and `label` columns may stand among them."""
    position = 0
    for rows in read_rows(path):
        # One row of pixels where they are no square: a CSV request carries no shape.
        shape = guess_shape(rows.pixels.shape[1]) or (1, rows.pixels.shape[1], 1)
        for place, pixels in enumerate(rows.pixels.reshape(-1, *shape)):
            image_id = rows.image_ids[place] if rows.image_ids else ""
            yield Image(pixels, image_id or own_id(path, position), rows.labels[place] if rows.labels else "")
            position += 1


def _folder_images(folder: Path, size: Size | None, channels: int | None) -> Iterator[Image]:
    """Read pictures in the order of their names; the folder right above a picture, where there is one, is its label."""
    for path in find_pictures(folder):
        inside = path.relative_to(folder)
        yield Image(read_picture(path, size=size, channels=channels), inside.as_posix(), inside.parent.name)
