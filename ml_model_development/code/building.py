"""From images to a finished artifact."""

from __future__ import annotations

import csv
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import keras

from handoff.artifacts import digest_file, write_manifest
from handoff.contracts.manifest import Manifest
from ml_model_development.code.build_model_utils import describe_commit, list_packages
from ml_model_development.code.charts import draw_confusion, draw_curves
from ml_model_development.code.data_set import DataSet
from ml_model_development.code.evaluation import Evaluation, evaluate
from ml_model_development.code.export import (
    GRAPH_NAME,
    KERAS_NAME,
    check_agreement,
    classify_with_graph,
    export_graph,
    export_keras,
)
from ml_model_development.code.network import build_classifier, count_macs
from ml_model_development.code.progress import Progress
from ml_model_development.code.recipe import Recipe
from ml_model_development.code.training import EVALUATION_BATCH_SIZE, Epoch, Trainer, Training, hold_back

MODEL_NAME = "fashion-mnist-cnn"

Figures = Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class Built:
    """What a build gave."""

    accuracy: float
    """On the test split."""
    figures: Figures


def build_artifact(folder: Path, data_set: DataSet, recipe: Recipe, *, preset: str, seed: int) -> Built:
    """Train, export, evaluate and report into an empty folder; the manifest comes last.

    Raises: ArtifactInvalid: the exported graph does not agree with what was trained
    """
    started_s = time.perf_counter()
    commit = describe_commit()  # now, before somebody edits what is running
    training = train(data_set, recipe, seed=seed)
    classifier = build_classifier(training.scorer)
    export_keras(classifier, folder / KERAS_NAME)
    export_graph(classifier, folder / GRAPH_NAME)
    evaluation, difference = _evaluate_once(classifier, folder / GRAPH_NAME, data_set)
    figures = {
        "version": folder.name,
        "preset": preset,
        "seed": seed,
        "accuracy": evaluation.accuracy,
        "loss": evaluation.loss,
        **_sum_up(training),
        "seconds": round(time.perf_counter() - started_s, 1),
        "parameters": classifier.count_params(),
        "macs_per_image": count_macs(classifier),
        "images_compared": len(data_set.test),
        "largest_probability_difference": difference,
    }
    _report(folder, figures, evaluation, training.history)
    write_manifest(folder, _describe(folder, data_set, figures, commit=commit))
    return Built(accuracy=evaluation.accuracy, figures=figures)


def train(data_set: DataSet, recipe: Recipe, *, seed: int) -> Training:
    """Train on the training split less the images held back, showing progress."""
    kept, held_back = hold_back(data_set.train, recipe.validation_count, seed=seed)
    with Progress(epochs=recipe.epochs, image_count=len(kept)) as progress:
        trainer = Trainer(
            recipe=recipe,
            train=kept,
            validation=held_back,
            label_count=len(data_set.labels),
            seed=seed,
            on_step=progress.step,
            on_epoch=progress.epoch,
        )
        return trainer.run()


def _evaluate_once(classifier: keras.Model, graph: Path, data_set: DataSet) -> tuple[Evaluation, float]:
    """The only reading of the test split: what the reference says of it, and how far the graph is from that."""
    test = data_set.test
    reference = classifier.predict(test.images, batch_size=EVALUATION_BATCH_SIZE, verbose=0)
    difference = check_agreement(reference, classify_with_graph(graph, test.images))
    return evaluate(reference, test.labels, data_set.labels), difference


def _sum_up(training: Training) -> Figures:
    return {
        "validation_accuracy": training.best.validation_accuracy,
        "best_epoch": training.best.epoch,
        "epochs": len(training.history),
        "images_trained": training.images_trained,
        "training_seconds": round(sum(epoch.seconds for epoch in training.history), 1),
    }


def _report(folder: Path, figures: Figures, evaluation: Evaluation, history: Sequence[Epoch]) -> None:
    quality = {
        "labels": [asdict(label) for label in evaluation.labels],
        "confusion": evaluation.confusion.tolist(),
    }
    (folder / "metrics.json").write_text(_to_json({**figures, **quality}), encoding="utf-8")
    with (folder / "history.csv").open("w", newline="", encoding="utf-8") as file:
        rows = [asdict(epoch) for epoch in history]
        writer = csv.DictWriter(file, fieldnames=list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    draw_confusion(evaluation, folder / "confusion_matrix.png")
    draw_curves(history, folder / "curves.png")


def _to_json(figures: Figures) -> str:
    """Indented JSON with one line a row of the confusion matrix."""
    rows = [json.dumps(row) for row in figures["confusion"]]
    rest = json.dumps({**figures, "confusion": "ROWS"}, indent=2)
    return rest.replace('"ROWS"', "[\n    " + ",\n    ".join(rows) + "\n  ]") + "\n"


def _describe(folder: Path, data_set: DataSet, figures: Figures, *, commit: str) -> Manifest:
    height, width, channels = data_set.train.images.shape[1:]
    return Manifest(
        name=MODEL_NAME,
        version=folder.name,
        labels=list(data_set.labels),
        input_shape=(height, width, channels),
        files={name: digest_file(folder / name) for name in (KERAS_NAME, GRAPH_NAME)},
        graph=GRAPH_NAME,
        accuracy=figures["accuracy"],
        validation_accuracy=figures["validation_accuracy"],
        seed=figures["seed"],
        preset=figures["preset"],
        commit=commit,
        packages=list_packages(),
        created_at=datetime.now(UTC).isoformat(timespec="seconds"),
    )
