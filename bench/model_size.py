"""How large an inference graph is: counted in the graph itself, so that every architecture is counted alike."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
import onnx
from onnx import numpy_helper


class Size(NamedTuple):
    """Multiply-accumulates an image, and weights and biases; batch normalisation is part of them already."""

    macs: int
    parameters: int


def size_of(path: Path) -> Size:
    """Count a float graph's convolutions and dense layers."""
    model = onnx.load(path)
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 1
    graph = onnx.shape_inference.infer_shapes(model).graph
    weights = {weight.name: numpy_helper.to_array(weight) for weight in graph.initializer}
    shapes = {
        value.name: [side.dim_value for side in value.type.tensor_type.shape.dim]
        for value in (*graph.value_info, *graph.output)
    }
    weighted = [node for node in graph.node if node.op_type in {"Conv", "Gemm", "MatMul"}]
    return Size(
        macs=sum(_macs(weights[node.input[1]], shapes[node.output[0]], node.op_type) for node in weighted),
        parameters=sum(int(weight.size) for weight in weights.values() if weight.dtype == np.float32),
    )


def _macs(weight: np.ndarray, shape: list[int], operation: str) -> int:
    places = int(np.prod(shape[2:])) if operation == "Conv" else 1
    return places * int(weight.size)
