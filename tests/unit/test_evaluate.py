"""`fashion evaluate`: figures of an artifact whose answers are known, and a sentence for everything that is wrong."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result
from numpy.typing import NDArray

pytest.importorskip("onnx", reason="the trainer's packages are not installed")
pytest.importorskip("onnxruntime", reason="the trainer's packages are not installed")
pytest.importorskip("matplotlib", reason="the trainer's packages are not installed")

import onnx

from handoff.artifacts import digest_file, write_manifest
from handoff.contracts.errors import ArtifactInvalid, ExitCode
from handoff.contracts.idx import encode_idx
from handoff.contracts.manifest import Manifest, encode_manifest
from handoff.contracts.predictions import decode_predictions
from ml_model_development.code import evaluation_images
from ml_model_development.code.classification import classify_all, warm_up
from ml_model_development.code.data_set import LABELS, DataSet, Split
from ml_model_development.code.evaluate_model import command, find_artifact
from ml_model_development.code.evaluation import evaluate
from ml_model_development.code.evaluation_text import confusion_lines, label_lines, summary_lines
from ml_model_development.code.history import read_history
from ml_model_development.code.reproduction import TEST_DIGEST, compare, digest_split

SHAPE = (2, 3, 1)
NAMES = ("dark", "light")
# Three dark images and one light one, of which the first is said to be light.
PIXELS = np.array([10, 20, 30, 240], np.uint8)
TRUTH = np.array([1, 0, 0, 1])


def _graph(label_count: int, *, bias: float = 0.0, out: str = "probabilities") -> Any:  # noqa: ANN401 - onnx brings no types
    """Scores grow from the first label to the last with the brightness of the image."""
    helper, floats = onnx.helper, onnx.TensorProto.FLOAT
    slopes = np.linspace(-3, 3, label_count, dtype=np.float32)[np.newaxis] / 127.5
    constants = [
        onnx.numpy_helper.from_array(np.array([1, 2, 3], np.int64), "axes"),
        onnx.numpy_helper.from_array(np.array([1], np.int64), "axis"),
        onnx.numpy_helper.from_array(np.float32(127.5 + bias), "middle"),
        onnx.numpy_helper.from_array(slopes, "slopes"),
    ]
    nodes = [
        helper.make_node("Cast", ["images"], ["pixels"], to=floats),
        helper.make_node("ReduceMean", ["pixels", "axes"], ["brightness"], keepdims=0),
        helper.make_node("Sub", ["brightness", "middle"], ["centred"]),
        helper.make_node("Unsqueeze", ["centred", "axis"], ["column"]),
        helper.make_node("Mul", ["column", "slopes"], ["scores"]),
        helper.make_node("Softmax", ["scores"], [out], axis=1),
    ]
    ends = (
        [helper.make_tensor_value_info("images", onnx.TensorProto.UINT8, ["N", *SHAPE])],
        [helper.make_tensor_value_info(out, floats, ["N", label_count])],
    )
    graph = helper.make_graph(nodes, "brightness", *ends, initializer=constants)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)


def _write_artifact(folder: Path, labels: tuple[str, ...] = NAMES, **changes: object) -> Path:
    folder.mkdir(parents=True)
    onnx.save(_graph(len(labels)), folder / "model.onnx")
    onnx.save(_graph(len(labels), bias=-110.0), folder / "other.onnx")
    told: dict[str, Any] = {
        "name": "brightness",
        "version": "1",
        "labels": list(labels),
        "input_shape": SHAPE,
        "files": {name: digest_file(folder / name) for name in ("model.onnx", "other.onnx")},
        "graph": "model.onnx",
        "accuracy": 0.75,
        "validation_accuracy": 0.75,
        "seed": 1,
        "preset": "tiny",
        "commit": "unknown",
        "packages": {},
        "created_at": "2026-01-01T00:00:00+00:00",
    }
    write_manifest(folder, Manifest(**{**told, **changes}))
    return folder


def _images(values: NDArray[np.uint8] = PIXELS) -> NDArray[np.uint8]:
    return np.broadcast_to(values.reshape(-1, 1, 1, 1), (len(values), *SHAPE)).copy()


@pytest.fixture
def artifact(folder: Path) -> Path:
    """An artifact that tells dark images from light ones."""
    return _write_artifact(folder / "artifact")


@pytest.fixture
def data(folder: Path) -> tuple[str, ...]:
    """Four labelled images, as arguments."""
    (folder / "images-idx3-ubyte.gz").write_bytes(encode_idx(_images()[..., 0]))
    (folder / "labels-idx1-ubyte.gz").write_bytes(encode_idx(TRUTH.astype(np.uint8)))
    return ("images-idx3-ubyte.gz", "--labels", "labels-idx1-ubyte.gz", "--runtime", "onnx")


def run(*arguments: object) -> Result:
    """Run the command as a shell does."""
    return CliRunner().invoke(command, [*map(str, arguments)], prog_name="fashion evaluate")


def figures_of(result: Result) -> dict[str, Any]:
    """The JSON object on the last line."""
    assert result.exit_code == ExitCode.OK, result.output
    found: dict[str, Any] = json.loads(result.stdout.splitlines()[-1])
    return found


def test_figures_are_told_to_people_and_programs(artifact: Path, data: tuple[str, ...]) -> None:
    """Accuracy with its count, a row a label, the confusion matrix; the same as JSON."""
    result = run(artifact, *data, "--json")
    figures = figures_of(result)
    assert (figures["accuracy"], figures["images"]) == (0.75, 4)
    assert figures["confusion"] == [[2, 0], [1, 1]]
    assert (figures["model"], figures["version"], figures["runtime"]) == ("brightness", "1", "onnx")
    assert (figures["file"], figures["unreadable"], figures["reproduced"]) == ("model.onnx", [], None)
    assert "75.00 % (3 of 4) right, 95 % interval 30.06 to 95.44 %" in result.stdout
    lines = [line.split() for line in result.stdout.splitlines()]
    assert ["dark", "0.6667", "1.0000", "0.8000", "2"] in lines
    assert ["light", "1", "1"] in lines
    assert "4 images from images-idx3-ubyte.gz" in result.stderr
    assert "classify: 4 of 4 images" in result.stderr


def test_another_graph_of_the_artifact_can_be_chosen(artifact: Path, data: tuple[str, ...]) -> None:
    """It is run instead of the one that is served; a name that is not there is refused with those that are."""
    figures = figures_of(run(artifact, *data, "--graph", "other.onnx", "--json"))
    assert figures["file"] == "other.onnx"
    assert figures["confusion"] == [[0, 2], [1, 1]]
    refused = run(artifact, *data, "--graph", "model.int8.onnx")
    assert refused.exit_code == ExitCode.SETTINGS_INVALID
    assert "has no graph 'model.int8.onnx'; it has model.onnx, other.onnx." in refused.stderr
    refused = run(artifact, *data, "--runtime", "keras", "--graph", "other.onnx")
    assert refused.exit_code == ExitCode.SETTINGS_INVALID
    assert "not a graph" in refused.stderr


def test_predictions_are_written_as_a_worker_writes_them(artifact: Path, data: tuple[str, ...], folder: Path) -> None:
    """Readable by what reads a worker's."""
    assert run(artifact, *data, "--predictions", "out.csv").exit_code == ExitCode.OK
    table = decode_predictions((folder / "out.csv").read_bytes())
    assert table.labels == ["dark", "dark", "dark", "light"]
    assert table.label_names == list(NAMES)
    refused = run(artifact, *data, "--predictions", "none/out.csv")
    assert refused.exit_code == ExitCode.SETTINGS_INVALID
    assert "The predictions cannot be written to none/out.csv" in refused.stderr


def test_a_report_is_written_where_it_is_wanted(artifact: Path, data: tuple[str, ...], folder: Path) -> None:
    """With the curves of the training, where the artifact has kept them."""
    (artifact / "history.csv").write_text(
        "epoch,loss,accuracy,validation_loss,validation_accuracy,seconds\n1,0.5,0.8,0.6,0.7,1.0\n"
    )
    result = run(artifact, *data, "--report", "told")
    assert result.exit_code == ExitCode.OK, result.output
    assert "report: told/report.html" in result.stdout
    page = (folder / "told" / "report.html").read_text(encoding="utf-8")
    assert "brightness, version 1 (model.onnx, runtime onnx)" in page
    assert page.count("<img ") == 4


def test_a_page_needs_no_history() -> None:
    """A history that is missing or was written by something else is none."""
    assert read_history(Path("none")) == []


def test_a_version_number_stands_for_its_folder(folder: Path) -> None:
    """Among the trained artifacts, unless a folder of that name is here."""
    assert find_artifact("1").parts[-3:] == ("ml_model_development", "artifacts", "1")
    assert find_artifact("there/1") == Path("there/1")
    (folder / "1").mkdir()
    assert find_artifact("1") == Path("1")


def test_metrics_are_reproduced_or_not(tmp_path: Path) -> None:
    """To the image, for the same images only; what differs is counted."""
    split = Split(_images(), TRUTH)
    right = np.eye(2, dtype=np.float32)
    evaluation = evaluate(right[[0, 0, 0, 1]], TRUTH, NAMES)

    def compared(*, usual: bool = False, file: str = "model.onnx", **stated: object) -> tuple[bool, str] | None:
        (tmp_path / "metrics.json").write_text(json.dumps(stated))
        found = compare(tmp_path, evaluation, split, file=file, usual=usual)
        return None if found is None else (found.reproduced, found.sentence)

    same = {"accuracy": 0.75, "confusion": [[2, 0], [1, 1]]}
    digest = {TEST_DIGEST: digest_split(split)}
    assert compared(**same) is None
    assert compared(**same, **digest) == (True, "metrics.json is reproduced to the image.")
    assert compared(**same, usual=True) == (True, "metrics.json is reproduced to the image.")
    assert compared(**same, **{TEST_DIGEST: "sha256:0"}, usual=True) is None
    assert compared(accuracy=1.0, **digest) == (
        False,
        "metrics.json states 4 of 4 right, 1 more than here.",
    )
    assert compared(accuracy=0.75, confusion=[[1, 1], [0, 2]], **digest) == (
        False,
        "metrics.json states as many right, but not in the same labels.",
    )
    graphs = {"graph": "served.onnx", "graphs": {"model.onnx": {"accuracy": 0.75}, "odd.onnx": 3}, **digest}
    assert compared(accuracy=1.0, **graphs) == (True, "metrics.json states as many right of model.onnx.")
    assert compared(**same, **graphs, file="served.onnx") == (True, "metrics.json is reproduced to the image.")
    assert compared(**same, **graphs, file="odd.onnx") is None
    (tmp_path / "metrics.json").write_text("no JSON")
    assert compare(tmp_path, evaluation, split, file="model.onnx", usual=True) is None


def test_another_order_or_label_is_another_split() -> None:
    """What a digest tells apart."""
    split = Split(_images(), TRUTH)
    others = [split.take(np.array([1, 0, 2, 3])), Split(_images(), 1 - TRUTH), split.take(slice(3))]
    assert len({digest_split(each) for each in (split, *others)}) == 4
    assert digest_split(split) == digest_split(Split(_images(), TRUTH.astype(np.int32).astype(np.int64)))


def test_without_images_it_is_fashion_mnists_test_split(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """For a model of its labels and shape; any other model needs images of its own."""
    generator = np.random.default_rng(1)
    test = Split(generator.integers(0, 256, (20, *SHAPE), dtype=np.uint8), generator.integers(0, 10, 20))
    monkeypatch.setattr(evaluation_images, "load_data_set", lambda named: DataSet(test, test, f"folder {named}"))
    path = _write_artifact(folder / "fashion", LABELS)
    first = figures_of(run(path, "--runtime", "onnx", "--data", "there", "--json"))
    assert (first["images"], first["source"]) == (20, "Fashion-MNIST's test split, folder there")
    stated = {"accuracy": first["accuracy"], "confusion": first["confusion"]}
    (path / "metrics.json").write_text(json.dumps(stated))
    again = run(path, "--runtime", "onnx", "--json")
    assert figures_of(again)["reproduced"] is True
    assert "metrics.json is reproduced to the image." in again.stdout

    refused = run(_write_artifact(folder / "two"), "--runtime", "onnx")
    assert refused.exit_code == ExitCode.DATA_SET_UNAVAILABLE
    assert "brightness knows other labels than Fashion-MNIST's; name labelled images" in refused.stderr
    refused = run(_write_artifact(folder / "large", LABELS, input_shape=(28, 28, 1)), "--runtime", "onnx")
    assert refused.exit_code == ExitCode.DATA_SET_UNAVAILABLE
    assert "takes images of 28 x 28 x 1, Fashion-MNIST's are 2 x 3 x 1" in refused.stderr


def _change_a_byte(path: Path) -> None:
    raw = bytearray((path / "model.onnx").read_bytes())
    raw[len(raw) // 2] ^= 1
    (path / "model.onnx").write_bytes(raw)


def _change_the_version(path: Path) -> None:
    manifest = json.loads((path / "manifest.json").read_bytes())
    (path / "manifest.json").write_text(json.dumps({**manifest, "manifest_version": 9}))


def _forget_a_label(path: Path) -> None:
    manifest = json.loads((path / "manifest.json").read_bytes())
    (path / "manifest.json").write_text(json.dumps({**manifest, "labels": ["dark", "light", "gray"]}))


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (_change_a_byte, "model.onnx has changed since its manifest was written"),
        (_change_the_version, "has manifest version 9, this program reads 1"),
        (_forget_a_label, "tells 2 labels apart"),
        (lambda path: (path / "model.onnx").unlink(), "model.onnx is named in the manifest but missing"),
        (lambda path: (path / "manifest.json").unlink(), "manifest.json is missing"),
        (lambda path: (path / "manifest.json").write_text("{}"), "is no model manifest"),
        (shutil.rmtree, "There is no artifact folder"),
    ],
)
def test_a_spoilt_artifact_is_one_sentence(artifact: Path, data: tuple[str, ...], spoil: Any, said: str) -> None:  # noqa: ANN401
    """Whatever does not hold is named, with the exit code of artifacts; nothing is evaluated."""
    spoil(artifact)
    result = run(artifact, *data)
    assert result.exit_code == ExitCode.ARTIFACT_INVALID, result.output
    (error,) = [line for line in result.stderr.splitlines() if not line.startswith(("classify:", "4 images"))]
    assert error.startswith("Error: ")
    assert said in error
    assert result.stdout == ""


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("none",), ExitCode.DATA_SET_UNAVAILABLE, "none"),
        (("images-idx3-ubyte.gz",), ExitCode.DATA_SET_UNAVAILABLE, "--labels"),
        (("--labels", "labels-idx1-ubyte.gz"), ExitCode.USAGE, "--labels needs the IMAGES"),
        (
            ("images-idx3-ubyte.gz", "--labels", "images-idx3-ubyte.gz"),
            ExitCode.DATA_SET_UNAVAILABLE,
            "images-idx3-ubyte.gz",
        ),
        (
            ("images-idx3-ubyte.gz", "--labels", "labels-idx1-ubyte.gz", "--report", "images-idx3-ubyte.gz/x"),
            ExitCode.SETTINGS_INVALID,
            "The report",
        ),
        (("images-idx3-ubyte.gz", "--labels", "labels-idx1-ubyte.gz", "--threads", "0"), ExitCode.USAGE, "--threads"),
    ],
)
@pytest.mark.usefixtures("data")
def test_what_cannot_be_evaluated_is_one_sentence(
    artifact: Path, arguments: tuple[str, ...], code: ExitCode, said: str
) -> None:
    """Images, labels and places to write that are not usable."""
    result = run(artifact, *arguments, "--runtime", "onnx")
    assert result.exit_code == code, result.output
    assert said in result.stderr
    assert "Traceback" not in result.output


def test_a_keras_file_with_code_in_it_is_refused(folder: Path, data: tuple[str, ...]) -> None:
    """A Lambda layer's function is never run, whether a lambda or a named one, and the digests do not help it."""
    keras = pytest.importorskip("keras", reason="the trainer's packages are not installed")

    def brighten(pixels: Any) -> Any:  # noqa: ANN401 - a tensor of whatever backend
        return pixels * 2

    for place, function in enumerate((lambda pixels: pixels * 2, brighten)):
        images = keras.Input(SHAPE, dtype="uint8")
        changed = keras.layers.Lambda(function, output_shape=SHAPE)(keras.layers.Rescaling(1 / 255)(images))
        answers = keras.layers.Dense(2, activation="softmax")(keras.layers.Flatten()(changed))
        path = _write_artifact(folder / f"lambda-{place}")
        keras.Model(images, answers).save(path / "model.keras")
        manifest = json.loads((path / "manifest.json").read_bytes())
        manifest["files"]["model.keras"] = digest_file(path / "model.keras")
        (path / "manifest.json").write_bytes(encode_manifest(Manifest(**manifest)))
        result = run(path, *data[:3], "--runtime", "keras")
        assert result.exit_code == ExitCode.ARTIFACT_INVALID, result.output
        (error,) = [line for line in result.stderr.splitlines() if line.startswith("Error: ")]
        assert f"{path}/model.keras holds a Lambda layer, which is code of its own and is never run here" in error


class Brightness:
    """A classifier that keeps count of what it was given."""

    def __init__(self, *, value: float = 1.0) -> None:
        self.sizes: list[int] = []
        self.warmed: list[int] = []
        self._value = value

    def classify(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Brightness as the probability of the second of two labels."""
        self.sizes.append(len(images))
        share = images.reshape(len(images), -1)[:, 0].astype(np.float32) / 255
        return np.stack([1 - share, share], axis=1) * np.float32(self._value)

    def warm_up(self, sizes: list[int]) -> None:
        """Keep the sizes."""
        self.warmed += sizes


def test_classifiers_share_the_images_and_their_order_stays() -> None:
    """Each image once, in its place, whoever classified it; only sizes that occur are warmed up."""
    classifiers = [Brightness(), Brightness()]
    images = np.random.default_rng(1).integers(0, 256, (700, 1, 1, 1), dtype=np.uint8)
    warm_up(classifiers, 700)
    told: list[int] = []
    found = classify_all(classifiers, images, on_classified=told.append)
    assert (found[:, 1] == images[:, 0, 0, 0].astype(np.float32) / 255).all()
    assert sorted(classifiers[0].sizes + classifiers[1].sizes) == [188, 256, 256]
    assert classifiers[1].warmed == [256, 188]
    assert told == [256, 256, 188]


def test_answers_that_are_no_probabilities_are_refused() -> None:
    """Of a model whose numbers overflow."""
    with pytest.raises(ArtifactInvalid, match="no probabilities"):
        classify_all([Brightness(value=np.nan)], _images())


def test_many_labels_are_told_by_their_errors() -> None:
    """A terminal has no room for a hundred columns; long names are cut there and nowhere else."""
    labels = tuple(f"a long name {place}" for place in range(100))
    truth = np.arange(100)
    answers = np.eye(100, dtype=np.float32)[np.concatenate([[1], truth[1:]])]
    found = evaluate(answers, truth, labels)
    assert confusion_lines(found) == ["most often confused:", "      1  a long name 0 taken for a long name 1"]
    assert confusion_lines(evaluate(np.eye(100, dtype=np.float32), truth, labels)) == [
        "no image was classified wrongly"
    ]
    assert len({len(line) for line in label_lines(found)}) == 1
    assert summary_lines(found)[0].startswith("99.00 % (99 of 100) right")
    few = confusion_lines(evaluate(np.eye(2, dtype=np.float32), np.arange(2), ("a long name indeed", "b")))
    assert few[0].endswith("  a long n…  b")
    assert few[1].startswith("a long name indeed")
