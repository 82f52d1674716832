"""ONNX Runtime, in process: ready in a fraction of a second, without TensorFlow."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnxruntime
from onnxruntime.capi.onnxruntime_pybind11_state import Fail, InvalidGraph, InvalidProtobuf, NoSuchFile
from onnxruntime.capi.onnxruntime_pybind11_state import NotImplemented as NotSupported

from classifiers.protocol import Images, Probabilities
from handoff.contracts.errors import ArtifactInvalid


def load(path: Path, *, threads: int) -> list[OnnxClassifier]:
    """Load an inference graph once, to be run by `threads` threads, each on one core.

    Two threads that each classify a micro-batch of their own waste less than one micro-batch cut in two: neither waits
    for the other when a third thread takes its core (docs/decisions/0004-inference-threads.md).

    Raises: ArtifactInvalid: ONNX Runtime cannot run the graph
    """
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    try:
        session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    except (Fail, InvalidGraph, InvalidProtobuf, NoSuchFile, NotSupported) as error:
        raise ArtifactInvalid(
            f"ONNX Runtime cannot run {path} ({' '.join(str(error).split())}); train the model again."
        ) from error
    return [OnnxClassifier(session) for _ in range(threads)]


class OnnxClassifier:
    """The exported graph; preprocessing is part of it."""

    def __init__(self, session: onnxruntime.InferenceSession) -> None:
        (images,), (probabilities,) = session.get_inputs(), session.get_outputs()
        self.image_shape = tuple(images.shape[1:])
        self.label_count = int(probabilities.shape[1])
        self._session = session
        self._input_name = images.name

    def classify(self, images: Images) -> Probabilities:
        """Classify images in one run of the graph."""
        probabilities: Probabilities = self._session.run(None, {self._input_name: images})[0]
        return probabilities

    def warm_up(self, sizes: list[int]) -> None:
        """Let the runtime plan and allocate for each size."""
        for size in sizes:
            self.classify(np.zeros((size, *self.image_shape), np.uint8))
