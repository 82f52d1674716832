"""Anyone's labelled images as one split: read, checked, and its labels numbered."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from handoff.contracts.images import ImageShape
from ml_model_development.code.data_set import Split

Part = Literal["train", "test"]
"""Which images of a file that holds both."""


@dataclass(frozen=True)
class Unreadable:
    """A picture that was left out, and why."""

    path: Path
    reason: str


@dataclass(frozen=True, kw_only=True)
class LabelledImages:
    """Images with their labels, and what was left out.

    Units: a label of `split` is a place in `labels`
    """

    split: Split
    labels: tuple[str, ...]
    source: str
    unreadable: tuple[Unreadable, ...] = ()


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
    """Read labelled images from a file or folder.

    Raises: DataSetUnavailable
    """
    raise NotImplementedError
