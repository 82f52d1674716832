"""Model artifacts on disk: `artifacts/<version>/`, served only while its manifest and digests hold."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path

from msgspec import Struct

from handoff.contracts.errors import ArtifactInvalid
from handoff.contracts.manifest import SAVED_MODEL_NAME, Manifest, decode_manifest, encode_manifest

MANIFEST_NAME = "manifest.json"
# A manifest is about 1 kB; a thousand times that is somebody's mistake.
_MAX_MANIFEST_BYTES = 1024 * 1024


class Artifact(Struct, frozen=True):
    """One version of a model whose files were those its manifest names when it was read."""

    path: Path
    manifest: Manifest

    @property
    def graph_path(self) -> Path:
        """The inference graph an in-process runtime loads."""
        return self.path / self.manifest.graph

    @property
    def graph_digest(self) -> str:
        """The graph's digest, `sha256:` and 64 hexadecimal digits: the identity of what answers."""
        return self.manifest.files[self.manifest.graph]


def read_artifact(path: Path, *, with_files: bool = True) -> Artifact:
    """Read an artifact's manifest and verify every file it names.

    Where a server holds the model nothing but the manifest is needed: without `with_files` no other file is looked at.

    Raises: ArtifactInvalid: folder, manifest or file missing, manifest unusable, or a file changed since training
    """
    if not path.is_dir():
        raise ArtifactInvalid(f"There is no artifact folder {path}; train a model, or name the folder of one.")
    raw = _read_manifest(path / MANIFEST_NAME)
    manifest = decode_manifest(raw, name=str(path / MANIFEST_NAME))
    for name, digest in _files_to_verify(path, manifest).items() if with_files else ():
        _verify(path / name, digest)
    return Artifact(path, manifest)


def _files_to_verify(path: Path, manifest: Manifest) -> Mapping[str, str]:
    """Workers need no SavedModel, so a copy of an artifact may leave it out; one that is there must be whole."""
    there = (path / SAVED_MODEL_NAME).exists()
    return {**manifest.files, **(manifest.saved_model if there else {})}


def write_manifest(path: Path, manifest: Manifest) -> None:
    """Complete an artifact: its manifest is written last, so that a folder without one is never served."""
    unfinished = path / f"{MANIFEST_NAME}.partial"
    unfinished.write_bytes(encode_manifest(manifest))
    unfinished.replace(path / MANIFEST_NAME)


def digest_file(path: Path) -> str:
    """Digest a file's bytes as a manifest states them: `sha256:` and 64 hexadecimal digits."""
    with path.open("rb") as file:
        return "sha256:" + hashlib.file_digest(file, "sha256").hexdigest()


def digest_folder(path: Path, name: str) -> dict[str, str]:
    """Digest every file in a folder of an artifact, however deep, by its path from the artifact's own."""
    found = sorted(file for file in (path / name).rglob("*") if file.is_file())
    return {file.relative_to(path).as_posix(): digest_file(file) for file in found}


def _read_manifest(path: Path) -> bytes:
    _demand_file(path)
    try:
        with path.open("rb") as file:
            raw = file.read(_MAX_MANIFEST_BYTES + 1)
    except FileNotFoundError as error:
        raise ArtifactInvalid(
            f"{path} is missing: {path.parent.name} is no artifact, or its training did not finish; train a model."
        ) from error
    except OSError as error:
        raise ArtifactInvalid(f"{path} cannot be read ({error.strerror}); check its permissions.") from error
    if len(raw) > _MAX_MANIFEST_BYTES:
        raise ArtifactInvalid(f"{path} is over {_MAX_MANIFEST_BYTES} bytes, so no manifest; train the model again.")
    return raw


def _demand_file(path: Path) -> None:
    # A device has no end, and a pipe's comes when its writer wants.
    if path.exists() and not path.is_file():
        raise ArtifactInvalid(f"{path} is no file; restore it or train again.")


def _verify(path: Path, digest: str) -> None:
    _demand_file(path)
    try:
        found = digest_file(path)
    except FileNotFoundError as error:
        raise ArtifactInvalid(f"{path} is named in the manifest but missing; restore it or train again.") from error
    except OSError as error:
        raise ArtifactInvalid(f"{path} cannot be read ({error.strerror}); check its permissions.") from error
    if found != digest:
        raise ArtifactInvalid(
            f"{path} has changed since its manifest was written ({found}, not {digest}); restore it or train again."
        )
