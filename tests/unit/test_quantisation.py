"""The int8 graph: what becomes int8, what stays float, and how its cost is measured."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from classifiers.loading import load_model

onnx = pytest.importorskip("onnx", reason="the trainer's packages are not installed")
quantisation = pytest.importorskip("ml_model_development.code.quantisation", exc_type=ImportError)

NETWORK = """
<ir_version: 8, opset_import: ["" : 15]>
network (uint8[N,{side},{side},{channels}] images) => (float[N,{labels}] probabilities)
<float half = {{127.5}}, float one = {{1.0}}>
{{
    pixels = Cast<to = 1>(images)
    scaled = Div(pixels, half)
    standard = Sub(scaled, one)
    places = Transpose<perm = [0, 3, 1, 2]>(standard)
    stem = Conv<pads = [1, 1, 1, 1]>(places, stem_kernel)
    early = Relu(stem)
    branch = Conv<pads = [1, 1, 1, 1]>(early, branch_kernel)
    sum = Add(early, branch)
    late = Relu(sum)
    maxima = GlobalMaxPool(late)
    flat = Flatten(maxima)
    scores = Gemm(flat, score_weights, score_biases)
    probabilities = Softmax<axis = -1>(scores)
}}
"""


def write_network(path: Path, *, side: int, channels: int, labels: int) -> Path:
    """A residual network with random weights, as an exporter would write it."""
    generator = np.random.default_rng(3)
    model = onnx.parser.parse_model(NETWORK.format(side=side, channels=channels, labels=labels))
    weights = {
        "stem_kernel": (8, channels, 3, 3),
        "branch_kernel": (8, 8, 3, 3),
        "score_weights": (8, labels),
        "score_biases": (labels,),
    }
    for name, shape in weights.items():
        values = generator.normal(0, 0.3, shape).astype(np.float32)
        model.graph.initializer.append(onnx.numpy_helper.from_array(values, name))
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, path)
    return path


@pytest.fixture(params=[(8, 1, 3, 1), (32, 3, 5, 40), (28, 1, 2, 3_000)], ids=lambda found: "x".join(map(str, found)))
def graphs(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Path, Path, np.ndarray]:
    """A float graph, its int8 one, and the images it was calibrated on: from a single one to more than are needed."""
    side, channels, labels, count = request.param
    images = np.random.default_rng(4).integers(0, 256, (count, side, side, channels), np.uint8)
    float_path = write_network(tmp_path / "model.onnx", side=side, channels=channels, labels=labels)
    quantisation.quantise_graph(float_path, tmp_path / quantisation.INT8_NAME, images)
    return float_path, tmp_path / quantisation.INT8_NAME, images


def test_any_shape_and_any_number_of_images_gives_a_graph_that_answers_alike(
    graphs: tuple[Path, Path, np.ndarray],
) -> None:
    """Gray or coloured, two labels or five, calibrated on one image or on thousands."""
    float_path, int8_path, images = graphs
    reference, found = (load_model(path, runtime="onnx")[0].classify(images) for path in (float_path, int8_path))
    assert np.abs(found - reference).max() < 0.05
    assert found.sum(axis=1) == pytest.approx(1.0, abs=1e-5)


def test_convolutions_and_the_residual_sum_are_int8_and_both_ends_stay_float(
    graphs: tuple[Path, Path, np.ndarray],
) -> None:
    """What is large is quantised; pixels, scores and softmax are not, and names stay the contract's."""
    graph = onnx.load(graphs[1]).graph
    makers = {output: node.op_type for node in graph.node for output in node.output}
    givers = {node.op_type: [makers.get(name) for name in node.input] for node in graph.node}
    assert set(givers["Conv"]) == {"DequantizeLinear"}
    assert set(givers["Add"]) == {"DequantizeLinear"}
    assert givers["Softmax"] == ["Gemm"]
    assert givers["Div"][0] == "Cast"
    assert (graph.input[0].name, graph.output[0].name) == ("images", "probabilities")
    assert makers["probabilities"] == "Softmax"
    assert graph.input[0].type.tensor_type.shape.dim[0].dim_param == "N"


def test_equal_images_give_equal_graphs(tmp_path: Path) -> None:
    """Calibration draws nothing by chance, and images in the order of their labels are sampled from all of them."""
    float_path = write_network(tmp_path / "model.onnx", side=8, channels=1, labels=3)
    dark_then_light = np.repeat(np.arange(0, 250, 50, dtype=np.uint8), 1_000)
    images = np.broadcast_to(dark_then_light[:, None, None, None], (5_000, 8, 8, 1))
    for name in ("first.onnx", "again.onnx"):
        quantisation.quantise_graph(float_path, tmp_path / name, images)
    assert (tmp_path / "first.onnx").read_bytes() == (tmp_path / "again.onnx").read_bytes()
    quantisation.quantise_graph(float_path, tmp_path / "dark.onnx", images[:1_000])
    light = images[-1:]
    reference, fair, unfair = (
        load_model(tmp_path / name, runtime="onnx")[0].classify(light)
        for name in ("model.onnx", "first.onnx", "dark.onnx")
    )
    assert np.abs(fair - reference).max() < np.abs(unfair - reference).max()


def test_the_cost_is_measured_against_the_truth() -> None:
    """Two labels of four change, one for the better and one for the worse: the accuracy stays."""
    reference = np.array([[0.6, 0.4], [0.6, 0.4], [0.2, 0.8], [0.9, 0.1]], np.float32)
    quantised = np.array([[0.4, 0.6], [0.4, 0.6], [0.2, 0.8], [0.9, 0.1]], np.float32)
    cost = quantisation.measure_quantisation(reference, quantised, np.array([0, 1, 1, 0]))
    assert (cost.labels_changed, cost.accuracy_change) == (2, 0.0)
    assert cost.largest_difference == pytest.approx(0.2)
    assert cost.mean_difference == pytest.approx(0.1)
    assert cost.worth_serving
    worse = quantisation.measure_quantisation(reference, quantised, np.array([0, 0, 1, 0]))
    assert worse.accuracy_change == -0.5
    assert not worse.worth_serving
