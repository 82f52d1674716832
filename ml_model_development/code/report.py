"""The report of a training or an evaluation: one HTML page, and its pictures as files beside it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from handoff.contracts.errors import SettingsInvalid
from handoff.contracts.manifest import Manifest
from ml_model_development.code.charts import (
    draw_confusion,
    draw_curves,
    draw_most_wrong,
    draw_reliability,
)
from ml_model_development.code.data_set import Split
from ml_model_development.code.evaluation import Evaluation, LabelQuality, most_confused
from ml_model_development.code.history import Epoch
from ml_model_development.code.report_page import (
    PAGE,
    STYLE,
    bar_cell,
    facts_table,
    lines_list,
    percent,
    picture,
    section,
)

PAGE_NAME = "report.html"
CURVES_NAME = "curves.png"
CONFUSION_NAME = "confusion_matrix.png"
RELIABILITY_NAME = "reliability.png"
MOST_WRONG_NAME = "most_wrong.png"
_PAIR_COUNT = 8


@dataclass(frozen=True, kw_only=True)
class Report:
    """What a report tells.

    Shapes: probabilities (N, K), of the images of `split`
    """

    title: str
    evaluation: Evaluation
    split: Split
    """The images that were classified, with their true labels."""
    probabilities: NDArray[np.float32]
    history: Sequence[Epoch] = ()
    """The epochs of the training, where known."""
    tables: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    """Further tables by title: what each row is called and what it says, such as speed and size."""
    balance: Mapping[str, int] = field(default_factory=dict)
    """How many images of each label it was trained on, where known."""
    notes: Sequence[str] = ()
    """What there is to know of the images, a line each, such as those that were left out."""


def write_report(folder: Path, report: Report) -> Path:
    """Write `report.html` and its pictures into a folder, made where it is missing; the page holds the pictures too.

    Raises: SettingsInvalid: the folder cannot be written
    """
    labels = [quality.label for quality in report.evaluation.labels]
    split = report.split
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if report.history:
            draw_curves(report.history, folder / CURVES_NAME)
        draw_confusion(report.evaluation, folder / CONFUSION_NAME)
        draw_reliability(report.evaluation, folder / RELIABILITY_NAME)
        draw_most_wrong(split.images, split.labels, report.probabilities, labels, folder / MOST_WRONG_NAME)
        page = folder / PAGE_NAME
        page.write_text(_fill_page(folder, report), encoding="utf-8")
    except OSError as error:
        raise SettingsInvalid(f"The report cannot be written to {folder} ({error.strerror}); name another.") from error
    return page


def describe_model(manifest: Manifest) -> dict[str, str]:
    """What a report's table says of a model: where it comes from and what it takes."""
    height, width, channels = manifest.input_shape
    return {
        "model": f"{manifest.name}, version {manifest.version}",
        "trained": manifest.created_at,
        "preset": manifest.preset,
        "seed": str(manifest.seed),
        "commit": manifest.commit,
        "images": f"{height} x {width} pixels, {channels} {'channel' if channels == 1 else 'channels'}",
        "labels": str(len(manifest.labels)),
        "validation accuracy": percent(manifest.validation_accuracy),
        "packages": ", ".join(f"{name} {version}" for name, version in manifest.packages.items()),
    }


def _fill_page(folder: Path, report: Report) -> str:
    evaluation = report.evaluation
    sections = [
        _headline(evaluation),
        *(section(title, facts_table(facts)) for title, facts in report.tables.items() if facts),
        section("Labels", _label_table(evaluation)),
        _curves(folder) if report.history else "",
        _confusion(folder, evaluation),
        _reliability(folder, evaluation),
        _most_wrong(folder),
        section("Training images of each label", _balance_table(report.balance)) if report.balance else "",
        section("About the images", lines_list(report.notes)) if report.notes else "",
    ]
    return PAGE.substitute(title=escape(report.title), style=STYLE, body="\n".join(filter(None, sections)))


def _headline(evaluation: Evaluation) -> str:
    low, high = evaluation.accuracy_interval
    counted = f"{evaluation.right_count:,} of {evaluation.image_count:,} images"
    figures = [
        (percent(evaluation.accuracy), f"accuracy: {counted}; 95 % interval {100 * low:.2f} to {percent(high)}"),
        (f"{evaluation.average.f1:.4f}", "macro F1: the average over the labels"),
        (f"{evaluation.loss:.4f}", "loss: mean cross-entropy, in nats"),
        (f"{evaluation.calibration.ece:.4f}", "ECE: the mean gap between confidence and accuracy"),
    ]
    cards = "".join(f"<div><b>{figure}</b><span>{meaning}</span></div>" for figure, meaning in figures)
    return f'<div class="headline">{cards}</div>'


def _label_table(evaluation: Evaluation) -> str:
    head = "".join(f'<th scope="col" class="number">{name}</th>' for name in ("precision", "recall", "F1", "images"))
    rows = [_label_row(quality) for quality in evaluation.labels]
    average = _label_row(evaluation.average).replace("<tr>", '<tr class="average">')
    note = (
        "<p>Precision: of the images given this label, the share that has it. Recall: of the images that have it, the"
        " share that was given it. F1: their harmonic mean, drawn as a bar. The average counts each label the same.</p>"
    )
    body = f'<tr><th scope="col">label</th>{head}<th></th></tr>\n{"".join(rows)}{average}'
    table = f'<table class="by-label">\n{body}</table>'
    return f'{note}\n<div class="wide">{table}</div>'


def _label_row(quality: LabelQuality) -> str:
    shares = (quality.precision, quality.recall, quality.f1)
    numbers = [percent(share) if quality.support else "–" for share in shares]  # noqa: RUF001 - a dash: not known
    cells = "".join(f'<td class="number">{number}</td>' for number in (*numbers, f"{quality.support:,}"))
    return f'<tr><th scope="row">{escape(quality.label)}</th>{cells}{bar_cell(quality.f1)}</tr>\n'


def _balance_table(balance: Mapping[str, int]) -> str:
    most = max(1, *balance.values())
    rows = "".join(
        f'<tr><th scope="row">{escape(label)}</th><td class="number">{count:,}</td>{bar_cell(count / most)}</tr>\n'
        for label, count in balance.items()
    )
    return f"<p>A label with few images is learned worse than one with many.</p>\n<table>\n{rows}</table>"


def _curves(folder: Path) -> str:
    return picture(
        "Training",
        folder / CURVES_NAME,
        alt="Two line charts over the epochs: loss, and accuracy, each on training and on validation images.",
        how="Training and validation should both still improve or level off; where only validation gets worse, the"
        " network learns its images by heart. Training images are altered and scored while the weights change, so"
        " their figures may be the worse ones.",
        least="36rem",
    )


def _confusion(folder: Path, evaluation: Evaluation) -> str:
    pairs = most_confused(evaluation, count=_PAIR_COUNT)
    named = "; ".join(f"{pair.true} taken for {pair.predicted}: {pair.count:,}" for pair in pairs)
    return picture(
        "Confusion matrix",
        folder / CONFUSION_NAME,
        alt=f"A grid of true labels against predicted ones; {percent(evaluation.accuracy)} lie on the diagonal.",
        how="A row holds the images of one label, a column those that were given one; what is off the diagonal is"
        " wrong, the darker the larger the share of its row." + (f" Most often: {named}." if pairs else ""),
        least="32rem" if len(evaluation.labels) <= 30 else "60rem",  # noqa: PLR2004 - what fits a phone held sideways
    )


def _reliability(folder: Path, evaluation: Evaluation) -> str:
    calibration = evaluation.calibration
    return picture(
        "Reliability",
        folder / RELIABILITY_NAME,
        alt=f"A bar chart of accuracy against confidence; the mean gap is {calibration.ece:.4f}.",
        how="Images are sorted by the probability of the label they were given; bars over the dashed line are right"
        " more often than they say, bars under it less often. Bins of few images, see below, say little."
        f" The largest gap of a bin is {calibration.largest_gap:.3f}, the Brier score {calibration.brier:.4f}.",
        least="20rem",
    )


def _most_wrong(folder: Path) -> str:
    return picture(
        "Most confidently wrong",
        folder / MOST_WRONG_NAME,
        alt="A sheet of up to 36 wrongly classified images with their true and their predicted label.",
        how="The true label, the predicted one with its probability, and the image's place in the test split from 0;"
        " look for labels that are themselves wrong, and for what the model cannot see.",
        least="56rem",
    )
