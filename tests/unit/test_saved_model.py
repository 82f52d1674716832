"""SavedModels: what is written is what a TensorFlow Serving needs, appears whole, and says what the reference says."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from click.testing import CliRunner, Result
from msgspec.structs import replace

from classifiers.loading import load_model
from classifiers.serving_status import find_mismatch
from handoff.artifacts import digest_file, digest_folder, read_artifact, write_manifest
from handoff.contracts.errors import ArtifactInvalid, ExitCode, SettingsInvalid
from ml_model_development.code.export_model import command
from ml_model_development.code.serving_versions import new_serving_folder, serving_version
from tests.fakes import MANIFEST

if TYPE_CHECKING:
    import keras

SHAPE, LABELS = (6, 5, 3), ("a", "b", "c", "d")
IMAGES = np.random.default_rng(3).integers(0, 256, (17, *SHAPE), np.uint8)


@pytest.fixture(scope="module")
def network() -> keras.Model:
    """A small network with everything that has a state: weights, and statistics."""
    pytest.importorskip("tensorflow", reason="the trainer's packages are not installed")
    import keras
    from keras import layers

    keras.utils.set_random_seed(1)
    given = keras.Input(SHAPE, dtype="uint8", name="images")
    features = layers.BatchNormalization()(layers.Conv2D(4, 3)(layers.Rescaling(1 / 255)(given)))
    network = keras.Model(given, layers.Dense(len(LABELS), activation="softmax")(layers.Flatten()(features)))
    network.compile("adam", "sparse_categorical_crossentropy")
    network.fit(IMAGES, np.arange(17) % 4, epochs=2, verbose=0)
    return network


@pytest.fixture(scope="module")
def artifact(network: keras.Model, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An artifact of it, without a SavedModel, as older releases wrote them."""
    folder = tmp_path_factory.mktemp("artifacts") / "12"
    folder.mkdir()
    network.save(folder / "model.keras")
    (folder / "model.onnx").write_bytes(b"not needed here")
    files = {name: digest_file(folder / name) for name in ("model.keras", "model.onnx")}
    manifest = replace(MANIFEST, version="12", labels=list(LABELS), input_shape=SHAPE, files=files)
    write_manifest(folder, manifest)
    return folder


@pytest.fixture
def base(tmp_path: Path) -> Path:
    """A folder that a server would watch."""
    return tmp_path / "models" / "fashion"


def export(*arguments: object) -> Result:
    """Run `fashion export`."""
    return CliRunner().invoke(command, [str(argument) for argument in arguments])


def test_the_signature_takes_pixels_and_gives_the_references_probabilities(network: keras.Model, base: Path) -> None:
    """`serving_default`: images uint8 (None, H, W, C) -> probabilities float32 (None, K), the same numbers."""
    import tensorflow as tf

    from ml_model_development.code.saved_model import export_saved_model

    written = export_saved_model(network, base, version=4)
    assert written == base / "4"
    assert (written / "saved_model.pb").is_file()
    assert (written / "variables" / "variables.index").is_file()
    signature = tf.saved_model.load(written).signatures["serving_default"]
    (_, given), made = signature.structured_input_signature, signature.structured_outputs
    assert {name: (spec.dtype, spec.shape.as_list()) for name, spec in given.items()} == {
        "images": (tf.uint8, [None, *SHAPE])
    }
    assert {name: (spec.dtype, spec.shape.as_list()) for name, spec in made.items()} == {
        "probabilities": (tf.float32, [None, len(LABELS)])
    }
    for images in (IMAGES, IMAGES[:1], np.zeros_like(IMAGES), np.full_like(IMAGES, 255)):
        found = signature(images=tf.constant(images))["probabilities"].numpy()
        assert np.abs(found - np.asarray(network.predict_on_batch(images))).max() <= 1e-6


def test_a_server_describes_it_as_the_manifest_does(network: keras.Model, base: Path) -> None:
    """Its signatures, written as TensorFlow Serving writes metadata, are the manifest's model and no other."""
    from google.protobuf.json_format import MessageToDict
    from tensorflow.core.protobuf.saved_model_pb2 import SavedModel

    from ml_model_development.code.saved_model import export_saved_model

    written = export_saved_model(network, base, version=1)
    read = SavedModel.FromString((written / "saved_model.pb").read_bytes())
    signatures = {
        name: MessageToDict(each, preserving_proto_field_name=True, always_print_fields_with_no_presence=True)
        for name, each in read.meta_graphs[0].signature_def.items()
    }
    metadata = json.dumps({"metadata": {"signature_def": {"signature_def": signatures}}}).encode()
    manifest = replace(MANIFEST, labels=list(LABELS), input_shape=SHAPE)
    assert find_mismatch(metadata, manifest) == ""
    assert find_mismatch(metadata, replace(manifest, labels=["a", "b"])) == "gives 4 an image, not 2"
    assert find_mismatch(metadata, replace(manifest, input_shape=(5, 6, 3))).startswith("takes 6x5x3 an image")


def test_no_number_is_there_before_all_of_the_version_is(
    network: keras.Model, base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever looks while it is written sees other versions alone, and afterwards everything at once."""
    from ml_model_development.code import saved_model

    seen: list[set[str]] = []
    write = saved_model.write_saved_model

    def watched(classifier: keras.Model, path: Path) -> None:
        seen.append({each.name for each in base.iterdir()})
        write(classifier, path)
        seen.append({each.name for each in base.iterdir()})

    monkeypatch.setattr(saved_model, "write_saved_model", watched)
    (base / "1").mkdir(parents=True)
    saved_model.export_saved_model(network, base, version=2)
    assert len(seen) == 2
    for names in seen:
        assert [name for name in names if serving_version(name) is not None] == ["1"]
    assert {each.name for each in base.iterdir()} == {"1", "2"}
    assert (base / "2").stat().st_mode & 0o555 == 0o555  # a server runs as somebody else


@pytest.mark.parametrize(
    "broken", [OSError(28, "No space left on device"), ArtifactInvalid("disagrees"), KeyboardInterrupt()]
)
def test_a_version_that_fails_leaves_nothing(
    network: keras.Model, base: Path, monkeypatch: pytest.MonkeyPatch, broken: BaseException
) -> None:
    """Half of it was written: no number is there, and nothing else either."""
    from ml_model_development.code import saved_model

    def fail(classifier: keras.Model, path: Path) -> None:
        del classifier
        path.mkdir()
        (path / "saved_model.pb").write_bytes(b"half")
        raise broken

    monkeypatch.setattr(saved_model, "write_saved_model", fail)
    expected = SettingsInvalid if isinstance(broken, OSError) else type(broken)
    with pytest.raises(expected):
        saved_model.export_saved_model(network, base, version=2)
    assert list(base.iterdir()) == []


def test_a_saved_model_that_disagrees_is_not_finished(
    network: keras.Model, base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was written is loaded and held to the reference before it gets its number."""
    from ml_model_development.code import saved_model

    monkeypatch.setattr(
        saved_model, "classify_with_saved_model", lambda _, images: np.full((len(images), 4), 0.25, np.float32)
    )
    with pytest.raises(ArtifactInvalid, match="disagrees with Keras"):
        saved_model.export_saved_model(network, base, version=2)
    assert list(base.iterdir()) == []


def test_another_backends_model_is_exported_by_a_process_of_its_own(network: keras.Model, base: Path) -> None:
    """As where Keras runs on PyTorch or JAX: the same signature, the same numbers."""
    from ml_model_development.code.export import export_elsewhere
    from ml_model_development.code.saved_model import classify_with_saved_model

    base.mkdir(parents=True)
    export_elsewhere(network, base / "1")
    found = classify_with_saved_model(base / "1", IMAGES)
    assert np.abs(found - np.asarray(network.predict_on_batch(IMAGES))).max() <= 1e-6


def test_an_artifact_is_exported_by_its_version(artifact: Path, base: Path) -> None:
    """The command says where it lies, and how to serve it and to classify by it."""
    from ml_model_development.code.saved_model import classify_with_saved_model

    result = export(artifact, base)
    assert result.exit_code == 0, result.output
    first, serve, work = result.stdout.splitlines()
    assert first.startswith(f"{base / '12'} is ready; it says what model.keras says.")
    assert serve.endswith(f"--model_base_path={base}")
    assert work.endswith(f"--model {artifact} --runtime tf-serving --url http://127.0.0.1:8501/v1/models/fashion")
    (reference,) = load_model(artifact / "model.keras", runtime="keras")
    assert np.abs(classify_with_saved_model(base / "12", IMAGES) - reference.classify(IMAGES)).max() <= 1e-6


def test_a_version_that_is_there_is_never_written_over(artifact: Path, base: Path) -> None:
    """A server may be serving it; the sentence comes before TensorFlow takes its seconds."""
    (base / "12").mkdir(parents=True)
    result = export(artifact, base)
    assert result.exit_code == ExitCode.SETTINGS_INVALID
    assert "12 is there already; a server may be serving it, so name another version" in result.stderr
    assert "Exporting" not in result.stderr
    with pytest.raises(SettingsInvalid):
        new_serving_folder(base, 12)
    assert export(artifact, base, "--version", 13).exit_code == 0


def test_what_cannot_be_exported_is_said_in_a_sentence(artifact: Path, base: Path, tmp_path: Path) -> None:
    """A version that is no number, a folder that cannot be written, an artifact that changed."""
    named = tmp_path / "blue"
    shutil.copytree(artifact, named)
    write_manifest(named, replace(read_artifact(named).manifest, version="blue"))
    result = export(named, base)
    assert result.exit_code == ExitCode.SETTINGS_INVALID
    assert "'blue', is no whole number, as TensorFlow Serving wants one; give it one with --version" in result.stderr
    (tmp_path / "file").touch()
    result = export(artifact, tmp_path / "file")
    assert result.exit_code == ExitCode.SETTINGS_INVALID
    assert result.stderr.splitlines()[-1].startswith(f"Error: {tmp_path / 'file' / '12'} cannot be written")
    (named / "model.keras").write_bytes(b"changed")
    result = export(named, base, "--version", 1)
    assert result.exit_code == ExitCode.ARTIFACT_INVALID
    assert not base.exists()


@pytest.mark.parametrize(
    ("name", "version"),
    [("1", 1), ("007", 7), (str(2**63 - 1), 2**63 - 1), (str(2**63), None), ("1.2", None), ("-1", None), ("v1", None)],
)
def test_versions_are_whole_numbers(name: str, version: int | None) -> None:
    """Of the type that TensorFlow Serving gives them."""
    assert serving_version(name) == version


def test_an_artifact_answers_for_its_saved_model_where_it_has_one(artifact: Path, tmp_path: Path) -> None:
    """A worker's copy may leave it out; one that is there must be whole and unchanged."""
    whole = tmp_path / "12"
    shutil.copytree(artifact, whole)
    model = whole / "saved_model" / "12"
    (model / "variables").mkdir(parents=True)
    (model / "saved_model.pb").write_bytes(b"graph")
    (model / "variables" / "variables.index").write_bytes(b"weights")
    manifest = replace(read_artifact(whole).manifest, saved_model=digest_folder(whole, "saved_model"))
    assert list(manifest.saved_model) == ["saved_model/12/saved_model.pb", "saved_model/12/variables/variables.index"]
    write_manifest(whole, manifest)
    assert read_artifact(whole).manifest == manifest
    (model / "saved_model.pb").write_bytes(b"other")
    with pytest.raises(ArtifactInvalid, match=r"saved_model\.pb has changed since its manifest was written"):
        read_artifact(whole)
    (model / "saved_model.pb").unlink()
    with pytest.raises(ArtifactInvalid, match=r"saved_model\.pb is named in the manifest but missing"):
        read_artifact(whole)
    shutil.rmtree(whole / "saved_model")
    assert read_artifact(whole).manifest == manifest


def test_a_worker_of_a_remote_model_needs_the_manifest_alone(artifact: Path, tmp_path: Path) -> None:
    """What lies beside it, or does not, is not what classifies."""
    shutil.copy(artifact / "manifest.json", tmp_path)
    assert read_artifact(tmp_path, with_files=False).manifest.labels == list(LABELS)
    with pytest.raises(ArtifactInvalid, match="is named in the manifest but missing"):
        read_artifact(tmp_path)


def test_the_script_runs_from_anywhere(tmp_path: Path) -> None:
    """By its path, as the README runs the others."""
    path = Path(__file__).parents[2] / "ml_model_development" / "code" / "export_model.py"
    ended = subprocess.run(
        [sys.executable, path, "none", "there"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert ended.returncode == ExitCode.ARTIFACT_INVALID
    assert ended.stderr.startswith("Error: There is no artifact folder none")
