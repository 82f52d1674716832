"""The trainer: its parts on small figures, and a whole tiny training that is exported and read back."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from classifiers.loading import load_model
from handoff.artifacts import Artifact, read_artifact
from handoff.contracts.errors import ArtifactInvalid, ExitCode
from ml_model_development.code.build_model import command
from ml_model_development.code.build_model_utils import describe_commit, list_packages, new_version_folder
from ml_model_development.code.data_set import DataSet, Split
from ml_model_development.code.recipe import PRESETS, Recipe

ROOT = Path(__file__).parents[2]
LABELS = ("dark", "light", "striped")
TINY = Recipe(entry=8, stem=16, stages=((16, 1), (16, 0)), epochs=4, batch_size=20, least_steps=1, validation_count=24)


def test_versions_are_numbered_on_and_failures_leave_nothing(tmp_path: Path) -> None:
    """The next number follows the highest; a build that fails takes its folder with it."""
    (tmp_path / "7").mkdir()
    (tmp_path / "notes").mkdir()
    with new_version_folder(tmp_path) as folder:
        (folder / "model.keras").touch()
    assert folder.name == "8"
    with pytest.raises(ArtifactInvalid), new_version_folder(tmp_path) as failed:
        raise ArtifactInvalid("the graph disagrees")
    assert failed.name == "9"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["7", "8", "notes"]


def test_provenance_is_told_where_it_is_known(tmp_path: Path) -> None:
    """Outside a checkout the commit is unknown; a package that is not installed is left out."""
    assert describe_commit(tmp_path) == "unknown"
    assert list(list_packages(("numpy", "no-such-package-here"))) == ["numpy"]


def test_the_presets_hold_back_images_to_choose_by() -> None:
    """No preset chooses its weights on the test split."""
    assert {"quick", "standard"} <= set(PRESETS)
    assert all(recipe.validation_count >= 1_000 for recipe in PRESETS.values())


def test_a_missing_data_set_is_told_before_tensorflow_is_imported(tmp_path: Path) -> None:
    """A wrong --data ends with its exit code and leaves no version folder."""
    arguments = ["--data", str(tmp_path), "--output", str(tmp_path / "artifacts")]
    result = CliRunner().invoke(command, arguments)
    assert result.exit_code == ExitCode.DATA_SET_UNAVAILABLE
    assert not (tmp_path / "artifacts").exists()


def test_the_script_runs_from_anywhere_and_ends_with_its_exit_code(tmp_path: Path) -> None:
    """Run by path from another folder it finds the packages, and an expected failure is one sentence."""
    script = ROOT / "ml_model_development" / "code" / "build_model.py"
    ended = subprocess.run(
        [sys.executable, script, "--data", tmp_path], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert ended.returncode == ExitCode.DATA_SET_UNAVAILABLE
    assert ended.stderr.startswith("Error: ")
    assert len(ended.stderr.splitlines()) == 1


def _draw_images(count: int, seed: int) -> Split:
    """Dark, light and striped images with noise: three labels that a tiny network can tell."""
    generator = np.random.default_rng(seed)
    labels = generator.integers(0, 3, count)
    images = generator.integers(0, 40, (count, 28, 28, 1))
    images[labels == 1] += 180
    images[labels == 2, ::2] += 180
    return Split(images.astype(np.uint8), labels)


@pytest.fixture(scope="module")
def data_set() -> DataSet:
    """A made-up data set of three labels."""
    return DataSet(_draw_images(240, 1), _draw_images(60, 2), "made up", LABELS)


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory, data_set: DataSet) -> Artifact:
    """The artifact of a tiny training."""
    pytest.importorskip("tensorflow", reason="the trainer's packages are not installed")
    from ml_model_development.code.image_classifier import ImageClassifier

    classifier = ImageClassifier("tiny", recipe=TINY, seed=5)
    classifier.train_split(data_set.train, data_set.labels)
    folder = tmp_path_factory.mktemp("artifacts") / "3"
    classifier.save_split(folder, test=data_set.test, name="made-up")
    return read_artifact(folder)


def test_a_training_writes_a_whole_artifact(built: Artifact) -> None:
    """Every file of an artifact is there, and the manifest says what was trained."""
    assert {path.name for path in built.path.iterdir()} == {
        "confusion_matrix.png",
        "curves.png",
        "history.csv",
        "manifest.json",
        "metrics.json",
        "model.int8.onnx",
        "model.keras",
        "model.onnx",
        "most_wrong.png",
        "reliability.png",
        "report.html",
        "saved_model",
    }
    manifest = built.manifest
    assert (manifest.name, manifest.version, manifest.preset, manifest.seed) == ("made-up", "3", "tiny", 5)
    assert tuple(manifest.labels) == LABELS
    assert manifest.input_shape == (28, 28, 1)
    assert "keras" in manifest.packages


def test_the_figures_of_a_training_agree_with_each_other(built: Artifact) -> None:
    """Metrics, confusion, history and manifest tell one story."""
    metrics = json.loads((built.path / "metrics.json").read_text())
    confusion = np.array(metrics["confusion"])
    assert confusion.sum() == 60
    assert confusion.trace() / 60 == metrics["accuracy"] == built.manifest.accuracy
    assert metrics["images_trained"] == TINY.epochs * 216 // 8 * 8
    assert metrics["graphs"]["model.onnx"]["largest_probability_difference"] <= 1e-5
    assert metrics["graphs"][metrics["graph"]]["accuracy"] == metrics["accuracy"]
    assert built.manifest.graph == metrics["graph"]
    with (built.path / "history.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["epoch"] for row in rows] == ["1", "2", "3", "4"]
    best = max(float(row["validation_accuracy"]) for row in rows)
    assert best == metrics["validation_accuracy"] == built.manifest.validation_accuracy


def test_the_graph_takes_raw_pixels_and_any_count(built: Artifact, data_set: DataSet) -> None:
    """Unsigned bytes in, probabilities out, whatever the number of images."""
    import onnxruntime

    session = onnxruntime.InferenceSession(built.path / "model.onnx")
    (given,), (made,) = session.get_inputs(), session.get_outputs()
    assert (given.name, given.type, given.shape) == ("images", "tensor(uint8)", ["N", 28, 28, 1])
    assert (made.name, made.type, made.shape) == ("probabilities", "tensor(float)", ["N", 3])
    whole = session.run(None, {"images": data_set.test.images})[0]
    assert whole.sum(axis=1) == pytest.approx(1.0, abs=1e-5)
    alone = session.run(None, {"images": data_set.test.images[:1]})[0]
    assert alone[0] == pytest.approx(whole[0], abs=1e-5)


def test_the_saved_model_is_served_as_it_lies_there(built: Artifact, data_set: DataSet) -> None:
    """The folder of its version has what TensorFlow Serving needs; the manifest answers for it, and it agrees."""
    from ml_model_development.code.saved_model import classify_with_saved_model

    assert [path.name for path in (built.path / "saved_model").iterdir()] == ["3"]
    assert "saved_model/3/saved_model.pb" in built.manifest.saved_model
    assert "saved_model/3/variables/variables.index" in built.manifest.saved_model
    images = data_set.test.images
    found = classify_with_saved_model(built.path / "saved_model" / "3", images)
    reference = load_model(built.path / "model.keras", runtime="keras")[0].classify(images)
    assert np.abs(found - reference).max() <= 1e-6


def test_the_reference_loads_and_agrees_with_the_graph(built: Artifact, data_set: DataSet) -> None:
    """The .keras file needs none of our code, carries no optimizer, and says what the graph says."""
    import keras

    from ml_model_development.code.export import check_agreement, classify_with_graph

    reference = keras.saving.load_model(built.path / "model.keras", safe_mode=True)
    assert getattr(reference, "optimizer", None) is None
    images = data_set.test.images
    found = reference.predict(images, verbose=0)
    assert check_agreement(found, classify_with_graph(built.path / "model.onnx", images)) <= 1e-4


def test_runtimes_that_disagree_fail_the_export(built: Artifact) -> None:
    """A graph that answers otherwise than the reference completes no artifact."""
    from ml_model_development.code.export import check_agreement

    assert built.graph_path.is_file()
    reference = np.array([[0.6, 0.4], [0.3, 0.7]], np.float32)
    with pytest.raises(ArtifactInvalid, match="0 labels of 2 differ"):
        check_agreement(reference, reference + np.float32(0.001))
    with pytest.raises(ArtifactInvalid, match="1 labels of 2 differ"):
        check_agreement(reference, reference[[0, 0]])
    with pytest.raises(ArtifactInvalid, match="by up to nan"):
        check_agreement(reference, np.full_like(reference, np.nan))


def test_progress_is_one_line_an_epoch_outside_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    """Where nothing can be drawn each epoch leaves its figures, and no bar."""
    pytest.importorskip("tensorflow", reason="the trainer's packages are not installed")
    from ml_model_development.code.history import Epoch
    from ml_model_development.code.progress import Progress

    figures = Epoch(epoch=1, loss=0.5, accuracy=0.8, validation_loss=0.4, validation_accuracy=0.9, seconds=1.0)
    with Progress(epochs=2, image_count=10) as progress:
        progress.step(10)
        progress.epoch(figures)
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("epoch 1/2  loss 0.5000  validation accuracy 90.00%  1.0 s")
    assert line.endswith("s left")
