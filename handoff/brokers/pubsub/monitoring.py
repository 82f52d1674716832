"""The backlog of a Pub/Sub subscription, as Cloud Monitoring reports it two to three minutes late."""

from __future__ import annotations

import logging
from datetime import UTC, datetime, timedelta
from typing import Any, Protocol

import google.auth.exceptions
import requests

from handoff.contracts.protocols import Backlog

_ENDPOINT = "https://monitoring.googleapis.com/v3/projects/{project}/timeSeries"
# Points come every minute and up to four minutes late: https://cloud.google.com/monitoring/api/metrics_gcp_p_z
_LOOK_BACK = timedelta(minutes=10)
_ANSWER_WITHIN_S = 10.0

_log = logging.getLogger(__name__)


class Session(Protocol):
    """What is needed of google-auth's AuthorizedSession."""

    def get(self, url: str, *, params: dict[str, str], timeout: float) -> requests.Response:
        """Send a GET request with credentials."""


class Monitoring:
    """Asks Cloud Monitoring's REST interface."""

    def __init__(self, project: str, *, session: Session) -> None:
        self._project = project
        self._session = session

    def backlog(self, subscription: str) -> Backlog:
        """Say how much waits; None for what is not known yet or may not be read."""
        count = self._newest("num_undelivered_messages", subscription)
        return Backlog(
            count=None if count is None else int(count),
            oldest_unacked_age_s=self._newest("oldest_unacked_message_age", subscription),
        )

    def _newest(self, metric: str, subscription: str) -> float | None:
        now = datetime.now(UTC)
        params = {
            "filter": f'metric.type = "pubsub.googleapis.com/subscription/{metric}" '
            f'AND resource.labels.subscription_id = "{subscription}"',
            "interval.startTime": (now - _LOOK_BACK).isoformat(),
            "interval.endTime": now.isoformat(),
        }
        try:
            response = self._session.get(
                _ENDPOINT.format(project=self._project), params=params, timeout=_ANSWER_WITHIN_S
            )
            response.raise_for_status()
        except (requests.RequestException, google.auth.exceptions.GoogleAuthError) as error:
            _log.info("the backlog of %s is unknown: %s", subscription, error)
            return None
        return _first_value(response.json())


def _first_value(answer: dict[str, Any]) -> float | None:
    """The newest point of the first series; int64 values come as text."""
    for series in answer.get("timeSeries", []):
        for point in series.get("points", []):
            return float(next(iter(point["value"].values())))
    return None
