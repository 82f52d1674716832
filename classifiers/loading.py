"""The runtimes that a trained model can run in: one module each, imported when it is chosen."""

from __future__ import annotations

from importlib import import_module
from typing import cast

from classifiers.protocol import Classifier
from handoff.artifacts import Artifact
from handoff.contracts.errors import MissingPackage

RUNTIMES = {
    "onnx": "classifiers.onnx",
    "keras": "classifiers.keras",
}


def load_classifiers(artifact: Artifact, *, runtime: str, threads: int) -> list[Classifier]:
    """Load an artifact's model into a runtime that may use `threads` cores; one classifier an inference thread.

    Raises: ArtifactInvalid: the runtime cannot load it; MissingPackage: the runtime is not installed
    """
    try:
        module = import_module(RUNTIMES[runtime])
    except ModuleNotFoundError as error:
        raise MissingPackage(error.name or "?", needed_for=f"the runtime {runtime!r}") from error
    return cast("list[Classifier]", module.load(artifact, threads=threads))
