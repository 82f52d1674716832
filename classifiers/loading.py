"""The runtimes that a trained model can run in, here or behind a server: one module each, imported when chosen."""

from __future__ import annotations

import re
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Protocol, cast

from classifiers.protocol import Classifier, RemoteServer
from handoff.artifacts import Artifact
from handoff.contracts.errors import ArtifactInvalid, MissingPackage
from handoff.contracts.manifest import Manifest

LOCAL_RUNTIMES = {
    "openvino": "classifiers.openvino",
    "onnx": "classifiers.onnx",
    "keras": "classifiers.keras",
}
REMOTE_RUNTIME = "tf-serving"
RUNTIMES = {**LOCAL_RUNTIMES, REMOTE_RUNTIME: "classifiers.tf_serving"}
# What `auto` stands for: the first of these that can be imported here.
PREFERRED = ("openvino", "onnx")
REFERENCE_NAME = "model.keras"
# The field `ir_version`, which a serialised ModelProto begins with. OpenVINO goes by content: under the name of an
# ONNX file it would read its own XML, and the weights from the .bin file beside it.
_ONNX_BEGINS = b"\x08"
# The key that names the file of an external tensor (onnx.proto3, TensorProto.external_data), however its tag and its
# length are encoded.
_BESIDE = re.compile(rb"(?:\x0a|\x8a\x80*\x00)(?:\x08|\x88\x80*\x00)location")


class _Loaded(Classifier, Protocol):
    """What a runtime's module loads: a classifier that says what it takes and gives."""

    image_shape: tuple[int, ...]
    label_count: int


def load_classifiers(artifact: Artifact, *, runtime: str = "auto", threads: int = 1) -> list[Classifier]:
    """Load an artifact's model into a runtime of this process, for `threads` cores; one classifier an inference thread.

    Raises: ArtifactInvalid: the runtime cannot load it, or it is not the model that the manifest describes;
            MissingPackage: the runtime is not installed
    """
    path = artifact.path / REFERENCE_NAME if runtime == "keras" else artifact.graph_path
    manifest = artifact.manifest
    if path.name not in manifest.files:
        raise ArtifactInvalid(
            f"The manifest in {artifact.path} gives no digest for {path.name}; train the model again."
        )
    if runtime != "keras":
        _demand_whole(path)
    loaded = _load(path, runtime=runtime, threads=threads)
    found, promised = (loaded[0].image_shape, loaded[0].label_count), (manifest.input_shape, len(manifest.labels))
    if found != promised:
        raise ArtifactInvalid(
            f"{path} takes images of {found[0]} and tells {found[1]} labels apart, its manifest says {promised[0]} and"
            f" {promised[1]}; train the model again."
        )
    return list(loaded)


def connect_classifiers(manifest: Manifest, server: RemoteServer, *, threads: int = 1) -> list[Classifier]:
    """Reach the model that a server holds, and find it to be the manifest's; one classifier an inference thread.

    Raises: RuntimeUnavailable: the server does not answer; ArtifactInvalid: its model is another one;
            MissingPackage: what the remote runtime needs is not installed
    """
    module = _import_runtime(REMOTE_RUNTIME)
    return cast("list[Classifier]", module.connect(manifest, server, threads=threads))


def _demand_whole(path: Path) -> None:
    """Refuse a graph that reads other files: whatever lies there, no digest of the manifest's covers it."""
    graph = path.read_bytes()
    if not graph.startswith(_ONNX_BEGINS) or _BESIDE.search(graph):
        raise ArtifactInvalid(f"{path} is no ONNX graph in one file; train the model again.")


def load_model(path: Path, *, runtime: str = "auto", threads: int = 1) -> list[Classifier]:
    """Load one file, whatever its manifest says: an inference graph, or for `keras` a `.keras` file.

    Raises: ArtifactInvalid: the runtime cannot load it; MissingPackage: the runtime is not installed
    """
    return list(_load(path, runtime=runtime, threads=threads))


def choose_runtime() -> str:
    """The name of the fastest runtime that can be imported; the last one's where none can."""
    for name in PREFERRED[:-1]:
        try:
            _import_runtime(name)
        except MissingPackage:
            continue
        return name
    return PREFERRED[-1]


def _load(path: Path, *, runtime: str, threads: int) -> list[_Loaded]:
    module = _import_runtime(choose_runtime() if runtime == "auto" else runtime)
    return cast("list[_Loaded]", module.load(path, threads=threads))


def _import_runtime(name: str) -> ModuleType:
    try:
        return import_module(RUNTIMES[name])
    except ImportError as error:  # not installed, or not for this processor or system
        raise MissingPackage(error.name or "?", needed_for=f"the runtime {name!r}") from error
