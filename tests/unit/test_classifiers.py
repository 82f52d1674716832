"""Choosing a runtime and loading a graph into it: what goes wrong is said, and nothing is reported to anybody."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import msgspec
import numpy as np
import pytest

from classifiers import loading
from classifiers.loading import PREFERRED, RUNTIMES, choose_runtime, load_classifiers, load_model
from handoff.artifacts import Artifact, read_artifact
from handoff.contracts.errors import ArtifactInvalid, MissingPackage
from handoff.settings import WorkerSettings

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def committed() -> Artifact:
    """The artifact that a worker serves by default."""
    return read_artifact(ROOT / WorkerSettings().model)


@pytest.fixture(params=PREFERRED)
def runtime(request: pytest.FixtureRequest) -> str:
    """A runtime that reads graphs, where it is installed."""
    name = str(request.param)
    pytest.importorskip({"onnx": "onnxruntime"}.get(name, name))
    return name


def test_the_settings_offer_every_runtime() -> None:
    """What can be loaded can be asked for, and `auto` beside it."""
    offered = msgspec.json.schema(WorkerSettings)["$defs"]["WorkerSettings"]["properties"]["runtime"]["enum"]
    assert set(offered) == {"auto", *RUNTIMES}


def test_auto_is_the_first_runtime_that_can_be_imported(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where OpenVINO is missing or made for another processor ONNX Runtime takes its place."""
    monkeypatch.setitem(loading.RUNTIMES, "openvino", "classifiers.no_such_module")
    assert choose_runtime() == "onnx"
    monkeypatch.setitem(loading.RUNTIMES, "openvino", "json")
    assert choose_runtime() == "openvino"


def test_a_missing_runtime_is_named(monkeypatch: pytest.MonkeyPatch, committed: Artifact) -> None:
    """One that was asked for by name is not replaced by another."""
    monkeypatch.setitem(loading.RUNTIMES, "openvino", "no_such_package")
    with pytest.raises(MissingPackage, match="'no_such_package' is needed for the runtime 'openvino'"):
        load_classifiers(committed, runtime="openvino", threads=1)


def test_there_is_a_classifier_a_thread(runtime: str, committed: Artifact) -> None:
    """Each answers for any number of images, also none, with arrays that are the caller's own."""
    first, second = load_classifiers(committed, runtime=runtime, threads=2)
    images = np.random.default_rng(0).integers(0, 256, (40, *committed.manifest.input_shape), np.uint8)
    first.warm_up([1, 8])
    found = first.classify(images)
    kept = found.copy()
    first.classify(images[::-1])
    assert (found == kept).all()
    assert (found.dtype, found.shape) == (np.float32, (40, len(committed.manifest.labels)))
    assert (second.classify(images) == found).all()
    assert first.classify(images[:0]).shape == (0, len(committed.manifest.labels))
    images.flags.writeable = False  # as images are that lie in a received batch
    assert (first.classify(images[::2]) == found[::2]).all()


def test_a_graph_that_is_none_is_refused(runtime: str, tmp_path: Path) -> None:
    """Bytes that are no graph, and a file that is not there, are an invalid artifact."""
    (tmp_path / "model.onnx").write_bytes(b"no graph at all")
    for name in ("model.onnx", "missing.onnx"):
        with pytest.raises(ArtifactInvalid, match=f"cannot run .*{name} .*train the model again"):
            load_model(tmp_path / name, runtime=runtime)


def test_a_graph_that_its_manifest_does_not_describe_is_refused(runtime: str, committed: Artifact) -> None:
    """Another shape, other labels, or no digest of what the runtime reads: said before anything is classified."""
    manifest = committed.manifest
    wrong = [
        (msgspec.structs.replace(manifest, input_shape=(32, 32, 3)), r"its manifest says \(32, 32, 3\) and 10"),
        (msgspec.structs.replace(manifest, labels=["a", "b"]), r"tells 10 labels apart, its manifest says .* and 2"),
        (msgspec.structs.replace(manifest, files={}), "gives no digest for model"),
    ]
    for changed, told in wrong:
        with pytest.raises(ArtifactInvalid, match=told):
            load_classifiers(Artifact(committed.path, changed), runtime=runtime)


def test_a_graph_that_reads_other_files_is_refused(runtime: str, committed: Artifact, tmp_path: Path) -> None:
    """External tensors, and OpenVINO's own format under the name of an ONNX file: no digest covers what they read."""
    location = b"\n\x08location\x12\x05w.bin"
    longer = b"\x8a\x00\x88\x80\x00location\x12\x05w.bin"  # the same to a parser
    graph = committed.graph_path.read_bytes()
    for hostile in (graph + location, graph + longer, b'<?xml version="1.0"?><net></net>', b""):
        changed = msgspec.structs.replace(committed, path=tmp_path)
        changed.graph_path.write_bytes(hostile)
        with pytest.raises(ArtifactInvalid, match="no ONNX graph in one file"):
            load_classifiers(changed, runtime=runtime)


def test_openvino_runs_powers_of_two() -> None:
    """Any number of images is cut into runs of few sizes, the larger ones first, none left out."""
    cut = pytest.importorskip("classifiers.openvino", exc_type=ImportError).cut
    for count in (0, 1, 2, 7, 100, 128, 129, 1_000):
        runs = list(cut(count))
        assert [place for run in runs for place in range(run.start, run.stop)] == list(range(count))
        assert {run.stop - run.start for run in runs} <= {1, 2, 4, 8, 16, 32, 64, 128}
    assert len(list(cut(255))) == 8


def test_openvino_tells_nobody(committed: Artifact, tmp_path: Path) -> None:
    """Importing and running it starts no process, looks up no host and leaves nothing in the home folder."""
    pytest.importorskip("openvino")
    watched = f"""
import sys
told = []
watched = ("socket.", "subprocess.", "os.posix_spawn", "os.fork", "os.exec", "urllib.")
sys.addaudithook(lambda event, _: told.append(event) if event.startswith(watched) else None)
from pathlib import Path
from classifiers.loading import load_model
import numpy as np
load_model(Path({str(committed.graph_path)!r}), runtime="openvino")[0].warm_up([1])
import threading
print(told, [name for name in sys.modules if "telemetry" in name], threading.active_count())
"""
    ended = subprocess.run(
        [sys.executable, "-c", watched],
        env={"PATH": "", "HOME": str(tmp_path), "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert ended.stdout.split() == ["[]", "[]", "1"]
    assert not list(tmp_path.iterdir())
