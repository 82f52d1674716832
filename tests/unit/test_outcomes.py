"""What every error means for the delivery it happened to."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from handoff.contracts import errors
from handoff.contracts.errors import FashionError, MalformedMessage, RequestRefused, Unavailable
from ml_server.outcomes import LONGEST_RETRY_S, Bury, Refuse, Retry, outcome_of, retry_delay_s
from tests.fakes import Unheard

MAX_ATTEMPTS = 5


def leaves(kind: type[FashionError]) -> Iterator[type[FashionError]]:
    """An error and every error below it, as errors.py has them."""
    for below in kind.__subclasses__():
        if below.__module__ == errors.__name__:
            yield from leaves(below)
    yield kind


@pytest.mark.parametrize("kind", [*leaves(RequestRefused)])
@pytest.mark.parametrize("attempt", [1, MAX_ATTEMPTS, MAX_ATTEMPTS + 1])
def test_a_request_that_cannot_succeed_is_refused_at_once(kind: type[FashionError], attempt: int) -> None:
    """Whichever attempt it is: a failed response with the error's code and sentence, never a redelivery."""
    outcome = outcome_of(kind("Because."), attempt=attempt, max_attempts=MAX_ATTEMPTS)
    assert outcome == Refuse(kind.code, "Because.")


@pytest.mark.parametrize("request_id", [None, "r-1"])
def test_what_is_no_request_is_buried_at_once(request_id: str | None) -> None:
    """The dead letter carries the reason, and the id goes on where there is one, so that its sender is told."""
    error = MalformedMessage("Not JSON.", request_id=request_id)
    assert outcome_of(error, attempt=1, max_attempts=MAX_ATTEMPTS) == Bury("malformed_message", "Not JSON.", request_id)


@pytest.mark.parametrize("kind", [*leaves(Unavailable), Unheard])
def test_what_may_succeed_later_is_tried_again(kind: type[FashionError]) -> None:
    """Until the attempts are used up; then it is buried under its code."""
    for attempt in range(1, MAX_ATTEMPTS):
        outcome = outcome_of(kind("Not now."), attempt=attempt, max_attempts=MAX_ATTEMPTS)
        assert isinstance(outcome, Retry)
        assert outcome.reason == "Not now."
    for attempt in (MAX_ATTEMPTS, MAX_ATTEMPTS + 1):
        assert outcome_of(kind("Not now."), attempt=attempt, max_attempts=MAX_ATTEMPTS) == Bury(kind.code, "Not now.")


@pytest.mark.parametrize(
    "error", [ValueError("odd"), MemoryError(), KeyError("x"), OSError(5, "I/O"), AssertionError()]
)
def test_an_error_that_nobody_foresaw_is_tried_again_too(error: Exception) -> None:
    """Its kind is part of the reason, for its text alone may say nothing."""
    outcome = outcome_of(error, attempt=1, max_attempts=MAX_ATTEMPTS)
    assert isinstance(outcome, Retry)
    assert type(error).__name__ in outcome.reason
    last = outcome_of(error, attempt=MAX_ATTEMPTS, max_attempts=MAX_ATTEMPTS)
    assert isinstance(last, Bury)
    assert (last.code, last.reason) == ("internal_error", outcome.reason)


def test_retries_wait_ever_longer_with_jitter() -> None:
    """Each wait lies in the upper half of twice the last one's bound, and none is over a minute."""
    for attempt, longest in ((1, 1.0), (2, 2.0), (5, 16.0), (7, LONGEST_RETRY_S), (1000, LONGEST_RETRY_S)):
        delays = [retry_delay_s(attempt) for _ in range(50)]
        assert longest / 2 <= min(delays) < max(delays) <= longest
