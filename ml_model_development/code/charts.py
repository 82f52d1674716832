"""The pictures of a training and of an evaluation."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import PowerNorm
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter, StrMethodFormatter
from numpy.typing import NDArray

from ml_model_development.code.calibration import Bin, wilson_interval
from ml_model_development.code.evaluation import Evaluation, most_wrong
from ml_model_development.code.history import Epoch

# Colours that colour-blind readers tell apart: Okabe and Ito, "Color Universal Design", 2008.
BLUE: Final = "#0072B2"
LIGHT_BLUE: Final = "#56B4E9"
ORANGE: Final = "#D55E00"
_DPI: Final = 110
# Up to so many labels a cell of the confusion matrix has room for its number, up to so many a row for its name.
_MOST_NUMBERED: Final = 30
_MOST_NAMED: Final = 150
# The sheet of the most confidently wrong images: so many a row and a column, each so wide, each line so high.
SHEET_SIDE: Final = 6
_CELL_INCHES: Final = 2.0
_LINE_INCHES: Final = 0.2
_LABEL_WIDTH: Final = 22
# What stands in a label is text, also a dollar sign.
_PLAIN: Final[dict[Any, Any]] = {"text.parse_math": False}


def draw_confusion(evaluation: Evaluation, path: Path) -> None:
    """Draw how many images of each label were given which label; from 31 labels on as colours alone."""
    confusion, count = evaluation.confusion, len(evaluation.labels)
    shares = confusion / np.maximum(confusion.sum(axis=1, keepdims=True), 1)
    side = min(4.0 + 0.45 * count, 15.0)
    figure = Figure(figsize=(side + 0.8, side), layout="constrained")
    # A square root lifts rare errors out of the background.
    norm = PowerNorm(0.5, vmin=0, vmax=1)
    with mpl.rc_context(_PLAIN):
        axes = figure.subplots()
        picture = axes.imshow(shares, cmap="Blues", norm=norm, interpolation="nearest")
        _name_sides(axes, [quality.label for quality in evaluation.labels])
        axes.set_title(f"{evaluation.image_count:,} images, {100 * evaluation.accuracy:.2f} % right")
        if count <= _MOST_NUMBERED:
            _number_cells(axes, confusion, norm(shares))
        else:
            bar = figure.colorbar(picture, ax=axes, shrink=0.7, format=PercentFormatter(1))
            bar.set_label("share of the true label's images")
        _save(figure, path)


def draw_curves(history: Sequence[Epoch], path: Path) -> None:
    """Draw loss and accuracy over the epochs, on trained and on held-back images."""
    figure = Figure(figsize=(9, 3.8), layout="constrained")
    left, right = figure.subplots(1, 2)
    epochs = [epoch.epoch for epoch in history]
    _draw_pair(left, epochs, [e.loss for e in history], [e.validation_loss for e in history])
    left.set(ylabel="loss")
    accuracies = [100 * e.accuracy for e in history]
    _draw_pair(right, epochs, accuracies, [100 * e.validation_accuracy for e in history])
    right.set(ylabel="accuracy, %")
    _save(figure, path)


def draw_reliability(evaluation: Evaluation, path: Path) -> None:
    """Draw accuracy against confidence, the gap between them, and how many images each bin holds."""
    calibration = evaluation.calibration
    filled = [found for found in calibration.bins if found.count]
    figure = Figure(figsize=(6.4, 6.8), layout="constrained")
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    _draw_bins(above, filled)
    above.plot([0, 1], [0, 1], linestyle="--", color="0.2", linewidth=1, label="as often right as it says")
    above.set(ylabel="accuracy", xlim=(0, 1), ylim=(0, 1.02))
    above.set_title(f"ECE {calibration.ece:.4f}, {len(calibration.bins)} bins, {evaluation.image_count:,} images")
    figure.legend(loc="outside lower center", ncols=3, fontsize=9)
    lefts, widths = _edges(filled)
    below.bar(lefts, [found.count for found in filled], widths, align="edge", color="0.6", edgecolor="white")
    below.set(xlabel="confidence: the probability of the best label", ylabel="images", yscale="log")
    below.set_ylim(bottom=0.7)
    below.yaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
    for axes in (above, below):
        axes.grid(alpha=0.3)
        axes.set_axisbelow(True)
    _save(figure, path)


def draw_most_wrong(
    images: NDArray[np.uint8],
    truth: NDArray[np.int64],
    probabilities: NDArray[np.float32],
    labels: Sequence[str],
    path: Path,
) -> None:
    """Draw the 36 images whose wrong label was given the highest probability, that one first.

    Shapes: images uint8 (N, H, W, C), truth (N,), probabilities (N, K)
    """
    places = most_wrong(probabilities, truth, count=SHEET_SIDE**2)
    captions = [_caption(labels, truth[place], probabilities[place], place) for place in places]
    rows = max(1, -(-len(places) // SHEET_SIDE))
    lines = max((caption.count("\n") + 1 for caption in captions), default=0)
    picture_inches = _CELL_INCHES * min(3.0, images.shape[1] / images.shape[2])
    height = rows * (picture_inches + lines * _LINE_INCHES + 0.1)
    figure = Figure(figsize=(SHEET_SIDE * (_CELL_INCHES + 0.1), max(1.0, height)), layout="constrained")
    with mpl.rc_context(_PLAIN):
        cells = figure.subplots(rows, SHEET_SIDE, squeeze=False).ravel()
        for cell in cells:
            cell.axis("off")
        if not captions:
            figure.suptitle("No image was classified wrongly.")
        for cell, place, caption in zip(cells, places, captions, strict=False):
            _show_image(cell, images[place])
            cell.set_title(caption, fontsize=10)
        _save(figure, path)


def _draw_pair(axes: Axes, epochs: list[int], trained: list[float], held_back: list[float]) -> None:
    axes.plot(epochs, trained, marker=".", color=BLUE, label="training (augmented)")
    axes.plot(epochs, held_back, marker="x", color=ORANGE, linestyle="--", label="validation")
    axes.set(xlabel="epoch")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    axes.grid(alpha=0.3)
    axes.legend()


def _name_sides(axes: Axes, names: list[str]) -> None:
    """Name each row and column, smaller the more there are; beyond some number the ids must do."""
    axes.set(xlabel="predicted", ylabel="true")
    if len(names) > _MOST_NAMED:
        return
    size = min(10.0, 900 / (len(names) + 30) / 1.2)
    shown = [_wrap(name) for name in names]
    axes.set_xticks(range(len(names)), shown, rotation=90 if len(names) > _MOST_NUMBERED else 45, fontsize=size)
    axes.set_yticks(range(len(names)), shown, fontsize=size)
    if len(names) <= _MOST_NUMBERED:
        for label in axes.get_xticklabels():
            label.set(ha="right", rotation_mode="anchor")


def _number_cells(axes: Axes, confusion: NDArray[np.int64], darkness: NDArray[np.float64]) -> None:
    for (true, predicted), count in np.ndenumerate(confusion):
        colour = "white" if darkness[true, predicted] > 0.55 else "black"  # noqa: PLR2004 - the colour map's middle
        axes.text(predicted, true, f"{count}" if count else "·", ha="center", va="center", color=colour, fontsize=9)


def _draw_bins(axes: Axes, filled: list[Bin]) -> None:
    """Draw accuracy as bars with their 95 % intervals, and from each to its confidence the gap."""
    lefts, widths = _edges(filled)
    accuracies = np.array([found.accuracy for found in filled])
    axes.bar(
        lefts, accuracies, widths, align="edge", color=LIGHT_BLUE, edgecolor="white", label="accuracy, 95 % interval"
    )
    gaps = [found.gap for found in filled]
    (*hatched,) = axes.bar(lefts, gaps, widths, bottom=accuracies, align="edge", label="gap to the confidence")
    for bar in hatched:
        bar.set(facecolor=f"{ORANGE}30", edgecolor=ORANGE, hatch="////", linewidth=0.8)
    intervals = np.array([wilson_interval(found.right_count, found.count) for found in filled]).T
    errors = np.abs(intervals - accuracies)
    middles = np.array(lefts) + np.array(widths) / 2
    axes.errorbar(middles, accuracies, yerr=errors, fmt="none", ecolor="black", elinewidth=1, capsize=2)


def _edges(bins: list[Bin]) -> tuple[list[float], list[float]]:
    return [found.low for found in bins], [found.high - found.low for found in bins]


def _caption(labels: Sequence[str], true: int, probabilities: NDArray[np.float32], place: int) -> str:
    predicted = int(probabilities.argmax())
    said = f"{100 * probabilities[predicted]:.1f} %"
    return f"{_wrap(labels[true])} →\n{_wrap(labels[predicted])}\n{said} (no. {place})"


def _show_image(axes: Axes, image: NDArray[np.uint8]) -> None:
    if image.shape[-1] >= 3:  # noqa: PLR2004 - red, green and blue; more cannot be shown
        axes.imshow(image[..., :3], interpolation="nearest")
    else:
        axes.imshow(image[..., 0], cmap="gray", vmin=0, vmax=255, interpolation="nearest")


def _wrap(label: str) -> str:
    """Break a long label over lines, so that all of it is seen."""
    return textwrap.fill(label, _LABEL_WIDTH)


def _save(figure: Figure, path: Path) -> None:
    FigureCanvasAgg(figure)
    # "tight" grows the picture where a label reaches over its edge.
    figure.savefig(path, dpi=_DPI, bbox_inches="tight", pad_inches=0.1, metadata={"Software": None})
