"""The manifest and the artifact: what a worker accepts and, above all, what it refuses."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from handoff.artifacts import MANIFEST_NAME, digest_file, read_artifact, write_manifest
from handoff.contracts.errors import ArtifactInvalid
from handoff.contracts.manifest import Manifest, decode_manifest, encode_manifest

FIELDS: Mapping[str, Any] = {
    "manifest_version": 1,
    "name": "fashion-mnist-cnn",
    "version": "1",
    "labels": ["shirt", "shoe"],
    "input_shape": [28, 28, 1],
    "input_dtype": "uint8",
    "files": {"model.onnx": "sha256:" + "0" * 64},
    "graph": "model.onnx",
    "accuracy": 0.93,
    "validation_accuracy": 0.931,
    "seed": 1,
    "preset": "quick",
    "commit": "unknown",
    "packages": {"keras": "3.15.1"},
    "created_at": "2026-01-01T00:00:00+00:00",
}


def _encode(**changes: object) -> bytes:
    return json.dumps({**FIELDS, **changes}).encode()


def test_a_manifest_survives_a_round_trip() -> None:
    """What is written is what is read."""
    manifest = decode_manifest(_encode())
    assert decode_manifest(encode_manifest(manifest)) == manifest
    assert manifest.input_shape == (28, 28, 1)


def test_fields_of_later_releases_are_ignored() -> None:
    """A field that this release does not know is no reason to refuse."""
    assert decode_manifest(_encode(quantised=True)).name == "fashion-mnist-cnn"


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"manifest_version": 2}, "manifest version 2"),
        ({"labels": ["shirt"]}, "labels"),
        ({"labels": ["shirt", "shirt"]}, "names a label twice"),
        ({"labels": ["shirt", ""]}, "labels"),
        ({"input_shape": [28, 28]}, "input_shape"),
        ({"input_shape": [28, 0, 1]}, "input_shape"),
        ({"input_dtype": "float32"}, "input_dtype"),
        ({"files": {"../model.onnx": "sha256:" + "0" * 64}}, "files"),
        ({"files": {"a/model.onnx": "sha256:" + "0" * 64}}, "files"),
        ({"files": {"model.onnx": "md5:0"}}, "files"),
        ({"saved_model": {"saved_model/../x": "sha256:" + "0" * 64}}, "saved_model"),
        ({"saved_model": {"saved_model/1/.hidden": "sha256:" + "0" * 64}}, "saved_model"),
        ({"saved_model": {"/etc/passwd": "sha256:" + "0" * 64}}, "saved_model"),
        ({"saved_model": {"other/1/x": "sha256:" + "0" * 64}}, "saved_model"),
        ({"saved_model": {"saved_model": "sha256:" + "0" * 64}}, "saved_model"),
        ({"saved_model": {"saved_model/1/x": "0"}}, "saved_model"),
        ({"graph": "other.onnx"}, "gives no digest"),
        ({"graph": "../model.onnx"}, "graph"),
        ({"accuracy": 93.0}, "accuracy"),
        ({"version": "1/2"}, "version"),
    ],
)
def test_an_unusable_manifest_is_refused(changes: dict[str, object], said: str) -> None:
    """Every unusable field is refused by name, with what to do."""
    with pytest.raises(ArtifactInvalid, match=said) as refusal:
        decode_manifest(_encode(**changes), name="there/manifest.json")
    assert str(refusal.value).startswith("there/manifest.json")
    assert "train" in str(refusal.value)


@pytest.mark.parametrize("field", [name for name in FIELDS if name not in {"manifest_version", "input_dtype"}])
def test_a_missing_field_is_refused_by_name(field: str) -> None:
    """A manifest that leaves something out is refused."""
    raw = json.dumps({name: value for name, value in FIELDS.items() if name != field}).encode()
    with pytest.raises(ArtifactInvalid, match=f"`{field}`"):
        decode_manifest(raw)


@pytest.mark.parametrize(
    "raw",
    [b"", b"{", b"[]", b"null", b"{}", b"\xff\xfe", b'{"manifest_version": 1, "\xff": 1}', b'{"x":' + b"[" * 100_000],
    ids=lambda raw: ascii(raw[:30]),
)
def test_what_is_no_manifest_is_refused(raw: bytes) -> None:
    """Bytes that are no JSON object with a version are refused."""
    with pytest.raises(ArtifactInvalid, match="no model manifest"):
        decode_manifest(raw)


@pytest.fixture
def artifact(tmp_path: Path) -> Path:
    """A complete artifact with a made-up graph."""
    (tmp_path / "model.onnx").write_bytes(b"a graph")
    (tmp_path / "model.keras").write_bytes(b"a reference")
    files = {name: digest_file(tmp_path / name) for name in ("model.onnx", "model.keras")}
    write_manifest(tmp_path, decode_manifest(_encode(files=files)))
    return tmp_path


def test_a_complete_artifact_is_read(artifact: Path) -> None:
    """A sound artifact tells its graph and that graph's digest."""
    read = read_artifact(artifact)
    assert isinstance(read.manifest, Manifest)
    assert read.graph_path.read_bytes() == b"a graph"
    assert read.graph_digest == digest_file(read.graph_path)
    assert [path.name for path in artifact.glob("*.partial")] == []


@pytest.mark.parametrize("name", ["model.onnx", "model.keras"])
def test_a_changed_file_is_refused(artifact: Path, name: str) -> None:
    """A file that is not what was trained is not served."""
    (artifact / name).write_bytes(b"another")
    with pytest.raises(ArtifactInvalid, match=rf"{name} has changed"):
        read_artifact(artifact)


@pytest.mark.parametrize("name", ["model.onnx", "model.keras", MANIFEST_NAME])
def test_a_missing_file_is_refused(artifact: Path, name: str) -> None:
    """An artifact that lacks a file is refused by that file's name."""
    (artifact / name).unlink()
    with pytest.raises(ArtifactInvalid, match=name):
        read_artifact(artifact)


@pytest.mark.parametrize("name", ["manifest.json", "model.onnx"])
def test_what_is_no_file_is_refused(artifact: Path, name: str) -> None:
    """A pipe or a device would be read without end; a folder not at all."""
    (artifact / name).unlink()
    os.mkfifo(artifact / name)
    with pytest.raises(ArtifactInvalid, match=f"{name} is no file"):
        read_artifact(artifact)
    (artifact / name).unlink()
    (artifact / name).symlink_to("/dev/zero")
    with pytest.raises(ArtifactInvalid, match=f"{name} is no file"):
        read_artifact(artifact)


def test_a_missing_folder_is_refused(tmp_path: Path) -> None:
    """A folder that is not there is said to be missing."""
    with pytest.raises(ArtifactInvalid, match="no artifact folder"):
        read_artifact(tmp_path / "7")


def test_an_oversized_manifest_is_refused_before_it_is_parsed(artifact: Path) -> None:
    """A manifest of megabytes is somebody's mistake."""
    (artifact / MANIFEST_NAME).write_bytes(b" " * (2 << 20))
    with pytest.raises(ArtifactInvalid, match="over 1048576 bytes"):
        read_artifact(artifact)


def test_the_shipped_artifact_holds() -> None:
    """The artifact in the repository is sound, and small enough to be there."""
    shipped = Path(__file__).parents[2] / "ml_model_development" / "artifacts" / "1"
    read = read_artifact(shipped)
    assert set(read.manifest.files) == {"model.keras", "model.onnx", "model.int8.onnx"}
    assert len(read.manifest.labels) == 10
    assert read.manifest.accuracy >= 0.9
    assert sum(path.stat().st_size for path in shipped.iterdir()) <= 8_000_000
