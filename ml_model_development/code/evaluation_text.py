"""An evaluation as lines for a terminal."""

from __future__ import annotations

from typing import Final

from ml_model_development.code.evaluation import Evaluation, LabelQuality, most_confused

# More columns do not fit a terminal; the pairs most often confused are named instead.
_MOST_COLUMNS: Final = 16
_LONGEST_COLUMN: Final = 9


def summary_lines(evaluation: Evaluation) -> list[str]:
    """Accuracy with its count and interval, loss and calibration."""
    low, high = evaluation.accuracy_interval
    calibration = evaluation.calibration
    counted = f"{evaluation.right_count:,} of {evaluation.image_count:,}"
    bins = f"{len(calibration.bins)} bins, largest gap {calibration.largest_gap:.4f}"
    return [
        f"{100 * evaluation.accuracy:.2f} % ({counted}) right, 95 % interval {100 * low:.2f} to {100 * high:.2f} %",
        f"loss {evaluation.loss:.4f}, ECE {calibration.ece:.4f} ({bins}), Brier score {calibration.brier:.4f}",
    ]


def label_lines(evaluation: Evaluation) -> list[str]:
    """A table of precision, recall and F1, a row a label and one for their average."""
    rows: list[tuple[str, ...]] = [("label", "precision", "recall", "F1", "images")]
    rows += [_label_row(found) for found in (*evaluation.labels, evaluation.average)]
    width = max(len(label) for label, *_ in rows)
    return [f"{label:<{width}}" + "".join(f"{cell:>11}" for cell in cells) for label, *cells in rows]


def confusion_lines(evaluation: Evaluation) -> list[str]:
    """The confusion matrix; with many labels the pairs most often confused."""
    names = [found.label for found in evaluation.labels]
    if len(names) > _MOST_COLUMNS:
        pairs = [f"{found.count:>7,}  {found.true} taken for {found.predicted}" for found in most_confused(evaluation)]
        return ["most often confused:", *pairs] if pairs else ["no image was classified wrongly"]
    rows = [["true \\ predicted", *map(_shorten, names)]]
    rows += [
        [name, *(f"{count}" if count else "." for count in counts)]
        for name, counts in zip(names, evaluation.confusion.tolist(), strict=True)
    ]
    first, *widths = (max(map(len, column)) for column in zip(*rows, strict=True))
    return [
        f"{name:<{first}}" + "".join(f"  {cell:>{width}}" for cell, width in zip(cells, widths, strict=True))
        for name, *cells in rows
    ]


def _label_row(found: LabelQuality) -> tuple[str, ...]:
    shares = (found.precision, found.recall, found.f1)
    return (found.label, *(f"{share:.4f}" if found.support else "-" for share in shares), f"{found.support:,}")


def _shorten(name: str) -> str:
    return name if len(name) <= _LONGEST_COLUMN else f"{name[: _LONGEST_COLUMN - 1]}…"
