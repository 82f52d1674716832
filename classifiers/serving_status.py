"""What a TensorFlow Serving tells of a model: which version it serves, and what that takes and gives."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta, Struct, field

from handoff.contracts.errors import RuntimeUnavailable
from handoff.contracts.manifest import Manifest

SIGNATURE = "serving_default"
"""The signature that a call asks for by naming none."""
# An int64 in JSON is a string, to Protocol Buffers; other servers may write a number.
_Whole = Annotated[str, Meta(pattern=r"\A-?[0-9]{1,19}\Z")] | int
_UNKNOWN_SIDE = -1


class _VersionStatus(Struct):
    version: _Whole
    state: str = "UNKNOWN"


class _Status(Struct):
    model_version_status: list[_VersionStatus]


class _Readiness(Struct):
    """What KServe says: ready or not, and nothing of versions."""

    ready: bool


class _Side(Struct):
    size: _Whole = _UNKNOWN_SIDE


class _Shape(Struct):
    dim: list[_Side] = []
    unknown_rank: bool = False


class _Tensor(Struct):
    dtype: str = ""
    tensor_shape: _Shape = field(default_factory=_Shape)


class _Signature(Struct):
    inputs: dict[str, _Tensor] = {}
    outputs: dict[str, _Tensor] = {}


class _Signatures(Struct):
    signature_def: dict[str, _Signature]


class _About(Struct):
    signature_def: _Signatures


class _Metadata(Struct):
    metadata: _About


_statuses, _readiness = msgspec.json.Decoder(_Status), msgspec.json.Decoder(_Readiness)
_metadata = msgspec.json.Decoder(_Metadata)


def newest_version(text: bytes, *, server: str) -> str | None:
    """The newest version that is served, from the answer to a question for a model's status; None where none is named.

    Raises: RuntimeUnavailable: none is served now, or the answer is another one
    """
    try:
        found = _statuses.decode(text).model_version_status
    except (ValueError, RecursionError):
        _demand_ready(text, server)
        return None
    served = [int(each.version) for each in found if each.state == "AVAILABLE"]
    if not served:
        states = ", ".join(f"version {each.version} is {each.state}" for each in found)
        raise RuntimeUnavailable(f"{server} has no version to serve now ({states or 'it lists none'}).")
    return str(max(served))


def _demand_ready(text: bytes, server: str) -> None:
    try:
        ready = _readiness.decode(text).ready
    except (ValueError, RecursionError) as error:
        raise RuntimeUnavailable(
            f"{server} answers, but does not tell the status of a model; is it a TensorFlow Serving?"
        ) from error
    if not ready:
        raise RuntimeUnavailable(f"The model at {server} is not ready.")


def find_mismatch(text: bytes, manifest: Manifest) -> str:
    """In what a served model, by its metadata, is not the one that a manifest describes; empty for nothing.

    What the metadata leave open, a size or a rank, agrees with everything; so does what is no metadata.
    """
    try:
        signatures = _metadata.decode(text).metadata.signature_def.signature_def
    except (ValueError, RecursionError):
        return ""
    signature = signatures.get(SIGNATURE)
    if signature is None:
        return f"has no signature {SIGNATURE}"
    if (len(signature.inputs), len(signature.outputs)) != (1, 1):
        return (
            f"has {len(signature.inputs)} inputs and {len(signature.outputs)} outputs in {SIGNATURE}, not one of each"
        )
    (images,), (probabilities,) = signature.inputs.values(), signature.outputs.values()
    found_dtype = images.dtype.removeprefix("DT_").lower()
    if found_dtype not in {"", manifest.input_dtype}:
        return f"takes {found_dtype}, not {manifest.input_dtype}"
    return _find_difference(images, manifest.input_shape, verb="takes") or _find_difference(
        probabilities, (len(manifest.labels),), verb="gives"
    )


def _find_difference(tensor: _Tensor, promised: tuple[int, ...], *, verb: Literal["takes", "gives"]) -> str:
    if tensor.tensor_shape.unknown_rank or not tensor.tensor_shape.dim:
        return ""
    sides = tuple(int(side.size) for side in tensor.tensor_shape.dim)[1:]
    same = len(sides) == len(promised) and all(
        side in {_UNKNOWN_SIDE, wanted} for side, wanted in zip(sides, promised, strict=True)
    )
    return "" if same else f"{verb} {_spell(sides)} an image, not {_spell(promised)}"


def _spell(sides: tuple[int, ...]) -> str:
    return "x".join("?" if side == _UNKNOWN_SIDE else str(side) for side in sides) or "one number"
