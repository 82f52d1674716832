"""Train, evaluate and export the model that the ML service serves."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ml_model_development.code.image_classifier import ImageClassifier

__all__ = ["ImageClassifier"]


def __getattr__(name: str) -> Any:  # noqa: ANN401 - whatever is asked for
    """Import Keras when the classifier is asked for, not before: `fashion train --help` needs none."""
    if name != "ImageClassifier":
        raise AttributeError(name)
    from ml_model_development.code.image_classifier import ImageClassifier

    return ImageClassifier
