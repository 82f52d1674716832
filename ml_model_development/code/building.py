"""From a trained model to a finished artifact."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from classifiers.protocol import Probabilities
from handoff.artifacts import Artifact, digest_file, digest_folder, write_manifest
from handoff.contracts.manifest import SAVED_MODEL_NAME, Manifest
from ml_model_development.code.balance import describe_balance
from ml_model_development.code.build_model_utils import list_packages
from ml_model_development.code.data_set import Split
from ml_model_development.code.evaluation import evaluate, to_figures
from ml_model_development.code.export import (
    GRAPH_NAME,
    KERAS_NAME,
    check_agreement,
    classify_with_graph,
    export_graph,
    export_keras,
)
from ml_model_development.code.history import Training, write_history
from ml_model_development.code.models import count_macs
from ml_model_development.code.quantisation import CALIBRATION_COUNT, INT8_NAME, measure_quantisation, quantise_graph
from ml_model_development.code.report import Report, describe_model, write_report
from ml_model_development.code.reproduction import METRICS_NAME, TEST_DIGEST, digest_split
from ml_model_development.code.saved_model import export_saved_model
from ml_model_development.code.serving_versions import serving_version
from ml_model_development.code.training import EVALUATION_BATCH_SIZE

Figures = Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class Trained:
    """A model fresh from training, with all that its artifact tells."""

    model: keras.Model
    labels: tuple[str, ...]
    training: Training
    temperature: float
    """What the scores were divided by, so that probabilities mean what they say."""
    train: Split
    validation: Split
    preset: str
    seed: int
    commit: str
    started_s: float


def write_artifact(folder: Path, trained: Trained, test: Split, *, name: str, notes: Sequence[str] = ()) -> Artifact:
    """Export, choose the graph to serve, test, and report into an empty folder; the manifest comes last.

    Which graph is served is chosen on the validation images; the test images are classified once, after that.

    Raises: ArtifactInvalid: an exported graph does not agree with what was trained
    """
    validated = _export(folder, trained)
    graph = _choose_graph(validated, trained.validation.labels)
    tested = _classify(folder, trained, test.images)  # the only reading of the test split
    evaluation = evaluate(tested[graph], test.labels, trained.labels)
    manifest = _describe(folder, trained, name=name, graph=graph, accuracy=evaluation.accuracy)
    figures = {
        "version": folder.name,
        "preset": trained.preset,
        "seed": trained.seed,
        "graph": graph,
        **_sum_up(trained),
        TEST_DIGEST: digest_split(test),
        "graphs": {name: _compare(tested, validated, name, trained, test) for name in tested},
        **to_figures(evaluation),
    }
    (folder / METRICS_NAME).write_text(_to_json(figures), encoding="utf-8")
    write_history(folder, trained.training.history)
    report = Report(
        title=f"{name} {folder.name}",
        evaluation=evaluation,
        split=test,
        probabilities=tested[graph],
        history=trained.training.history,
        tables={"Model": describe_model(manifest), "Size": _describe_size(folder, trained)},
        balance=describe_balance(trained.train.labels, trained.labels).counts,
        notes=notes,
    )
    write_report(folder, report)
    write_manifest(folder, manifest)
    return Artifact(folder, manifest)


def _export(folder: Path, trained: Trained) -> dict[str, Probabilities]:
    """Write the forms of the model; what each that is served in process says of the validation images.

    Raises: ArtifactInvalid: the float graph or the SavedModel does not agree with the reference
    """
    export_keras(trained.model, folder / KERAS_NAME)
    export_graph(trained.model, folder / GRAPH_NAME)
    step = max(1, len(trained.train) // CALIBRATION_COUNT)
    quantise_graph(folder / GRAPH_NAME, folder / INT8_NAME, trained.train.images[::step])
    validated = _classify(folder, trained, trained.validation.images)
    check_agreement(validated[KERAS_NAME], validated[GRAPH_NAME])
    # The folder is the artifact's own, so any number will do where its name is none.
    export_saved_model(trained.model, folder / SAVED_MODEL_NAME, version=serving_version(folder.name) or 1)
    return validated


def _choose_graph(validated: Mapping[str, Probabilities], truth: NDArray[np.int64]) -> str:
    cost = measure_quantisation(validated[GRAPH_NAME], validated[INT8_NAME], truth)
    return INT8_NAME if cost.worth_serving else GRAPH_NAME


def _classify(folder: Path, trained: Trained, images: NDArray[np.uint8]) -> dict[str, Probabilities]:
    """What each form of the model says of images."""
    reference = trained.model.predict(images, batch_size=EVALUATION_BATCH_SIZE, verbose=0)
    graphs = {name: classify_with_graph(folder / name, images) for name in (GRAPH_NAME, INT8_NAME)}
    return {KERAS_NAME: reference, **graphs}


def _compare(
    tested: Mapping[str, Probabilities],
    validated: Mapping[str, Probabilities],
    name: str,
    trained: Trained,
    test: Split,
) -> Figures:
    answers = tested[name]
    cost = measure_quantisation(tested[KERAS_NAME], answers, test.labels)
    return {
        "accuracy": float((answers.argmax(axis=1) == test.labels).mean()),
        "validation_accuracy": float((validated[name].argmax(axis=1) == trained.validation.labels).mean()),
        "labels_unlike_reference": cost.labels_changed,
        "largest_probability_difference": cost.largest_difference,
        "mean_probability_difference": cost.mean_difference,
    }


def _sum_up(trained: Trained) -> Figures:
    training = trained.training
    return {
        "validation_accuracy": training.best.validation_accuracy,
        "best_epoch": training.best.epoch,
        "epochs": len(training.history),
        "images_trained": training.images_trained,
        "temperature": trained.temperature,
        "training_seconds": round(sum(epoch.seconds for epoch in training.history), 1),
        "seconds": round(time.perf_counter() - trained.started_s, 1),
        "parameters": trained.model.count_params(),
        "macs_per_image": count_macs(trained.model),
    }


def _describe_size(folder: Path, trained: Trained) -> dict[str, str]:
    sizes = {name: f"{(folder / name).stat().st_size / 1e6:.2f} MB" for name in (KERAS_NAME, GRAPH_NAME, INT8_NAME)}
    return {
        "parameters": f"{trained.model.count_params():,}",
        "multiply-accumulates an image": f"{count_macs(trained.model) / 1e6:.1f} million",
        **sizes,
    }


def _to_json(figures: Figures) -> str:
    """Indented JSON with one line a row of the confusion matrix."""
    rows = [json.dumps(row) for row in figures["confusion"]]
    rest = json.dumps({**figures, "confusion": "ROWS"}, indent=2)
    return rest.replace('"ROWS"', "[\n    " + ",\n    ".join(rows) + "\n  ]") + "\n"


def _describe(folder: Path, trained: Trained, *, name: str, graph: str, accuracy: float) -> Manifest:
    height, width, channels = trained.train.images.shape[1:]
    return Manifest(
        name=name,
        version=folder.name,
        labels=list(trained.labels),
        input_shape=(height, width, channels),
        files={file: digest_file(folder / file) for file in (KERAS_NAME, GRAPH_NAME, INT8_NAME)},
        saved_model=digest_folder(folder, SAVED_MODEL_NAME),
        graph=graph,
        accuracy=accuracy,
        validation_accuracy=trained.training.best.validation_accuracy,
        seed=trained.seed,
        preset=trained.preset,
        commit=trained.commit,
        packages=list_packages(),
        created_at=datetime.now(UTC).isoformat(timespec="seconds"),
    )
