"""Which images an artifact is evaluated on."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from handoff.contracts.errors import DataSetUnavailable
from handoff.contracts.manifest import Manifest
from ml_model_development.code.build_model_utils import load_data_set
from ml_model_development.code.data_options import read_for
from ml_model_development.code.data_set import LABELS
from ml_model_development.code.data_sources import holds_data_set
from ml_model_development.code.labelled_images import LabelledImages


class EvaluationImages(NamedTuple):
    """Labelled images, and whether they are Fashion-MNIST's test split."""

    found: LabelledImages
    published: bool


def read_test_split(manifest: Manifest, folder: Path | None) -> EvaluationImages:
    """Read Fashion-MNIST's test split, from this folder or wherever it lies.

    Raises: DataSetUnavailable: it is not there, or the model is for other images
    """
    if tuple(manifest.labels) != LABELS:
        raise DataSetUnavailable(
            f"{manifest.name} knows other labels than Fashion-MNIST's; name labelled images after the artifact."
        )
    data_set = load_data_set(folder)
    shape = data_set.test.images.shape[1:]
    if shape != manifest.input_shape:
        raise DataSetUnavailable(
            f"{manifest.name} takes images of {_by(manifest.input_shape)}, Fashion-MNIST's are {_by(shape)};"
            " name labelled images of that shape after the artifact."
        )
    source = f"Fashion-MNIST's test split, {data_set.source}"
    return EvaluationImages(LabelledImages(split=data_set.test, labels=data_set.labels, source=source), published=True)


def read_images(
    manifest: Manifest,
    images: Path,
    labels: Path | None,
    *,
    label_names: Sequence[str] | None,
    label_column: str,
    size: tuple[int, int] | None,
    max_unreadable: float,
) -> EvaluationImages:
    """Read labelled images for a model; a folder with the four published files stands for their test split.

    Raises: DataSetUnavailable: they cannot be read, or do not fit the model
    """
    if labels is None and tuple(manifest.labels) == LABELS and holds_data_set(images):
        return read_test_split(manifest, images)
    found = read_for(
        manifest.labels,
        manifest.input_shape,
        images,
        labels,
        label_names=label_names,
        label_column=label_column,
        size=size,
        max_unreadable=max_unreadable,
    )
    return EvaluationImages(found, published=False)


def _by(shape: tuple[int, ...]) -> str:
    return " x ".join(map(str, shape))
