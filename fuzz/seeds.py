"""What fuzzing starts from: every kind of good request and file, and the first step from each to a bad one."""

from __future__ import annotations

import io
from collections.abc import Iterator

import msgspec
import numpy as np
from PIL import Image

from fuzz.cases import DEFAULT_URI, Case, fitted
from handoff.contracts.batches import encode_batch
from handoff.contracts.envelope import request_message
from handoff.contracts.fingerprint import answer_fingerprint
from handoff.contracts.idx import encode_idx
from handoff.contracts.images import Batch
from handoff.contracts.manifest import encode_manifest
from handoff.contracts.messages import (
    AnalysisRequest,
    AnalysisResponse,
    FailureReason,
    ModelReference,
    PayloadFormat,
    encode_body,
)
from handoff.contracts.objects import predictions_uri
from handoff.contracts.predictions import encode_predictions
from tests.fakes import ARTIFACT, MANIFEST, NOW, images_of

FORMATS: tuple[PayloadFormat, ...] = ("csv", "csv.gz", "npy")
BATCHES = (
    Batch(images_of(0, 128, 255), ["0", "1", "2"]),
    Batch(images_of(7), ["a, b"], ["dark"]),
    Batch(images_of(1, 2), ["x", "y"], ["", "1"]),
)
RESPONSE = AnalysisResponse(
    request_id="r-1", status="succeeded", image_count=3, worker="w", attempt=1, label_counts={"dark": 3}
)
FAILURE = AnalysisResponse(
    request_id="r-1",
    status="failed",
    image_count=0,
    worker="w",
    attempt=2,
    error=FailureReason("invalid_batch", "The batch is empty."),
)
PREDICTIONS = encode_predictions(
    ["0", "1", "2"], np.array([[0.9, 0.1], [0.2, 0.8], [0.5, 0.5]], np.float32), MANIFEST.labels
)
RESPONSE_ATTRIBUTES = {"ce-type": "fashion.analysis.completed.v1", "ce-specversion": "1.0"}


def seeds() -> Iterator[Case]:
    """Every seed."""
    yield from deliveries()
    for response in (RESPONSE, FAILURE):
        yield Case("response", encode_body(response), RESPONSE_ATTRIBUTES)
        yield Case("stored response", encode_body(response))
    yield Case("predictions", PREDICTIONS)
    yield Case("manifest", encode_manifest(MANIFEST))
    yield from _files()


def deliveries() -> Iterator[Case]:
    """Every request that a worker answers with predictions."""
    for batch in BATCHES:
        for payload_format in FORMATS:
            yield _delivery(batch, payload_format)
    good = _delivery(BATCHES[0], "csv")
    again = {"results/r-1/response.json": encode_body(RESPONSE), "results/r-1/predictions.csv": PREDICTIONS}
    yield msgspec.structs.replace(good, attempts=(1, 1, 2))
    yield msgspec.structs.replace(good, attempts=(2,), stored=again)
    yield msgspec.structs.replace(good, attempts=(1,), stored=again)
    request = msgspec.json.decode(good.data, type=AnalysisRequest)
    model = ModelReference(MANIFEST.name, MANIFEST.version, ARTIFACT.graph_digest)
    key = predictions_uri("", "r-1", fingerprint=answer_fingerprint(request, model)).removeprefix("/")
    yield msgspec.structs.replace(good, stored={"results/r-1/predictions.csv": b"other", key: PREDICTIONS})
    conflicting = msgspec.structs.replace(RESPONSE, request_fingerprint="sha256:" + 64 * "0")
    yield msgspec.structs.replace(good, attempts=(2,), stored={"results/r-1/response.json": encode_body(conflicting)})
    yield msgspec.structs.replace(good, attempts=(5, 1), stored={"results/r-1/predictions.csv": PREDICTIONS})


def _delivery(batch: Batch, payload_format: PayloadFormat) -> Case:
    request = AnalysisRequest(
        request_id="r-1",
        batch_uri=DEFAULT_URI,
        format=payload_format,
        image_count=len(batch),
        checksum="sha256:" + 64 * "0",
        model="fashion:7",
        deadline=NOW.replace(year=9000),
        labels=batch.labels,
    )
    message = request_message(request, client_id="c-1", traceparent=f"00-{32 * 'a'}-{16 * 'b'}-01", now=NOW)
    payload = encode_batch(batch, format=payload_format)
    return fitted(Case("delivery", message.body, dict(message.attributes), payload))


def _files() -> Iterator[Case]:
    images = images_of(3, 200)
    yield Case("idx", encode_idx(images[..., 0]))
    for array in (images, images[..., 0].astype(np.float32), images.astype(np.int64), images.reshape(2, -1)):
        for order in ("C", "F"):
            file = io.BytesIO()
            np.save(file, np.asarray(array, order=order))
            yield Case("npy", file.getvalue())
    archive = io.BytesIO()
    np.savez_compressed(archive, x_train=images, y_train=[0, 1], x_test=images, y_test=[1, 0])
    yield Case("npz", archive.getvalue())
    for header in ("label,pixel_0,pixel_1,pixel_2,pixel_3", "pixel1x1,pixel1x2,2x1,2x2,image_id"):
        yield Case("csv", f"{header}\n1,2,3,4,5\n255,0,7.0, 8,9\n".encode())
    yield Case("labels", b'label,other\ndark,1\n"bri\nght",2\n')
    yield Case("labels", b"dark\nbright\n")
    for mode, kind in (("L", "PNG"), ("RGBA", "PNG"), ("I;16", "PNG"), ("P", "GIF"), ("RGB", "JPEG"), ("RGB", "BMP")):
        file = io.BytesIO()
        Image.new(mode, (3, 2)).save(file, kind)
        yield Case("picture", file.getvalue())
