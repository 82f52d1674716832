"""The response that a worker stored, for whoever lost its message."""

from __future__ import annotations

from handoff.contracts.envelope import MAX_BODY_BYTES
from handoff.contracts.errors import PayloadCorrupt, PayloadNotFound, RequestConflict
from handoff.contracts.fingerprint import request_fingerprint
from handoff.contracts.messages import AnalysisRequest, AnalysisResponse, decode_response
from handoff.contracts.objects import response_uri
from handoff.contracts.protocols import Store


def read_response(store: Store, request_id: str) -> AnalysisResponse | None:
    """Read the response to a request; None while it is not answered.

    Raises: PayloadCorrupt, PayloadTooLarge: what lies there is no worker's; StoreUnavailable
    """
    try:
        stored = store.read(response_uri(store.root, request_id), max_bytes=MAX_BODY_BYTES)
    except PayloadNotFound:
        return None
    return _parse(stored, request_id)


def read_answer(store: Store, request: AnalysisRequest) -> AnalysisResponse | None:
    """Read the response to this very request; None while it is not answered.

    Raises: RequestConflict: the response of its id is to another request; and as `read_response`
    """
    response = read_response(store, request.request_id)
    # A response that was stored before there were fingerprints says nothing about its request.
    if response is not None and response.request_fingerprint not in {None, request_fingerprint(request)}:
        raise RequestConflict(
            f"The request id {request.request_id} was answered for another batch, other labels or another model; "
            "use a new id."
        )
    return response


def _parse(stored: bytes, request_id: str) -> AnalysisResponse:
    try:
        response = decode_response(stored)
    except (ValueError, RecursionError) as error:  # ValueError covers msgspec's errors and bytes that are not UTF-8
        raise PayloadCorrupt(f"The stored response to {request_id} cannot be read: {error}.") from error
    if response.request_id != request_id or response.status != "succeeded" or response.error is not None:
        raise PayloadCorrupt(f"The stored response to {request_id} is not an answer to it.")
    return response
