"""What an evaluation gave, and the forms in which it is told."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from classifiers.protocol import Probabilities
from handoff.artifacts import Artifact
from handoff.contracts.errors import SettingsInvalid
from handoff.contracts.images import default_image_ids
from handoff.contracts.predictions import encode_predictions
from ml_model_development.code.evaluation import Evaluation, to_figures
from ml_model_development.code.evaluation_text import confusion_lines, label_lines, summary_lines
from ml_model_development.code.history import read_history
from ml_model_development.code.labelled_images import LabelledImages
from ml_model_development.code.reproduction import Reproduction


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What was evaluated, how, and what came of it."""

    artifact: Artifact
    file: str
    """Which of the artifact's models was run."""
    runtime: str
    images: LabelledImages
    probabilities: Probabilities
    seconds: float
    evaluation: Evaluation
    reproduction: Reproduction | None

    @property
    def model(self) -> str:
        """The model and what ran it, for a heading."""
        manifest = self.artifact.manifest
        return f"{manifest.name}, version {manifest.version} ({self.file}, runtime {self.runtime})"


def show(outcome: Outcome) -> None:
    """Print the figures for people."""
    evaluation = outcome.evaluation
    click.echo(outcome.model)
    click.echo("\n".join(summary_lines(evaluation)))
    if outcome.reproduction is not None:
        click.echo(outcome.reproduction.sentence)
    for lines in (label_lines(evaluation), confusion_lines(evaluation)):
        click.echo("\n" + "\n".join(lines))
    if outcome.images.unreadable:
        click.echo("\nleft out, since they cannot be read:")
        click.echo("\n".join(_unreadable_lines(outcome)))


def describe_outcome(outcome: Outcome) -> dict[str, Any]:
    """The figures for programs."""
    manifest = outcome.artifact.manifest
    return {
        "model": manifest.name,
        "version": manifest.version,
        "runtime": outcome.runtime,
        "file": outcome.file,
        "source": outcome.images.source,
        "unreadable": _unreadable_lines(outcome),
        "reproduced": outcome.reproduction.reproduced if outcome.reproduction else None,
        "seconds": round(outcome.seconds, 3),
        **to_figures(outcome.evaluation),
    }


def write_predictions(path: Path, outcome: Outcome) -> None:
    """Write the probabilities of every image, as a worker writes them.

    Raises: SettingsInvalid: the file cannot be written
    """
    ids = default_image_ids(len(outcome.probabilities))
    content = encode_predictions(ids, outcome.probabilities, outcome.artifact.manifest.labels)
    try:
        path.write_bytes(content)
    except OSError as error:
        raise SettingsInvalid(
            f"The predictions cannot be written to {path} ({error.strerror}); name another."
        ) from error


def report_outcome(folder: Path, outcome: Outcome) -> Path:
    """Write the report with its pictures into a folder.

    Raises: SettingsInvalid: the folder cannot be written
    """
    from ml_model_development.code.report import Report, describe_model, write_report

    manifest = outcome.artifact.manifest
    evaluated = {
        "images": outcome.images.source,
        "runtime": outcome.runtime,
        "metrics.json": outcome.reproduction.sentence if outcome.reproduction else "is about other images",
    }
    report = Report(
        title=outcome.model,
        evaluation=outcome.evaluation,
        split=outcome.images.split,
        probabilities=outcome.probabilities,
        history=read_history(outcome.artifact.path),
        tables={"Model": describe_model(manifest), "Evaluation": evaluated},
        notes=[f"Left out: {line}" for line in _unreadable_lines(outcome)],
    )
    return write_report(folder, report)


def _unreadable_lines(outcome: Outcome) -> list[str]:
    return [f"{found.path} {found.reason}" for found in outcome.images.unreadable]
