"""One request on its way, and what came of it."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from typing import TYPE_CHECKING

from handoff.contracts.errors import AnalysisFailed, ResponseTimeout
from handoff.contracts.messages import AnalysisRequest, AnalysisResponse
from handoff.contracts.predictions import PredictionTable, decode_predictions
from handoff.contracts.protocols import Store
from handoff.stores.responses import read_response

if TYPE_CHECKING:
    import pandas as pd

# A predictions object holds about 10 bytes a label and image: 20,000 images of 1,000 labels.
MAX_PREDICTIONS_BYTES = 256 * 1024 * 1024


@dataclass(frozen=True)
class Prepared:
    """A batch made ready to be sent: the request for it, and the bytes of its object."""

    request: AnalysisRequest
    data: bytes


@dataclass(frozen=True)
class Result:
    """A succeeded request: its response, and its predictions when they are asked for."""

    response: AnalysisResponse
    store: Store

    @property
    def request_id(self) -> str:
        """The request's id."""
        return self.response.request_id

    def predictions(self) -> PredictionTable:
        """Read the stored predictions: ids, labels and every probability of each image.

        Raises: PayloadNotFound; StoreUnavailable
        """
        uri = self.response.predictions_uri or ""
        return decode_predictions(self.store.read(uri, max_bytes=MAX_PREDICTIONS_BYTES))

    def table(self) -> pd.DataFrame:
        """The stored predictions as a table: image_id, label_id, label, probability, and a column a label."""
        from fashion_client.tables import predictions_table

        return predictions_table(self.predictions())


class Submission:
    """A published request whose response is awaited."""

    def __init__(
        self,
        request: AnalysisRequest,
        *,
        response: Future[AnalysisResponse],
        store: Store,
    ) -> None:
        self.request = request
        self.request_id = request.request_id
        self.image_count = request.image_count
        self._response = response
        self._store = store

    def done(self) -> bool:
        """Say whether the response is here."""
        return self._response.done()

    def add_done_callback(self, call: Callable[[Future[AnalysisResponse]], None]) -> None:
        """Call with the response's future once the response, or the broker's failure, is here; in another thread."""
        self._response.add_done_callback(call)

    def response(self, timeout_s: float | None = None) -> AnalysisResponse:
        """Wait for the response, succeeded or failed; when time is up, look whether its message was lost.

        Raises: ResponseTimeout: neither came nor is stored
        """
        try:
            return self._response.result(timeout_s)
        except TimeoutError as error:
            stored = read_response(self._store, self.request_id)
            if stored is None:
                raise ResponseTimeout(
                    f"No response to request {self.request_id} within {timeout_s} s; "
                    "is a worker running (`fashion worker`)?"
                ) from error
            return stored

    def result(self, timeout_s: float | None = None) -> Result:
        """Wait for the predictions.

        Raises: AnalysisFailed: the service says why; ResponseTimeout
        """
        response = self.response(timeout_s)
        if response.error is not None or response.status == "failed":
            code, message = (response.error.code, response.error.message) if response.error else ("failed", "")
            raise AnalysisFailed(f"Request {self.request_id} failed ({code}): {message}", error_code=code)
        return Result(response, self._store)
