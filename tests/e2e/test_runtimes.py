"""Every runtime against the reference, which is Keras: on the committed model, and on one of another shape."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from msgspec.structs import replace

from classifiers.loading import (
    LOCAL_RUNTIMES,
    PREFERRED,
    connect_classifiers,
    load_classifiers,
    load_model,
)
from classifiers.protocol import Images, Probabilities, RemoteServer
from fashion_client.sources import SAMPLE_IMAGES, SAMPLE_LABELS
from handoff.artifacts import Artifact, read_artifact
from handoff.contracts.idx import decode_idx
from handoff.settings import WorkerSettings
from tests.serving_server import kserve

if TYPE_CHECKING:
    import keras

pytest.importorskip("tensorflow", reason="the trainer's packages are not installed")

GRAPH_RUNTIMES = sorted(set(LOCAL_RUNTIMES) - {"keras"})
# The same float additions in another order.
FLOAT_TOLERANCE = 1e-5
# int8 graphs: the share of labels that stay, and how far a probability moves on average. Twice to three times
# what was measured (0.996 and 0.0011); runtimes round features at other places, so they differ from each other as much.
EQUAL_LABELS = 0.99
MEAN_DIFFERENCE = 0.0025
# A model of other images: 8x8 pixels, three labels.
SIDE, LABEL_COUNT = 8, 3


class Model:
    """The files of one model, images of its shape, and what the reference says of them."""

    def __init__(self, folder: Path, images: Images) -> None:
        self.folder = folder
        self.images = images
        self.reference: Probabilities = load_model(folder / "model.keras", runtime="keras")[0].classify(images)

    def classify(self, graph: str, runtime: str) -> Probabilities:
        """What a runtime says of the images with one of the model's graphs."""
        (classifier,) = load_model(self.folder / graph, runtime=runtime)
        return classifier.classify(self.images)


@pytest.fixture(scope="session")
def committed() -> Artifact:
    """The artifact that a worker serves by default."""
    return read_artifact(Path(__file__).parents[2] / WorkerSettings().model)


@pytest.fixture(scope="session")
def sample() -> Images:
    """A thousand test images of Fashion-MNIST."""
    return decode_idx(SAMPLE_IMAGES.read_bytes(), name="sample")[..., np.newaxis]


@pytest.fixture(scope="session", params=["committed", "small"])
def model(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, committed: Artifact, sample: Images
) -> Model:
    """The committed model, or one of another shape, each with a float and an int8 graph."""
    folder = tmp_path_factory.mktemp(str(request.param))
    if request.param == "committed":
        for path in committed.path.iterdir():
            (folder / path.name).symlink_to(path)
        return _with_int8_graph(folder, sample)
    images = _draw_stripes(1_500)
    _export(_train_stripes(*images), folder)
    return _with_int8_graph(folder, images[0])


@pytest.mark.parametrize("runtime", GRAPH_RUNTIMES)
def test_float_graphs_give_the_references_answers(model: Model, runtime: str) -> None:
    """Every label is the same and every probability within 1e-5, on a thousand images and more."""
    found = model.classify("model.onnx", runtime)
    assert len(found) >= 1_000
    assert (found.argmax(axis=1) == model.reference.argmax(axis=1)).all()
    assert np.abs(found - model.reference).max() <= FLOAT_TOLERANCE


def test_a_remote_runtime_gives_the_references_answers(model: Model) -> None:
    """Over JSON and back, through a server that others wrote: as close as in this process, in one thread and in two."""
    manifest = replace(
        read_artifact(Path(__file__).parents[2] / WorkerSettings().model).manifest,
        input_shape=model.images.shape[1:],
        labels=[str(label) for label in range(model.reference.shape[1])],
    )
    halves = np.array_split(model.images, 2)
    with kserve(model.folder / "model.onnx") as server, ThreadPoolExecutor(2) as threads:
        classifiers = connect_classifiers(manifest, RemoteServer(server.url), threads=2)
        found = np.concatenate(list(threads.map(lambda one, half: one.classify(half), classifiers, halves)))
    assert (found.argmax(axis=1) == model.reference.argmax(axis=1)).all()
    assert np.abs(found - model.reference).max() <= FLOAT_TOLERANCE


@pytest.mark.parametrize("runtime", GRAPH_RUNTIMES)
def test_int8_graphs_give_nearly_the_references_answers(model: Model, runtime: str) -> None:
    """At most one label in a hundred changes, and probabilities stay close."""
    found = model.classify("model.int8.onnx", runtime)
    assert len(found) >= 1_000
    assert (found.argmax(axis=1) == model.reference.argmax(axis=1)).mean() >= EQUAL_LABELS
    assert np.abs(found - model.reference).mean() <= MEAN_DIFFERENCE
    assert found.sum(axis=1) == pytest.approx(1.0, abs=1e-5)


@pytest.mark.parametrize("runtime", sorted(LOCAL_RUNTIMES))
def test_what_is_served_is_as_accurate_as_its_manifest_says(committed: Artifact, sample: Images, runtime: str) -> None:
    """On the sample's 1,000 images each runtime is within two points of the accuracy on all 10,000."""
    labels = decode_idx(SAMPLE_LABELS.read_bytes(), name="sample")
    (classifier,) = load_classifiers(committed, runtime=runtime)
    accuracy = (classifier.classify(sample).argmax(axis=1) == labels).mean()
    assert abs(accuracy - committed.manifest.accuracy) <= 0.02


@pytest.mark.parametrize("runtime", GRAPH_RUNTIMES)
@pytest.mark.parametrize("graph", ["model.onnx", "model.int8.onnx"])
def test_an_image_is_answered_alike_whatever_comes_with_it(model: Model, graph: str, runtime: str) -> None:
    """One at a time, in sevens, in micro-batches or all at once: the same to the bit of rounding."""
    (classifier,) = load_model(model.folder / graph, runtime=runtime)
    images = model.images[:1_000]
    whole = classifier.classify(images)
    for size in (1, 7, 128):
        parts = [classifier.classify(images[start : start + size]) for start in range(0, len(images), size)]
        assert np.concatenate(parts) == pytest.approx(whole, abs=1e-6), size


@pytest.mark.parametrize("runtime", GRAPH_RUNTIMES)
def test_two_threads_at_once_answer_as_one(model: Model, runtime: str) -> None:
    """Each thread has a classifier of its own, and what it was given stays as it is while both go on."""
    classifiers = load_model(model.folder / "model.int8.onnx", runtime=runtime, threads=2)
    halves = np.array_split(model.images, 2)

    def classify(place: int) -> Sequence[Probabilities]:
        return [classifiers[place].classify(halves[place]) for _ in range(5)]

    with ThreadPoolExecutor(2) as threads:
        answers = list(threads.map(classify, range(2)))
    for half, answer in zip(halves, answers, strict=True):
        alone = classifiers[0].classify(half)
        assert all((again == alone).all() for again in answer)


def test_every_convolution_of_an_int8_graph_is_run_in_int8(model: Model) -> None:
    """OpenVINO fuses the marks of quantisation around each convolution, those around residual sums included."""
    openvino = pytest.importorskip("classifiers.openvino", exc_type=ImportError).openvino
    compiled = openvino.Core().compile_model(model.folder / "model.int8.onnx", "CPU")
    run = [operation.get_rt_info() for operation in compiled.get_runtime_model().get_ordered_ops()]
    layers = [(info["layerType"].astype(str), info["primitiveType"].astype(str)) for info in run]
    convolutions = [primitive for layer, primitive in layers if layer == "Convolution"]
    assert convolutions
    assert all(primitive.endswith("_I8") for primitive in convolutions)


def test_the_preferred_runtimes_read_graphs() -> None:
    """What `auto` may choose needs no Keras."""
    assert set(PREFERRED) <= set(GRAPH_RUNTIMES)


def test_the_graph_is_the_same_whatever_keras_runs_on(committed: Artifact, sample: Images, tmp_path: Path) -> None:
    """Where Keras runs on another backend, a process of its own writes the graph that would have been written here."""
    import keras
    import onnx

    from ml_model_development.code import export

    reference = keras.saving.load_model(committed.path / "model.keras", compile=False)
    here, elsewhere = tmp_path / "here.onnx", tmp_path / "elsewhere.onnx"
    export.export_graph(reference, here)
    export.export_elsewhere(reference, elsewhere)
    operations = [[node.op_type for node in onnx.load(path).graph.node] for path in (here, elsewhere)]
    assert operations[0] == operations[1]
    answers = [load_model(path, runtime="onnx")[0].classify(sample) for path in (here, elsewhere)]
    assert (answers[0] == answers[1]).all()


def _with_int8_graph(folder: Path, images: Images) -> Model:
    from ml_model_development.code.quantisation import INT8_NAME, quantise_graph

    if not (folder / INT8_NAME).exists():
        quantise_graph(folder / "model.onnx", folder / INT8_NAME, images)
    return Model(folder, images)


def _draw_stripes(count: int) -> tuple[Images, np.ndarray]:
    """Upright, level and slanting stripes with noise, 8x8: three labels."""
    generator = np.random.default_rng(7)
    labels = generator.integers(0, LABEL_COUNT, count)
    rows, columns = np.indices((SIDE, SIDE))
    patterns = np.stack([columns, rows, rows + columns]) // 2 % 2 * 120
    images = patterns[labels] + generator.integers(0, 130, (count, SIDE, SIDE))
    return images[..., np.newaxis].astype(np.uint8), labels


def _train_stripes(images: Images, labels: np.ndarray) -> keras.Model:
    """A small residual network that tells them apart."""
    import keras
    from keras import layers

    keras.utils.set_random_seed(1)
    given = keras.Input((SIDE, SIDE, 1), dtype="uint8", name="images")
    features = layers.Rescaling(1 / 64, offset=-2.0)(given)
    features = layers.Conv2D(16, 3, padding="same", activation="relu")(features)
    branch = layers.Conv2D(16, 3, padding="same", use_bias=False)(features)
    features = layers.ReLU()(layers.Add()([features, layers.BatchNormalization(momentum=0.5)(branch)]))
    features = layers.GlobalAveragePooling2D()(layers.MaxPooling2D()(features))
    network = keras.Model(given, layers.Dense(LABEL_COUNT, activation="softmax")(features))
    network.compile(keras.optimizers.Adam(0.01), "sparse_categorical_crossentropy")
    network.fit(images, labels, batch_size=50, epochs=4, verbose=0)
    return network


def _export(network: keras.Model, folder: Path) -> None:
    from ml_model_development.code.export import export_graph, export_keras

    export_keras(network, folder / "model.keras")
    export_graph(network, folder / "model.onnx")
