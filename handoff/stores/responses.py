"""The response that a worker stored, for whoever lost its message."""

from __future__ import annotations

import msgspec

from handoff.contracts.errors import PayloadNotFound
from handoff.contracts.messages import AnalysisResponse
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
