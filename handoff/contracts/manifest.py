"""The manifest of a model artifact: what a worker must know, and hold true, before it serves the model."""

from __future__ import annotations

from typing import Annotated, Final, Literal

import msgspec
from msgspec import Meta, Struct

from handoff.contracts.errors import ArtifactInvalid

MANIFEST_VERSION: Final = 1

SAVED_MODEL_NAME: Final = "saved_model"
"""The folder of an artifact that TensorFlow Serving is pointed at: in it a folder a version."""

FileName = Annotated[str, Meta(pattern=r"\A[A-Za-z0-9][A-Za-z0-9._-]{0,127}\Z")]
# Folders below the artifact's own: each name begins with a letter or digit, so that none leads out of it.
FilePath = Annotated[str, Meta(pattern=r"\Asaved_model(/[A-Za-z0-9][A-Za-z0-9._-]{0,127}){1,8}\Z")]
Digest = Annotated[str, Meta(pattern=r"\Asha256:[0-9a-f]{64}\Z")]
Name = Annotated[str, Meta(pattern=r"\A[A-Za-z0-9][A-Za-z0-9._-]{0,63}\Z")]
Fraction = Annotated[float, Meta(ge=0.0, le=1.0)]
Side = Annotated[int, Meta(ge=1, le=4096)]


class Manifest(Struct, frozen=True, kw_only=True):
    """What one version of a model is, where it comes from and how good it was.

    Units: accuracy and validation_accuracy are fractions of images classified correctly
    """

    manifest_version: Literal[1] = MANIFEST_VERSION
    name: Name
    version: Name
    labels: Annotated[list[Annotated[str, Meta(min_length=1)]], Meta(min_length=2)]
    """The name of each label, at the place of its id."""
    input_shape: tuple[Side, Side, Annotated[int, Meta(ge=1, le=4)]]
    """Height, width and channels of the images it takes."""
    input_dtype: Literal["uint8"] = "uint8"
    files: dict[FileName, Digest]
    """Every served file of the artifact's folder with its digest."""
    saved_model: dict[FilePath, Digest] = {}
    """Every file of the folder `saved_model`, by its path, with its digest; none where there is no such folder."""
    graph: FileName
    """Which of `files` an in-process runtime loads: raw pixels in, probabilities out."""
    accuracy: Fraction
    """On the test split, read once, after training."""
    validation_accuracy: Fraction
    """On the images held back from the training split."""
    seed: int
    preset: str
    commit: str
    """The revision of the code that trained it; "unknown" outside a checkout."""
    packages: dict[str, str]
    """Name and version of each package that shaped the result."""
    created_at: str
    """RFC 3339."""


class _Version(Struct):
    manifest_version: int


_versions, _manifests = msgspec.json.Decoder(_Version), msgspec.json.Decoder(Manifest)


def encode_manifest(manifest: Manifest) -> bytes:
    """Write a manifest as indented JSON, for people and programs."""
    return msgspec.json.format(msgspec.json.encode(manifest), indent=2) + b"\n"


def decode_manifest(raw: bytes, *, name: str = "manifest.json") -> Manifest:
    """Read a manifest and hold it to its own promises; fields that are not known here are ignored.

    Raises: ArtifactInvalid: not JSON, another manifest version, a field missing or unusable, or fields that disagree
    """
    try:
        found = _versions.decode(raw).manifest_version
        if found != MANIFEST_VERSION:
            raise ArtifactInvalid(
                f"{name} has manifest version {found}, this program reads {MANIFEST_VERSION};"
                " serve it with the release that trained it, or train the model again."
            )
        manifest = _manifests.decode(raw)
    except (ValueError, RecursionError) as error:  # ValueError covers msgspec's errors and bytes that are not UTF-8
        raise ArtifactInvalid(f"{name} is no model manifest ({error}); train the model again.") from error
    if problem := _find_disagreement(manifest):
        raise ArtifactInvalid(f"{name} {problem}; train the model again.")
    return manifest


def _find_disagreement(manifest: Manifest) -> str | None:
    if len(set(manifest.labels)) != len(manifest.labels):
        return "names a label twice"
    if manifest.graph not in manifest.files:
        return f"calls {manifest.graph} its graph but gives no digest for it"
    return None
