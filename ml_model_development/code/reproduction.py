"""Whether an evaluation says again what an artifact's `metrics.json` states."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from ml_model_development.code.data_set import Split
from ml_model_development.code.evaluation import Evaluation

METRICS_NAME: Final = "metrics.json"
TEST_DIGEST: Final = "test_digest"
"""The entry of `metrics.json` that tells which images its figures are about."""


@dataclass(frozen=True)
class Reproduction:
    """What `metrics.json` states of the same images, beside what was found."""

    reproduced: bool
    """Whether as many images of each label were given each label; as many right, where no more is stated."""
    sentence: str


def digest_split(split: Split) -> str:
    """Digest images and labels, in their order and with their shape: `sha256:` and 64 hexadecimal digits."""
    digest = hashlib.sha256(repr(split.images.shape).encode())
    digest.update(split.images.tobytes())
    digest.update(split.labels.astype("<i8").tobytes())
    return f"sha256:{digest.hexdigest()}"


def compare(folder: Path, evaluation: Evaluation, split: Split, *, file: str, usual: bool) -> Reproduction | None:
    """Hold an evaluation to the artifact's own figures; None where they are about other images, or not there.

    `file` is which of the artifact's models was run: of those that are not served it states the accuracy alone.
    `usual` tells that the images are those on which an artifact is tested that does not say which they were.
    """
    stated = _read_metrics(folder / METRICS_NAME)
    if not (stated[TEST_DIGEST] == digest_split(split) if TEST_DIGEST in stated else usual):
        return None
    figures = _figures_of(stated, file)
    accuracy = figures.get("accuracy")
    if not isinstance(accuracy, float | int):
        return None
    if figures.get("confusion") == evaluation.confusion.tolist():
        return Reproduction(reproduced=True, sentence=f"{METRICS_NAME} is reproduced to the image.")
    count, found = evaluation.image_count, evaluation.right_count
    right = round(accuracy * count)
    if right == found and "confusion" not in figures:
        return Reproduction(reproduced=True, sentence=f"{METRICS_NAME} states as many right of {file}.")
    if right == found:
        said = "as many right, but not in the same labels"
    else:
        said = f"{right:,} of {count:,} right, {abs(right - found):,} {'more' if right > found else 'fewer'} than here"
    return Reproduction(reproduced=False, sentence=f"{METRICS_NAME} states {said}.")


def _figures_of(stated: Mapping[str, Any], file: str) -> Mapping[str, Any]:
    """The figures of one model; an artifact that names no graph speaks of all its models at once."""
    if stated.get("graph", file) == file:
        return stated
    graphs = stated.get("graphs")
    figures = graphs.get(file) if isinstance(graphs, dict) else None
    return figures if isinstance(figures, dict) else {}


def _read_metrics(path: Path) -> Mapping[str, Any]:
    """No worker needs these figures, so a file that cannot be read is none."""
    try:
        figures = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return {}
    return figures if isinstance(figures, dict) else {}
