"""What a request asks for, in one digest: the same `request_id` with another fingerprint is another request."""

from __future__ import annotations

import hashlib

import msgspec

from handoff.contracts.messages import AnalysisRequest, ModelReference

# Bumped when what a fingerprint covers changes, so that no two ways of reckoning can be taken for each other.
VERSION = 1


def request_fingerprint(request: AnalysisRequest) -> str:
    """Digest everything that the answer depends on: `sha256:` and 64 hexadecimal digits.

    The batch by its own checksum, how it is to be read, its labels, and the model that is asked for. Neither where
    the batch lies nor until when an answer is wanted changes the answer.
    """
    asked = (VERSION, request.checksum, request.format, request.image_count, request.model, request.labels)
    return f"sha256:{hashlib.sha256(msgspec.json.encode(asked)).hexdigest()}"


def answer_fingerprint(request: AnalysisRequest, model: ModelReference) -> str:
    """Digest a request and the model that answers it: together they settle every byte of the predictions.

    A model whose digest is not known, since another process holds it, is told from others by its name and version.
    """
    settled = (VERSION, request_fingerprint(request), model.digest or (model.name, model.version))
    return f"sha256:{hashlib.sha256(msgspec.json.encode(settled)).hexdigest()}"
