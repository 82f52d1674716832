"""Where a request's objects lie below the store's root."""

from __future__ import annotations

from handoff.contracts.messages import PayloadFormat

# The two kinds of objects, each with a folder of its own for every request; both go with their retention.
REQUESTS_FOLDER = "requests"
RESULTS_FOLDER = "results"


def batch_uri(root: str, request_id: str, format: PayloadFormat) -> str:
    """What the client uploads."""
    return f"{root}/{REQUESTS_FOLDER}/{request_id}/images.{format}"


def predictions_uri(root: str, request_id: str, *, fingerprint: str | None = None) -> str:
    """The predictions CSV that the worker stores; with its fingerprint, where that name holds other predictions."""
    mark = f"-{fingerprint.removeprefix('sha256:')[:16]}" if fingerprint else ""
    return f"{root}/{RESULTS_FOLDER}/{request_id}/predictions{mark}.csv"


def response_uri(root: str, request_id: str) -> str:
    """The response as it was published; stored last, so that its presence says the predictions are whole."""
    return f"{root}/{RESULTS_FOLDER}/{request_id}/response.json"
