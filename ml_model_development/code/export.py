"""Write a trained classifier in the forms that are served, and prove that they agree."""

from __future__ import annotations

import subprocess
import sys
import warnings
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory

import keras
import numpy as np
import onnx
from numpy.typing import NDArray

from classifiers.loading import REFERENCE_NAME, load_model
from handoff.contracts.errors import ArtifactInvalid, MissingPackage
from ml_model_development.code.classification import classify_all

KERAS_NAME = REFERENCE_NAME
GRAPH_NAME = "model.onnx"
# Float additions in another order, through ten layers; each artifact states its own difference (the default: 2.4e-6).
TOLERANCE = 1e-4


def export_keras(classifier: keras.Model, path: Path) -> None:
    """Write the reference: network and weights, no optimizer, nothing compiled."""
    classifier.save(path)


def export_graph(classifier: keras.Model, path: Path) -> None:
    """Write the inference graph: `images` uint8 (N, H, W, C) -> `probabilities` float32 (N, K), any N.

    Raises: ArtifactInvalid: the exporter wrote no valid graph;
            MissingPackage: Keras runs on another backend, and the one that exports is not installed
    """
    if keras.backend.backend() == "tensorflow":
        _export_here(classifier, path)
    else:
        export_elsewhere(classifier, path)
    model = onnx.load(path)
    _name_ends(model)
    try:
        onnx.checker.check_model(model, full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise ArtifactInvalid(f"the exporter wrote no valid graph ({error}); try another version of onnx.") from error
    onnx.save(model, path)


def classify_with_graph(path: Path, images: NDArray[np.uint8], *, runtime: str = "auto") -> NDArray[np.float32]:
    """Classify with the exported graph, as a worker does.

    Shapes: uint8 (N, H, W, C) -> float32 (N, K)
    Raises: ArtifactInvalid: the runtime cannot load the graph; MissingPackage: the runtime is not installed
    """
    return classify_all(load_model(path, runtime=runtime), images)


def check_agreement(reference: NDArray[np.float32], graph: NDArray[np.float32]) -> float:
    """Hold the graph's probabilities to the reference's; the largest difference.

    Raises: ArtifactInvalid: a probability differs by more than TOLERANCE, or a label that was no tie
    """
    difference = float(np.abs(reference - graph).max())
    second, first = np.sort(reference, axis=1)[:, -2:].T
    tied = first - second <= 2 * TOLERANCE
    labels_differing = int((~tied & (reference.argmax(axis=1) != graph.argmax(axis=1))).sum())
    if labels_differing or not difference <= TOLERANCE:
        raise ArtifactInvalid(
            f"the exported graph disagrees with Keras: {labels_differing} labels of {len(reference)} differ,"
            f" probabilities by up to {difference:.2e} (allowed {TOLERANCE:.0e}); the artifact was not completed."
        )
    return difference


def _export_here(classifier: keras.Model, path: Path) -> None:
    shape = (None, *classifier.input_shape[1:])
    classifier(np.zeros((1, *shape[1:]), np.uint8))  # Keras exports only what has been called
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # tf2onnx asks NumPy for a name that is gone
        classifier.export(
            path,
            format="onnx",
            verbose=False,
            input_signature=[keras.InputSpec(shape=shape, dtype="uint8", name="images")],
        )


def export_elsewhere(classifier: keras.Model, path: Path) -> None:
    """Export in a process of its own, where Keras runs on TensorFlow whatever it runs on here.

    A path that ends in `.onnx` becomes an inference graph, any other the folder of a SavedModel.

    Raises: ArtifactInvalid: nothing was written; MissingPackage: TensorFlow is not installed
    """
    if find_spec("tensorflow") is None:
        raise MissingPackage("tensorflow", needed_for=f"writing {path.name}")
    with TemporaryDirectory() as folder:
        saved = Path(folder) / KERAS_NAME
        classifier.save(saved)
        command = [sys.executable, str(Path(__file__).with_name("convert.py")), str(saved), str(path)]
        ended = subprocess.run(command, capture_output=True, text=True, check=False)
    if ended.returncode:
        reason = ended.stderr.strip().rpartition("\n")[2]
        raise ArtifactInvalid(f"{path.name} was not written ({reason}); the artifact was not completed.")


def _name_ends(model: onnx.ModelProto) -> None:
    """Give output and batch dimension their stated names; exporters name them after their own internals."""
    output = model.graph.output[0]
    for node in model.graph.node:
        node.output[:] = ["probabilities" if name == output.name else name for name in node.output]
    output.name = "probabilities"
    for end in (model.graph.input[0], output):
        end.type.tensor_type.shape.dim[0].dim_param = "N"
