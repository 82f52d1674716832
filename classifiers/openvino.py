"""OpenVINO, in process: the fastest way here to run an int8 graph on one core of a processor."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from classifiers.protocol import Images, Probabilities
from handoff.contracts.errors import ArtifactInvalid

# OpenVINO's package imports its model converter, which reports that import to its vendor and writes an identity for it
# into the home folder. OpenVINO itself does without the converter, and imports in half the time.
_CONVERTER = "openvino.tools.ovc"

# A run of a size that was not seen before takes 10 ms more and its plan stays in memory (all sizes up to 128: 170 MB),
# so a graph is run at powers of two alone. More images a run than this are not classified faster.
_LARGEST_RUN = 128

_OPTIONS = {
    # One stream of one thread a compiled graph: a run stays in the thread that asks for it.
    "NUM_STREAMS": 1,
    "INFERENCE_NUM_THREADS": 1,
    # Workers beside each other would pin their threads to the same cores.
    "ENABLE_CPU_PINNING": False,
}


@contextmanager
def _not_installed(name: str) -> Iterator[None]:
    """Make a module's import fail as if it were not installed; one that is imported already stays."""
    if name in sys.modules:
        yield
        return
    sys.modules[name] = None  # type: ignore[assignment]  # so Python is told that an import must fail
    try:
        yield
    finally:
        del sys.modules[name]


with _not_installed(_CONVERTER):
    import openvino


def load(path: Path, *, threads: int, precision: str = "f32") -> list[OpenVinoClassifier]:
    """Compile an inference graph once a thread, its float layers in `f32` or, where the processor can, in `bf16`.

    One graph compiled with a stream a thread loads 0.1 s sooner and is slower: by 5 % with two threads at work, by 15 %
    with one of them, since each run is handed to a thread of the stream's.

    Raises: ArtifactInvalid: OpenVINO cannot run the graph
    """
    core = openvino.Core()
    # Left to itself OpenVINO takes bf16 where it can. A float graph then runs twice as fast, and off by up to 0.02 of a
    # probability and 5 labels in 10,000; an int8 graph, which is faster still, gains nothing.
    options = {**_OPTIONS, "INFERENCE_PRECISION_HINT": precision}
    try:
        graph = core.read_model(path)
        return [OpenVinoClassifier(core.compile_model(graph, "CPU", options)) for _ in range(threads)]
    except RuntimeError as error:
        raise ArtifactInvalid(
            f"OpenVINO cannot run {path} ({' '.join(str(error).split())}); train the model again."
        ) from error


def cut(count: int) -> Iterator[slice]:
    """Cut a number of images into runs of powers of two, the large ones first."""
    start = 0
    while start < count:
        size = min(_LARGEST_RUN, 1 << ((count - start).bit_length() - 1))
        yield slice(start, start + size)
        start += size


class OpenVinoClassifier:
    """The exported graph, compiled for one thread; preprocessing is part of it."""

    def __init__(self, graph: openvino.CompiledModel) -> None:
        self.image_shape = tuple(side.get_length() for side in list(graph.inputs[0].partial_shape)[1:])
        self.label_count = int(graph.outputs[0].partial_shape[1].get_length())
        self._request = graph.create_infer_request()

    def classify(self, images: Images) -> Probabilities:
        """Classify images in a few runs of the graph."""
        probabilities = np.empty((len(images), self.label_count), np.float32)
        for run in cut(len(images)):
            given = np.require(images[run], requirements=["C", "W"])
            # `infer(given)` would do the same 75 us later: a third of the time that one image takes.
            self._request.set_input_tensor(openvino.Tensor(given, shared_memory=True))
            self._request.infer()
            probabilities[run] = self._request.get_output_tensor().data  # a copy: the next run writes there again
        return probabilities

    def warm_up(self, sizes: list[int]) -> None:
        """Let the runtime plan for every size of a run that these sizes lead to."""
        largest = min(max(sizes), _LARGEST_RUN)
        one_of_each = (1 << largest.bit_length()) - 1
        self.classify(np.zeros((one_of_each, *self.image_shape), np.uint8))
