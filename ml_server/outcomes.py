"""How one delivery ends, as values; and how every error becomes one."""

from __future__ import annotations

import random
from typing import NamedTuple

from handoff.contracts.errors import FashionError, MalformedMessage, RequestRefused
from handoff.contracts.messages import AnalysisResponse
from handoff.contracts.sentences import as_sentence

# The first retry comes within a second, later ones double, none waits longer than a minute.
FIRST_RETRY_S = 1.0
LONGEST_RETRY_S = 60.0


class Reply(NamedTuple):
    """Publish this response, then ack."""

    response: AnalysisResponse


class Refuse(NamedTuple):
    """The request can never succeed: publish a failed response, then ack."""

    code: str
    reason: str


class Bury(NamedTuple):
    """No request can be made of it, or it used up its attempts: publish a dead letter, then ack."""

    code: str
    reason: str
    request_id: str | None = None


class Retry(NamedTuple):
    """Another attempt may succeed: nack."""

    delay_s: float
    code: str
    reason: str


Outcome = Reply | Refuse | Bury | Retry


def outcome_of(error: Exception, *, attempt: int, max_attempts: int) -> Refuse | Bury | Retry:
    """Say what an error means for the delivery it happened to."""
    match error:
        case MalformedMessage():
            return Bury(error.code, str(error), error.request_id)
        case RequestRefused():
            return Refuse(error.code, str(error))
    code = code_of(error)
    reason = str(error) if isinstance(error, FashionError) else as_sentence(f"{type(error).__name__}: {error}")
    if attempt >= max_attempts:
        return Bury(code, reason)
    return Retry(retry_delay_s(attempt), code, reason)


def code_of(error: BaseException) -> str:
    """The stable code of an error, whosever it is."""
    return error.code if isinstance(error, FashionError) else "internal_error"


def retry_delay_s(attempt: int) -> float:
    """How long to wait after this attempt: exponential, with jitter, so that workers do not return all at once."""
    longest = min(LONGEST_RETRY_S, FIRST_RETRY_S * 2.0 ** (attempt - 1))
    return random.uniform(longest / 2, longest)  # noqa: S311 - jitter is no secret
