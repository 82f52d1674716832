"""From a delivery to images in memory: everything that can be refused is refused here."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from datetime import UTC, datetime

import numpy as np
import numpy.typing as npt

from handoff.contracts.batches import decode_batch
from handoff.contracts.envelope import parse_request
from handoff.contracts.errors import (
    DeadlineExceeded,
    InvalidBatch,
    PayloadCorrupt,
    PayloadTooLarge,
    RequestRefused,
)
from handoff.contracts.images import Batch, excerpt, place
from handoff.contracts.manifest import Manifest
from handoff.contracts.messages import AnalysisRequest
from handoff.contracts.protocols import Store
from handoff.stores.responses import read_answer
from ml_server.answering_model import AnsweringModel
from ml_server.outcomes import Reply
from ml_server.work import Work

UNKNOWN_LABEL = -1


class Intake:
    """Turns a delivery into a batch, or into the response it was given before."""

    def __init__(
        self,
        store: Store,
        *,
        model: AnsweringModel,
        manifest: Manifest,
        max_batch_bytes: int,
        max_batch_images: int,
    ) -> None:
        self._store = store
        self._model = model
        self._manifest = manifest
        self._max_batch_bytes = max_batch_bytes
        self._max_batch_images = max_batch_images
        self._label_ids = {name: position for position, name in enumerate(manifest.labels)}
        self._label_ids |= {str(position): position for position in range(len(manifest.labels))}

    def take_in(self, work: Work) -> Reply | None:
        """Fill in what the request says and its images; or the reply, where it was answered before.

        The store is asked for that when the request comes again, or is about to be refused. What comes for the first
        time is rarely an old request, and then the look is made up for: nothing is stored twice.

        Raises: MalformedMessage; RequestRefused; StoreUnavailable
        """
        work.received = parse_request(work.delivery.message)
        request = work.received.request
        if work.received.requested_at is not None:
            waited_s = (datetime.now(UTC) - work.received.requested_at).total_seconds()
            work.timings_ms["queued"] = round(max(0.0, waited_s * 1e3), 3)
        comes_again = work.delivery.attempt > 1 or work.received.republished
        if comes_again and (answered := read_answer(self._store, request)) is not None:
            return Reply(answered)
        try:
            self._take_images(work, request)
        except RequestRefused:
            if comes_again or (answered := read_answer(self._store, request)) is None:
                raise
            return Reply(answered)
        return None

    def _take_images(self, work: Work, request: AnalysisRequest) -> None:
        self._check_wanted(request)
        data = self._fetch(request)
        work.lap("fetch")
        batch = self._decode(request, data)
        work.true_label_ids = self._true_label_ids(request.labels or batch.labels, len(batch))
        work.images, work.image_ids = batch.images, batch.image_ids
        work.lap("decode")

    def _check_wanted(self, request: AnalysisRequest) -> None:
        self._model.check_asked(request.model)
        if request.image_count > self._max_batch_images:
            most = self._max_batch_images
            raise PayloadTooLarge(f"The batch announces {request.image_count} images; at most {most} are taken.")
        if request.deadline is not None and request.deadline < datetime.now(UTC):
            raise DeadlineExceeded(f"The deadline {request.deadline.isoformat()} had passed when the request came up.")

    def _fetch(self, request: AnalysisRequest) -> bytes:
        data = self._store.read(request.batch_uri, max_bytes=self._max_batch_bytes)
        found = hashlib.sha256(data).hexdigest()
        if request.checksum != f"sha256:{found}":
            raise PayloadCorrupt(f"The batch has the SHA-256 {found}, not the announced {request.checksum}.")
        return data

    def _decode(self, request: AnalysisRequest, data: bytes) -> Batch:
        batch = decode_batch(
            data,
            format=request.format,
            image_shape=self._manifest.input_shape,
            max_images=self._max_batch_images,
            max_bytes=self._max_batch_bytes,
        )
        if len(batch) != request.image_count:
            raise InvalidBatch(f"The batch holds {len(batch)} images; the request announced {request.image_count}.")
        return batch

    def _true_label_ids(self, labels: Sequence[str] | None, count: int) -> npt.NDArray[np.int64] | None:
        if labels is None:
            return None
        unknown = next((row for row, label in enumerate(labels) if label and label not in self._label_ids), None)
        if unknown is not None:
            found = excerpt(labels[unknown])
            raise InvalidBatch(f"{place(unknown, 'label')}: {found} is none of the model's labels.")
        known = (self._label_ids.get(label, UNKNOWN_LABEL) for label in labels)
        return np.fromiter(known, np.int64, count)
