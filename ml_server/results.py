"""From probabilities to what the client gets: the predictions object, and the response that speaks of it."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from classifiers.protocol import Probabilities
from handoff.contracts.envelope import fit_inline
from handoff.contracts.errors import PayloadCorrupt, PayloadNotFound, PayloadTooLarge
from handoff.contracts.fingerprint import answer_fingerprint, request_fingerprint
from handoff.contracts.messages import (
    AnalysisRequest,
    AnalysisResponse,
    FailureReason,
    ModelReference,
    Predictions,
    encode_body,
)
from handoff.contracts.objects import predictions_uri, response_uri
from handoff.contracts.predictions import decode_predictions, encode_predictions
from handoff.contracts.protocols import Store
from handoff.stores.responses import read_answer
from ml_server.answering_model import AnsweringModel
from ml_server.intake import UNKNOWN_LABEL
from ml_server.work import Work


class Best(NamedTuple):
    """The best label of each image.

    Shapes: label_ids int64 (N,), probabilities float32 (N,)
    """

    label_ids: npt.NDArray[np.int64]
    probabilities: npt.NDArray[np.float32]


class Results:
    """Stores what was classified, and answers from what is stored."""

    def __init__(self, store: Store, *, model: AnsweringModel, labels: Sequence[str], worker: str) -> None:
        self._store = store
        self._model = model
        self._labels = labels
        self._worker = worker

    def answer(self, work: Work) -> AnalysisResponse:
        """Store the predictions, then the response, both create-only; the response that stands.

        When another worker was first, its objects stay and its response is the answer.

        Raises: RequestConflict: what was answered under its id is another request; PayloadCorrupt: what lies under the
            names of its results is no worker's; UnknownModel, RuntimeUnavailable: not classified by the model, or the
            one version of it, that was to answer; StoreUnavailable
        """
        assert work.received is not None  # noqa: S101 - a work with probabilities was received
        request = work.received.request
        model = self._model.reference(request.model, work.versions)
        stored = self._store_predictions(work, request, model)
        if isinstance(stored, AnalysisResponse):
            return stored
        work.lap("store")
        work.timings_ms["total"] = round((time.perf_counter() - work.pulled_at) * 1e3, 3)
        response = fit_inline(self._succeeded(work, request, model, *stored))
        if self._store.create(response_uri(self._store.root, request.request_id), encode_body(response)):
            return response
        return read_answer(self._store, request) or response

    def _store_predictions(
        self, work: Work, request: AnalysisRequest, model: ModelReference
    ) -> tuple[str, Best] | AnalysisResponse:
        """Where the predictions of this request by this model lie, and what they say; or the response, if there is one.

        Other predictions without a response are what a worker left that died, had another model or was given another
        request under the same id. They stay, and these lie beside them under a name that says what they are of.
        """
        assert work.probabilities is not None  # noqa: S101 - it was classified
        data = encode_predictions(work.image_ids, work.probabilities, self._labels)
        best = _best(work.probabilities.argmax(axis=1), work.probabilities)
        uri = predictions_uri(self._store.root, request.request_id)
        if self._store.create(uri, data):
            return uri, best
        answered = read_answer(self._store, request)
        if answered is not None:
            return answered
        if self._holds(uri, data):
            return uri, best
        fingerprint = answer_fingerprint(request, model)
        uri = predictions_uri(self._store.root, request.request_id, fingerprint=fingerprint)
        if self._store.create(uri, data):
            return uri, best
        # The same request and model; on another processor its last decimals may be others.
        table = decode_predictions(self._store.read(uri, max_bytes=max(2 * len(data), 1024)))
        if table.image_ids != list(work.image_ids) or table.label_names != list(self._labels):
            raise PayloadCorrupt(f"The predictions at {uri} are not of this request's images.")
        return uri, _best(table.label_ids.astype(np.int64), table.probabilities)

    def _holds(self, uri: str, data: bytes) -> bool:
        try:
            return self._store.read(uri, max_bytes=len(data)) == data
        except (PayloadNotFound, PayloadTooLarge):
            return False

    def _succeeded(
        self, work: Work, request: AnalysisRequest, model: ModelReference, uri: str, best: Best
    ) -> AnalysisResponse:
        assert work.received is not None  # noqa: S101 - it was classified
        label_ids = best.label_ids
        labelled, correct = _count_correct(label_ids, work.true_label_ids)
        return AnalysisResponse(
            request_id=request.request_id,
            status="succeeded",
            image_count=len(label_ids),
            worker=self._worker,
            attempt=work.delivery.attempt,
            predictions_uri=uri,
            predictions=_inline(best, self._labels),
            label_counts=_label_counts(label_ids, self._labels),
            labelled_count=labelled,
            correct_count=correct,
            model=model,
            request_fingerprint=request_fingerprint(request),
            requested_at=work.received.requested_at,
            timings_ms=work.timings_ms,
        )


def failed_response(work: Work, request_id: str, error: FailureReason, *, worker: str) -> AnalysisResponse:
    """Say why a request failed; it is not stored, for asked again the request may succeed."""
    received = work.received
    return AnalysisResponse(
        request_id=request_id,
        status="failed",
        image_count=received.request.image_count if received else 0,
        worker=worker,
        attempt=work.delivery.attempt,
        requested_at=received.requested_at if received else None,
        timings_ms=work.timings_ms,
        error=error,
    )


def _best(label_ids: npt.NDArray[np.int64], probabilities: Probabilities) -> Best:
    return Best(label_ids, probabilities[np.arange(len(label_ids)), label_ids])


def _inline(best: Best, labels: Sequence[str]) -> Predictions:
    ids: list[int] = best.label_ids.tolist()
    # Six decimals, as in the predictions object.
    probabilities: list[float] = best.probabilities.astype(np.float64).round(6).tolist()
    return Predictions(ids, [labels[label_id] for label_id in ids], probabilities)


def _label_counts(label_ids: npt.NDArray[np.int64], labels: Sequence[str]) -> dict[str, int]:
    counts: list[int] = np.bincount(label_ids, minlength=len(labels)).tolist()
    return {label: count for label, count in zip(labels, counts, strict=True) if count}


def _count_correct(label_ids: npt.NDArray[np.int64], true_label_ids: npt.NDArray[np.int64] | None) -> tuple[int, int]:
    if true_label_ids is None:
        return 0, 0
    labelled = int((true_label_ids != UNKNOWN_LABEL).sum())
    return labelled, int((true_label_ids == label_ids).sum())
