"""The two pictures of an artifact."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from ml_model_development.code.evaluation import Evaluation
from ml_model_development.code.training import Epoch

_DPI = 110


def draw_confusion(evaluation: Evaluation, path: Path) -> None:
    """Draw how many images of each label were given which label."""
    names, confusion = [quality.label for quality in evaluation.labels], evaluation.confusion
    shares = confusion / np.maximum(confusion.sum(axis=1, keepdims=True), 1)
    figure = Figure(figsize=(8, 7.2), layout="constrained")
    axes = figure.subplots()
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    axes.set_xticks(range(len(names)), names, rotation=45, ha="right")
    axes.set_yticks(range(len(names)), names)
    axes.set(xlabel="predicted", ylabel="true")
    axes.set_title(f"{confusion.sum():,} test images, {evaluation.accuracy:.2%} classified correctly")
    for (true, predicted), count in np.ndenumerate(confusion):
        colour = "white" if shares[true, predicted] > 0.5 else "black"  # noqa: PLR2004 - the colour map's middle
        axes.text(predicted, true, f"{count}" if count else "·", ha="center", va="center", color=colour, fontsize=9)
    _save(figure, path)


def draw_curves(history: Sequence[Epoch], path: Path) -> None:
    """Draw loss and accuracy over the epochs, on trained and on held-back images."""
    figure = Figure(figsize=(9, 3.8), layout="constrained")
    left, right = figure.subplots(1, 2)
    epochs = [epoch.epoch for epoch in history]
    _draw_pair(left, epochs, [e.loss for e in history], [e.validation_loss for e in history])
    left.set(ylabel="loss (with label smoothing)")
    accuracies = [100 * e.accuracy for e in history]
    _draw_pair(right, epochs, accuracies, [100 * e.validation_accuracy for e in history])
    right.set(ylabel="accuracy, %")
    _save(figure, path)


def _draw_pair(axes: Axes, epochs: list[int], trained: list[float], held_back: list[float]) -> None:
    axes.plot(epochs, trained, marker=".", label="training (augmented)")
    axes.plot(epochs, held_back, marker=".", label="validation")
    axes.set(xlabel="epoch")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.grid(alpha=0.3)
    axes.legend()


def _save(figure: Figure, path: Path) -> None:
    FigureCanvasAgg(figure)
    figure.savefig(path, dpi=_DPI, metadata={"Software": None})
