"""How every Pub/Sub call is retried, and what its failure means here."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import google.api_core.exceptions as api
import google.auth.exceptions as auth
from google.api_core.retry import Retry, if_exception_type

from handoff.contracts.errors import BrokerUnavailable, FashionError, SettingsInvalid

# Long enough to outlive a restarting front end, short enough for a person who mistyped an address.
ANSWER_WITHIN_S = 20.0
# One attempt of a call, so that a dead connection leaves time for another one.
ATTEMPT_S = 10.0
# The most ack ids in one request: ids have ~200 bytes, a request at most 512 KiB.
# https://cloud.google.com/pubsub/quotas#resource_limits
ACK_IDS_PER_CALL = 1000

TRANSIENT = (
    api.Aborted,
    api.Cancelled,
    api.DeadlineExceeded,
    api.InternalServerError,
    api.ServiceUnavailable,
    api.TooManyRequests,
    api.Unknown,
)
_REFUSED = (api.Forbidden, api.InvalidArgument, api.FailedPrecondition, api.Unauthenticated)

CALL_RETRY = Retry(
    predicate=if_exception_type(*TRANSIENT), initial=0.1, maximum=5.0, multiplier=2.0, timeout=ANSWER_WITHIN_S
)


def meaning(error: Exception, what: str) -> FashionError:
    """Say in our words why a call could not do `what`."""
    match error:
        case api.NotFound():
            return SettingsInvalid(f"Cannot {what}: Pub/Sub knows no such topic or subscription; run `fashion init`.")
        case api.GoogleAPICallError() if isinstance(error, _REFUSED):
            return SettingsInvalid(f"Cannot {what}; Pub/Sub refuses: {error.message}")
        case auth.GoogleAuthError() if not (error.retryable or isinstance(error, auth.TransportError)):
            return SettingsInvalid(f"Cannot {what} with these Google credentials: {error}")
        case _:
            return BrokerUnavailable(f"Cannot {what}; Pub/Sub does not answer: {error}")


@contextmanager
def translated(what: str) -> Iterator[None]:
    """Turn the SDK's errors into ours.

    Raises: SettingsInvalid: missing, not allowed or malformed; BrokerUnavailable: anything else
    """
    try:
        yield
    except (api.GoogleAPIError, auth.GoogleAuthError) as error:
        raise meaning(error, what) from error
