"""Evaluate an artifact on labelled images: how often it is right, where it errs, and whether it knows.

python ml_model_development/code/evaluate_model.py ml_model_development/artifacts/1
"""

from __future__ import annotations

import os
import sys
import time
from contextlib import suppress
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Final

if __package__ in {None, ""}:  # run as a script: the packages lie beside this folder
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import click
import msgspec

from classifiers.loading import LOCAL_RUNTIMES, REFERENCE_NAME, choose_runtime, load_classifiers
from classifiers.protocol import Classifier
from handoff.artifacts import Artifact, read_artifact
from handoff.console import Command, json_option, print_json
from handoff.contracts.errors import SettingsInvalid
from handoff.progress import Progress
from ml_model_development.code.build_model_utils import DATA_OPTION, find_artifact, quiet_import
from ml_model_development.code.classification import classify_all, warm_up
from ml_model_development.code.data_options import reading_options
from ml_model_development.code.evaluation import evaluate
from ml_model_development.code.evaluation_images import EvaluationImages, read_images, read_test_split
from ml_model_development.code.label_ids import read_label_names
from ml_model_development.code.outcome import (
    Outcome,
    describe_outcome,
    report_outcome,
    show,
    write_predictions,
)
from ml_model_development.code.reproduction import compare

# It runs what was trained, not a graph made from it.
_REFERENCE_RUNTIME: Final = "keras"


@dataclass(frozen=True, kw_only=True)
class Options:
    """What the command line says."""

    artifact: str
    images: Path | None
    labels: Path | None
    label_names: str | None
    label_column: str
    size: tuple[int, int] | None
    max_unreadable: float
    data: Path | None
    runtime: str
    graph: str | None
    threads: int | None
    report: Path | None
    predictions: Path | None
    as_json: bool


@click.command("evaluate", cls=Command)
@click.argument("artifact")
@click.argument("images", type=click.Path(path_type=Path), required=False)
@click.option("--labels", type=click.Path(path_type=Path), help="File of their labels, where they are apart.")
@reading_options
@DATA_OPTION
@click.option(
    "--runtime",
    type=click.Choice(["auto", *LOCAL_RUNTIMES]),
    default="auto",
    show_default=True,
    help="What runs the model.",
)
@click.option("--graph", metavar="FILE", help="Another of the artifact's graphs than the one that is served.")
@click.option("--threads", type=click.IntRange(min=1), show_default="one a core", help="To classify with.")
@click.option(
    "--report",
    type=click.Path(file_okay=False, path_type=Path),
    metavar="DIR",
    help="Write a page with pictures there.",
)
@click.option(
    "--predictions", type=click.Path(dir_okay=False, path_type=Path), metavar="FILE", help="Write a CSV of them there."
)
@json_option
def command(**options: object) -> None:
    """Evaluate a model on labelled images: accuracy, precision, recall and F1 of each label, calibration, confusion.

    \b
    ARTIFACT  the folder of a model, or a version in ml_model_development/artifacts
    IMAGES    labelled images as `fashion train` takes them; left out: Fashion-MNIST's test split
    """  # noqa: D301 - click's mark for lines that stay as they are
    run(Options(**options))  # type: ignore[arg-type] # click has seen to the types


def run(options: Options) -> None:
    """Evaluate and tell.

    Raises: ArtifactInvalid, DataSetUnavailable, SettingsInvalid, MissingPackage
    """
    artifact = _choose_graph(read_artifact(find_artifact(options.artifact)), options)
    chosen = _read(artifact, options)
    click.echo(f"{len(chosen.found.split):,} images from {chosen.found.source}", err=True)
    outcome = _evaluate(artifact, chosen, options)
    if options.predictions is not None:
        write_predictions(options.predictions, outcome)
    show(outcome)
    if options.report is not None:
        click.echo(f"\nreport: {report_outcome(options.report, outcome)}")
    if options.as_json:
        print_json(describe_outcome(outcome))


def _choose_graph(artifact: Artifact, options: Options) -> Artifact:
    if options.graph is None:
        return artifact
    if options.runtime == _REFERENCE_RUNTIME:
        raise SettingsInvalid(
            f"Keras runs {REFERENCE_NAME}, not a graph; leave out --graph, or choose another --runtime."
        )
    graphs = [name for name in artifact.manifest.files if name != REFERENCE_NAME]
    if options.graph not in graphs:
        raise SettingsInvalid(f"{artifact.path} has no graph {options.graph!r}; it has {', '.join(graphs)}.")
    return Artifact(artifact.path, msgspec.structs.replace(artifact.manifest, graph=options.graph))


def _read(artifact: Artifact, options: Options) -> EvaluationImages:
    if options.images is not None:
        return read_images(
            artifact.manifest,
            options.images,
            options.labels,
            label_names=None if options.label_names is None else read_label_names(options.label_names),
            label_column=options.label_column,
            size=options.size,
            max_unreadable=options.max_unreadable,
        )
    if options.labels is not None:
        raise click.UsageError("--labels needs the IMAGES that they are of.")
    return read_test_split(artifact.manifest, options.data)


def _evaluate(artifact: Artifact, chosen: EvaluationImages, options: Options) -> Outcome:
    runtime = choose_runtime() if options.runtime == "auto" else options.runtime
    classifiers = _load(artifact, runtime, options.threads or len(os.sched_getaffinity(0)))
    labels, split = artifact.manifest.labels, chosen.found.split
    warm_up(classifiers, len(split))
    started_s = time.perf_counter()
    with Progress("classify", total=len(split), unit="images") as progress:
        probabilities = classify_all(classifiers, split.images, on_classified=progress.advance)
    seconds = time.perf_counter() - started_s
    evaluation = evaluate(probabilities, split.labels, labels)
    file = REFERENCE_NAME if runtime == _REFERENCE_RUNTIME else artifact.manifest.graph
    return Outcome(
        artifact=artifact,
        file=file,
        runtime=runtime,
        images=chosen.found,
        probabilities=probabilities,
        seconds=seconds,
        evaluation=evaluation,
        reproduction=compare(artifact.path, evaluation, split, file=file, usual=chosen.published),
    )


def _load(artifact: Artifact, runtime: str, threads: int) -> list[Classifier]:
    with suppress(ImportError), quiet_import():  # a package that is missing is named by what follows
        import_module(LOCAL_RUNTIMES[runtime])
    return load_classifiers(artifact, runtime=runtime, threads=threads)


if __name__ == "__main__":
    command()
