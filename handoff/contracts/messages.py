"""The two message bodies, as JSON. docs/CONTRACT.md and docs/asyncapi.yaml say the same for other languages."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal

import msgspec
from msgspec import Meta, Struct

REQUEST_TYPE = "fashion.analysis.requested.v1"
RESPONSE_TYPE = "fashion.analysis.completed.v1"

# 64 KiB keeps a response a small message everywhere (Pub/Sub bills in 1 kB steps, Kafka refuses over 1 MB by default).
MAX_INLINE_BYTES = 64 * 1024

PayloadFormat = Literal["csv", "csv.gz", "npy"]
RequestId = Annotated[
    str,
    Meta(
        pattern=r"\A[A-Za-z0-9][A-Za-z0-9_-]{0,127}\Z",
        description="Idempotency key; also the folder name of the request's objects in the store.",
    ),
]
Timestamp = Annotated[datetime, Meta(tz=True)]
Count = Annotated[int, Meta(ge=0)]


class AnalysisRequest(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One batch of images to classify; the message carries its address, the store its bytes."""

    request_id: RequestId
    batch_uri: Annotated[str, Meta(min_length=1, max_length=2048, description="Where the batch lies in the store.")]
    format: PayloadFormat
    image_count: Annotated[int, Meta(ge=1, le=2**31 - 1, description="How many images the batch holds.")]
    checksum: Annotated[
        str,
        Meta(pattern=r"\Asha256:[0-9a-f]{64}\Z", description="SHA-256 of the object's bytes as stored."),
    ]
    model: Annotated[str, Meta(description="NAME or NAME:VERSION; absent means whatever is served.")] | None = None
    deadline: (
        Annotated[datetime, Meta(tz=True, description="After this moment (RFC 3339) the request is not classified.")]
        | None
    ) = None
    labels: Annotated[list[str], Meta(description="The true label, name or id, of each image, where known.")] | None = (
        None
    )


class Predictions(Struct, frozen=True):
    """The best label of each image, in the order of the batch: three columns of `image_count` entries."""

    label_ids: list[int]
    labels: list[str]
    probabilities: list[float]


class ModelReference(Struct, frozen=True):
    """Which model answered."""

    name: str
    version: str
    digest: Annotated[str, Meta(description="SHA-256 of the inference graph; empty where a remote runtime ran it.")]


class FailureReason(Struct, frozen=True):
    """Why a request failed: a stable code for programs, a sentence for people."""

    code: str
    message: str


class AnalysisResponse(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The one answer to a request."""

    request_id: RequestId
    status: Literal["succeeded", "failed"]
    image_count: Count
    worker: str
    attempt: Annotated[int, Meta(ge=1, description="Which delivery of the request was answered.")]
    predictions_uri: Annotated[str, Meta(description="The predictions CSV, when status is succeeded.")] | None = None
    predictions: Annotated[Predictions, Meta(description="Inline while the body stays under 64 KiB.")] | None = None
    label_counts: Annotated[dict[str, int], Meta(description="Images per predicted label.")] = {}
    labelled_count: Annotated[int, Meta(ge=0, description="Images whose true label was known.")] = 0
    correct_count: Annotated[int, Meta(ge=0, description="Images of those whose predicted label is the true one.")] = 0
    model: ModelReference | None = None
    request_fingerprint: (
        Annotated[str, Meta(description="SHA-256 of what was asked for; another one under the same id is refused.")]
        | None
    ) = None
    requested_at: Annotated[datetime, Meta(tz=True, description="The request's ce-time.")] | None = None
    timings_ms: Annotated[dict[str, float], Meta(description="Milliseconds spent in each stage of the worker.")] = {}
    error: FailureReason | None = None


_encoder = msgspec.json.Encoder()
# Here as everywhere made when the module is imported, before there is a second thread: two that decode a class for the
# first time at once crash (msgspec 0.22 lets one read what the other is still writing down about its fields).
_requests, _responses = msgspec.json.Decoder(AnalysisRequest), msgspec.json.Decoder(AnalysisResponse)


def encode_body(body: AnalysisRequest | AnalysisResponse) -> bytes:
    """Write a message body as JSON."""
    return _encoder.encode(body)


def decode_request(body: bytes | str) -> AnalysisRequest:
    """Read a request's body.

    Raises: ValueError, RecursionError: it is none
    """
    return _requests.decode(body)


def decode_response(body: bytes | str) -> AnalysisResponse:
    """Read a response's body.

    Raises: ValueError, RecursionError: it is none
    """
    return _responses.decode(body)
