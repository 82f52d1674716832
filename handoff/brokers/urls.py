"""The one place where a broker's URL scheme is tied to its adapter."""

from __future__ import annotations

from typing import cast

from handoff.adapters import import_adapter
from handoff.contracts.protocols import Broker
from handoff.contracts.topology import Topology

ADAPTERS = {
    "embedded": "handoff.brokers.embedded",
    "pubsub": "handoff.brokers.pubsub",
    "kafka": "handoff.brokers.kafka",
}


def open_broker(url: str, topology: Topology) -> Broker:
    """Connect to the broker a URL names; only its adapter, and so only its vendor's SDK, is imported.

    Raises: SettingsInvalid: unknown scheme or unusable URL; MissingPackage: its SDK is not installed; BrokerUnavailable
    """
    return cast("Broker", import_adapter(url, ADAPTERS, kind="broker").connect(url, topology))
