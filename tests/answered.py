"""Requests that were answered: a batch, its predictions and a response, as clients and workers leave them."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

import numpy as np

from fashion_client.answered_batches import AnsweredBatch, AnsweredBatches
from handoff.contracts.batches import Batch, encode_batch
from handoff.contracts.envelope import response_message
from handoff.contracts.messages import AnalysisResponse, ModelReference, PayloadFormat
from handoff.contracts.objects import batch_uri, predictions_uri
from handoff.contracts.predictions import encode_predictions
from handoff.contracts.protocols import Message, Store

LABELS = ("Bag", "T-shirt/top", "Ankle boot")


def answer(
    store: Store,
    request_id: str,
    batch: Batch,
    said: Sequence[int],
    *,
    labels: Sequence[str] = LABELS,
    format: PayloadFormat = "csv",
) -> AnalysisResponse:
    """Store a batch and the predictions that `said` names by label id, each with 90 percent; the response."""
    store.create(batch_uri(store.root, request_id, format), encode_batch(batch, format=format))
    probabilities = np.full((len(batch), len(labels)), 0.1 / (len(labels) - 1), np.float32)
    probabilities[np.arange(len(batch)), list(said)] = 0.9
    ids = batch.image_ids if format != "npy" else [str(position) for position in range(len(batch))]
    uri = predictions_uri(store.root, request_id)
    store.create(uri, encode_predictions(ids, probabilities, labels))
    return AnalysisResponse(
        request_id=request_id,
        status="succeeded",
        image_count=len(batch),
        worker="w-1",
        attempt=1,
        predictions_uri=uri,
        model=ModelReference("fashion", "7", "sha256:0"),
    )


def message_of(response: AnalysisResponse) -> Message:
    """A response as a worker publishes it."""
    now = datetime.now(UTC)
    return response_message(response, client_id="me", traceparent=None, source="/workers/w-1", now=now)


def answered(store: Store, request_id: str, batch: Batch, said: Sequence[int], **more: object) -> AnsweredBatch:
    """The same, as sinks get it."""
    return AnsweredBatches(store).of(answer(store, request_id, batch, said, **more))  # type: ignore[arg-type]
