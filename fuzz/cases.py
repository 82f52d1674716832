"""One input: a delivery with what lies in the store before it, or a file for one of the readers."""

from __future__ import annotations

import hashlib
from typing import Any, Literal, get_args

import msgspec
from msgspec import Struct

from handoff.contracts.batches import decode_batch
from handoff.contracts.errors import FashionError
from tests.fakes import MANIFEST, FakeStore

Target = Literal[
    "delivery",
    "response",
    "stored response",
    "predictions",
    "manifest",
    "idx",
    "npy",
    "npz",
    "csv",
    "labels",
    "picture",
]
TARGETS: tuple[Target, ...] = get_args(Target)

# Of the worker that is fed: small, so that inputs at the limits are small too.
MAX_BATCH_BYTES = 256 * 1024
MAX_BATCH_IMAGES = 64
MAX_ATTEMPTS = 5
DEFAULT_URI = f"{FakeStore.root}/requests/r-1/images.csv"


class Case(Struct, frozen=True, array_like=True):
    """An input in parts that a mutation can take one by one; libFuzzer sees it as MessagePack."""

    target: Target
    data: bytes
    """The message's body, or the file."""
    attributes: dict[str, str] = {}
    payload: bytes = b""
    """What lies at the address that the body names."""
    stored: dict[str, bytes] = {}
    """What else lies in the store, by its key."""
    attempts: tuple[int, ...] = (1,)
    """The delivery's attempt, and those of the same message after it."""


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(Case)


def encode_case(case: Case) -> bytes:
    """Write a case as libFuzzer keeps it."""
    return _encoder.encode(case)


def decode_case(data: bytes) -> Case:
    """Read a case; bytes that are none are a message's body."""
    try:
        return _decoder.decode(data)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return Case("delivery", data, {"ce-type": "fashion.analysis.requested.v1"})


def fields_of(body: bytes) -> dict[str, Any] | None:
    """What a body says, where it is a JSON object."""
    try:
        found = msgspec.json.decode(body)
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def fitted(case: Case, *, checksum: bool = True, count: bool = True) -> Case:
    """Have the body say its payload's checksum and number of images, so that more than these two checks is tried."""
    fields = fields_of(case.data)
    if case.target != "delivery" or fields is None:
        return case
    if checksum:
        fields["checksum"] = "sha256:" + hashlib.sha256(case.payload).hexdigest()
    found = _count_images(case.payload, fields.get("format")) if count else None
    if found is not None:
        fields["image_count"] = found
        if isinstance(labels := fields.get("labels"), list):
            fields["labels"] = (labels + found * [""])[:found]
    return msgspec.structs.replace(case, data=msgspec.json.encode(fields))


def _count_images(payload: bytes, payload_format: object) -> int | None:
    if payload_format not in ("csv", "csv.gz", "npy"):
        return None
    try:
        batch = decode_batch(
            payload,
            format=payload_format,
            image_shape=MANIFEST.input_shape,
            max_images=MAX_BATCH_IMAGES,
            max_bytes=MAX_BATCH_BYTES,
        )
    except FashionError:
        return None
    return len(batch)
