"""The options that name labelled images, and the data set that they name."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from handoff.contracts.images import ImageShape
from ml_model_development.code.data_set import DataSet
from ml_model_development.code.labelled_images import LabelledImages

F = TypeVar("F", bound=Callable[..., Any])


@dataclass(frozen=True, kw_only=True)
class DataOptions:
    """What `data_options` was given at the command line."""

    images: Path | None = None
    labels: Path | None = None
    test_images: Path | None = None
    test_labels: Path | None = None
    label_names: tuple[str, ...] | None = None
    label_column: str = "label"
    shape: ImageShape | None = None
    size: tuple[int, int] | None = None
    test_share: float = 0.2
    max_unreadable: float = 0.01


@dataclass(frozen=True)
class ChosenData:
    """A data set with what its users should know of it, a sentence each."""

    data_set: DataSet
    notes: tuple[str, ...] = ()


def data_options(command: F) -> F:
    """Add the options that name labelled images; the command receives them as `images: DataOptions`."""
    raise NotImplementedError


def data_set_from(options: DataOptions, *, data: Path | None = None, seed: int = 1) -> ChosenData:
    """Read the data set that the options name; Fashion-MNIST (`data`: where) where they name none.

    Raises: DataSetUnavailable
    """
    raise NotImplementedError


def read_for(
    manifest_labels: Sequence[str],
    input_shape: ImageShape,
    images: Path,
    labels: Path | None = None,
    *,
    label_names: Sequence[str] | None = None,
    label_column: str = "label",
    max_unreadable: float = 0.01,
) -> LabelledImages:
    """Read images to be classified by a model that takes `input_shape` and knows `manifest_labels`.

    Raises: DataSetUnavailable: their shape or labels do not fit the model
    """
    raise NotImplementedError
