"""The Google Pub/Sub broker: `pubsub://PROJECT`, with the official SDK.

The SDK itself goes to an emulator when PUBSUB_EMULATOR_HOST is set. Topics and subscriptions are made by
`fashion init`, not on connecting: a worker's role need not allow that.
"""

from __future__ import annotations

import re

import google.auth
from google.auth.transport.requests import AuthorizedSession
from google.cloud.pubsub_v1 import SubscriberClient

from handoff.brokers.pubsub.broker import PubsubBroker
from handoff.brokers.pubsub.calls import translated
from handoff.brokers.pubsub.monitoring import Monitoring
from handoff.brokers.pubsub.publisher import Publisher
from handoff.contracts.errors import SettingsInvalid
from handoff.contracts.topology import Topology

__all__ = ["PubsubBroker", "connect"]

_URL = re.compile(r"pubsub://(?P<project>[a-z][a-z0-9.:-]*[a-z0-9])/?")
_MONITORING_SCOPE = "https://www.googleapis.com/auth/monitoring.read"


def connect(url: str, topology: Topology) -> PubsubBroker:  # noqa: ARG001 - `fashion init` declares it
    """Make the clients of one process: after a fork, never before it, because gRPC does not survive one.

    Raises: SettingsInvalid: not `pubsub://PROJECT`, or no Google credentials
    """
    match = _URL.fullmatch(url)
    if not match:
        raise SettingsInvalid(f"The broker URL {url!r} names no project; use pubsub://PROJECT.")
    project = match["project"]
    with translated("find Google credentials (`gcloud auth application-default login`)"):
        subscriber = SubscriberClient()
        genuine = subscriber.target.partition(":")[0].endswith(".googleapis.com")
        publisher = Publisher(project)
        publisher.start()
        return PubsubBroker(
            project,
            publisher=publisher,
            subscriber=subscriber,
            monitoring=_monitoring(project) if genuine else None,
        )


def _monitoring(project: str) -> Monitoring:
    credentials, _ = google.auth.default(scopes=[_MONITORING_SCOPE])
    return Monitoring(project, session=AuthorizedSession(credentials))
