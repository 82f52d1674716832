"""The response that a worker stored, for whoever lost its message."""

from __future__ import annotations

import msgspec

from handoff.contracts.errors import PayloadNotFound, RequestConflict
from handoff.contracts.fingerprint import request_fingerprint
from handoff.contracts.messages import AnalysisRequest, AnalysisResponse
from handoff.contracts.objects import response_uri
from handoff.contracts.protocols import Store

# Under 64 KiB of inline predictions, and a count a label.
MAX_RESPONSE_BYTES = 16 * 1024 * 1024


def read_response(store: Store, request_id: str) -> AnalysisResponse | None:
    """Read the response to a request; None while it is not answered.

    Raises: StoreUnavailable
    """
    try:
        stored = store.read(response_uri(store.root, request_id), max_bytes=MAX_RESPONSE_BYTES)
    except PayloadNotFound:
        return None
    return msgspec.json.decode(stored, type=AnalysisResponse)


def read_answer(store: Store, request: AnalysisRequest) -> AnalysisResponse | None:
    """Read the response to this very request; None while it is not answered.

    Raises: RequestConflict: the response of its id is to another request; StoreUnavailable
    """
    response = read_response(store, request.request_id)
    # A response that was stored before there were fingerprints says nothing about its request.
    if response is not None and response.request_fingerprint not in {None, request_fingerprint(request)}:
        raise RequestConflict(
            f"The request id {request.request_id} was answered for another batch, other labels or another model; "
            "use a new id."
        )
    return response
