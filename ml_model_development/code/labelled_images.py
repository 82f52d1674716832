"""Anyone's labelled images as one split: read, checked, and their labels numbered."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from handoff.contracts.errors import DataSetUnavailable
from handoff.contracts.images import ImageShape
from handoff.image_files.arrays import Archive, Part, read_idx, read_npy, read_npz
from handoff.image_files.kinds import kind_of
from handoff.image_files.labels import labels_of, read_labels
from handoff.image_files.pictures import resize
from handoff.image_files.pixels import as_images, check_shape, guess_shape
from handoff.image_files.table import read_rows
from ml_model_development.code.data_set import Split
from ml_model_development.code.label_ids import number_labels, parse_label_names
from ml_model_development.code.picture_folder import Unreadable, read_picture_folder

__all__ = ["LabelledImages", "Part", "Unreadable", "fit_to", "parse_label_names", "read_labelled"]


@dataclass(frozen=True, kw_only=True)
class LabelledImages:
    """Images with their labels, and what was left out.

    Units: a label of `split` is a place in `labels`
    """

    split: Split
    labels: tuple[str, ...]
    source: str
    unreadable: tuple[Unreadable, ...] = ()

    @property
    def shape(self) -> ImageShape:
        """Height, width and channels of each image."""
        height, width, channels = self.split.images.shape[1:]
        return height, width, channels


@dataclass(frozen=True)
class _Found:
    """What a file or folder holds, unchecked.

    Shapes: images uint8 (N, H, W, C)
    """

    images: NDArray[np.uint8]
    labels: Sequence[str]
    unreadable: tuple[Unreadable, ...] = ()
    label_names: tuple[str, ...] | None = None


def read_labelled(
    images: Path,
    labels: Path | None = None,
    *,
    known_labels: Sequence[str] | None = None,
    part: Part = "train",
    label_names: Sequence[str] | None = None,
    label_column: str = "label",
    shape: ImageShape | None = None,
    size: tuple[int, int] | None = None,
    max_unreadable: float = 0.01,
) -> LabelledImages:
    """Read labelled images: idx, CSV, npy or npz files, or a folder of pictures with a sub-folder a label.

    `labels` is a file of their own for idx and npy images, and for CSV and npz files that have none. `known_labels`
    fixes the ids, `label_names` names integer labels by id (see `number_labels`). `shape` makes images of flat rows,
    which are taken as square without it; `size` (height, width) then resizes every image. Gray pictures become RGB
    where one of their folder is; transparent ones are laid on white (see `read_picture`). Unreadable pictures are left
    out and listed, while they are no more than the share `max_unreadable` of all. `part` chooses among the images of an
    npz file that holds some to train on and others to test with.

    Raises: DataSetUnavailable: not such files, counts that differ, values that are no pixels, a shape that no model can
        have, one label alone (without `known_labels`), or labels that are not known; a sentence that says which
    """
    match kind_of(images):
        case "picture":
            raise DataSetUnavailable(
                f"{images} is one picture; name a folder of pictures with a sub-folder for each label."
            )
        case "folder":
            found = _read_folder(images, labels, size, max_unreadable)
        case "csv":
            found = _read_table(images, labels, label_column, shape)
        case "idx":
            found = _read_arrays(Archive(read_idx(images)), images, labels, label_column, shape)
        case "npy":
            found = _read_arrays(Archive(read_npy(images)), images, labels, label_column, shape)
        case "npz":
            found = _read_arrays(read_npz(images, part=part), images, labels, label_column, shape)
    _check(found, images, labels)
    ids, names = number_labels(
        found.labels,
        label_names=label_names or found.label_names,
        known_labels=known_labels,
        source=str(labels or images),
    )
    if known_labels is None and len(set(found.labels)) < 2:  # noqa: PLR2004 - a choice needs two
        raise DataSetUnavailable(
            f"All {len(ids)} images of {images} have the label {found.labels[0]}; training needs two labels or more."
        )
    split = Split(_resize_all(found.images, size), ids)
    return LabelledImages(split=split, labels=names, source=str(images), unreadable=found.unreadable)


def fit_to(shape: ImageShape, labelled: LabelledImages, *, wanted_by: str) -> LabelledImages:
    """Make images fit `shape`: gray ones become RGB where it has three channels; `wanted_by` is what an error calls it.

    Raises: DataSetUnavailable: another height or width, or colour where gray is wanted
    """
    if labelled.shape == shape:
        return labelled
    if labelled.shape == (*shape[:2], 1):
        split = labelled.split
        return replace(labelled, split=Split(np.repeat(split.images, shape[2], axis=3), split.labels))
    wanted, found = ("x".join(map(str, sides)) for sides in (shape, labelled.shape))
    remedy = f"resize them with --size {shape[0]}x{shape[1]}" if labelled.shape[:2] != shape[:2] else "make them gray"
    raise DataSetUnavailable(
        f"{labelled.source} holds images of {found}, {wanted_by} {wanted} (height x width x channels); {remedy}."
    )


def _read_folder(folder: Path, labels: Path | None, size: tuple[int, int] | None, max_unreadable: float) -> _Found:
    if labels is not None:
        raise DataSetUnavailable(f"--labels goes with files of images; the sub-folders of {folder} are its labels.")
    read = read_picture_folder(folder, size=size, max_unreadable=max_unreadable)
    return _Found(read.images, read.labels, read.unreadable)


def _read_table(path: Path, labels: Path | None, label_column: str, shape: ImageShape | None) -> _Found:
    blocks: list[NDArray[np.uint8]] = []
    found: list[str] = []
    for rows in read_rows(path, label_column=label_column):
        if rows.labels is None and labels is None:
            raise DataSetUnavailable(
                f"{path} has no column {label_column!r}; name the one with the labels with --label-column, or a file of"
                " them with --labels."
            )
        if rows.labels is not None and labels is not None:
            raise DataSetUnavailable(f"{path} has labels of its own in the column {label_column!r}; omit --labels.")
        blocks.append(rows.pixels)
        found += rows.labels or ()
    if not blocks:
        raise DataSetUnavailable(f"{path} holds no images: there is no row below its header.")
    pixels = np.concatenate(blocks)
    shaped = pixels.reshape(-1, *_shape_of_rows(pixels.shape[1], shape, path))
    return _Found(shaped, found if labels is None else read_labels(labels, label_column=label_column))


def _shape_of_rows(count: int, shape: ImageShape | None, path: Path) -> ImageShape:
    found = shape or guess_shape(count)
    if found is None:
        raise DataSetUnavailable(f"The {count} pixel columns of {path} make no square image; give the --shape HxWxC.")
    if np.prod(found) != count:
        said = "x".join(map(str, found))
        raise DataSetUnavailable(f"{path} has {count} pixel columns, images of {said} need {np.prod(found)}.")
    return found


def _read_arrays(
    archive: Archive, path: Path, labels: Path | None, label_column: str, shape: ImageShape | None
) -> _Found:
    if labels is None and archive.labels is None:
        raise DataSetUnavailable(f"{path} holds images alone; name the file of their labels with --labels.")
    if labels is not None and archive.labels is not None:
        raise DataSetUnavailable(f"{path} has labels of its own; omit --labels.")
    images = as_images(archive.images, name=str(path), shape=shape)
    if shape is not None and images.shape[1:] != shape:
        found, wanted = ("x".join(map(str, sides)) for sides in (images.shape[1:], shape))
        raise DataSetUnavailable(f"{path} holds images of {found}, not of {wanted} (height x width x channels).")
    if labels is not None:
        return _Found(images, read_labels(labels, label_column=label_column))
    stored = archive.labels if archive.labels is not None else np.empty(0, np.int64)
    names = None if archive.label_names is None else tuple(labels_of(archive.label_names, name=f"{path} (label_names)"))
    return _Found(images, labels_of(stored, name=f"{path} (its labels)"), label_names=names)


def _check(found: _Found, images: Path, labels: Path | None) -> None:
    if not len(found.images):
        raise DataSetUnavailable(f"{images} holds no images.")
    height, width, channels = found.images.shape[1:]
    check_shape((height, width, channels), name=str(images))
    if len(found.labels) != len(found.images):
        header = "; is its first line the name of a column? Say it with --label-column"
        raise DataSetUnavailable(
            f"{labels or images} holds {len(found.labels)} labels for {len(found.images)} images"
            f"{header if labels and len(found.labels) == len(found.images) + 1 else ''}."
        )


def _resize_all(images: NDArray[np.uint8], size: tuple[int, int] | None) -> NDArray[np.uint8]:
    if size is None or images.shape[1:3] == size:
        return images
    resized = np.empty((len(images), *size, images.shape[3]), np.uint8)
    for place, image in enumerate(images):
        resized[place] = resize(image, size)
    return resized
