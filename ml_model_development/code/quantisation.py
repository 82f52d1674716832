"""Write an inference graph whose convolutions count in 8-bit integers, and measure what that costs."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnxruntime.quantization import CalibrationDataReader, CalibrationMethod, QuantFormat, QuantType, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process

INT8_NAME = "model.int8.onnx"
# More images change neither ranges nor answers: 512 and 2,048 gave the same accuracy to one image in a thousand.
CALIBRATION_COUNT = 1_024
# A graph that loses more than this against its float reference, on images it was not trained on, is not served.
MOST_ACCURACY_LOST = 0.001

_BATCH_SIZE = 64
_WEIGHTED = frozenset({"Conv", "Gemm", "MatMul"})


@dataclass(frozen=True, kw_only=True)
class Quantisation:
    """How far an int8 graph is from its float reference on the same images."""

    labels_changed: int
    accuracy_change: float
    """int8 less float; negative where int8 is worse."""
    largest_difference: float
    """Of a probability."""
    mean_difference: float

    @property
    def worth_serving(self) -> bool:
        """Whether the accuracy that is lost is small enough for the speed that is won."""
        return self.accuracy_change >= -MOST_ACCURACY_LOST


def quantise_graph(float_path: Path, int8_path: Path, calibration_images: NDArray[np.uint8]) -> None:
    """Write a graph that takes and gives the same, with int8 weights a channel and uint8 features between the layers.

    Features and weights are marked by pairs of QuantizeLinear and DequantizeLinear, which runtimes fuse into int8
    convolutions, residual additions included. The range of each feature map is the smallest and largest value that the
    calibration images give it: leaving out one value in 10,000 changed two to three times as many labels.

    Shapes: calibration_images uint8 (N, H, W, C); CALIBRATION_COUNT of them are used, taken evenly
    """
    with TemporaryDirectory() as folder:
        prepared = Path(folder) / "prepared.onnx"
        # Shapes are static but for the batch's, which symbolic inference would need SymPy to follow.
        quant_pre_process(float_path, prepared, skip_symbolic_shape=True)
        model = onnx.load(prepared)
        _name_nodes(model.graph)
        quantize_static(
            model,
            int8_path,
            _Calibration(model.graph.input[0].name, _take_evenly(calibration_images, CALIBRATION_COUNT)),
            quant_format=QuantFormat.QDQ,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            per_channel=True,
            reduce_range=True,  # 7 bits: sums of two 8-bit products overflow where a processor has no VNNI
            calibrate_method=CalibrationMethod.MinMax,
            nodes_to_exclude=_float_nodes(model.graph),
        )


def measure_quantisation(
    reference: NDArray[np.float32], quantised: NDArray[np.float32], truth: NDArray[np.int64]
) -> Quantisation:
    """Compare an int8 graph's probabilities with those of its float reference.

    Shapes: reference and quantised (N, K), truth (N,)
    """
    expected, found = reference.argmax(axis=1), quantised.argmax(axis=1)
    difference = np.abs(reference - quantised)
    return Quantisation(
        labels_changed=int((expected != found).sum()),
        accuracy_change=float((found == truth).mean() - (expected == truth).mean()),
        largest_difference=float(difference.max()),
        mean_difference=float(difference.mean()),
    )


class _Calibration(CalibrationDataReader):  # type: ignore[misc]  # ONNX Runtime annotates nothing
    """Images in batches, as ONNX Runtime asks for them."""

    def __init__(self, input_name: str, images: NDArray[np.uint8]) -> None:
        self._batches = (
            {input_name: images[start : start + _BATCH_SIZE]} for start in range(0, len(images), _BATCH_SIZE)
        )

    def get_next(self) -> dict[str, Any] | None:
        """The next batch, or None after the last."""
        return next(self._batches, None)


def _take_evenly(images: NDArray[np.uint8], count: int) -> NDArray[np.uint8]:
    """So many images, all if there are fewer, from the whole array: it may be in the order of its labels."""
    places = np.linspace(0, len(images) - 1, num=min(count, len(images)))
    return images[places.astype(np.intp)]


def _name_nodes(graph: onnx.GraphProto) -> None:
    """Give each node a name of its own: by their names the quantiser is told which to leave out."""
    for place, node in enumerate(graph.node):
        node.name = f"{node.op_type}_{place}"


def _float_nodes(graph: onnx.GraphProto) -> list[str]:
    """The ends that stay float: the pixels' standardisation, and from the scores on, where no sum evens errors out."""
    weighted = [place for place, node in enumerate(graph.node) if node.op_type in _WEIGHTED]
    first, last = (weighted[0], weighted[-1]) if weighted else (0, 0)
    return [node.name for place, node in enumerate(graph.node) if place < first or place >= last]
