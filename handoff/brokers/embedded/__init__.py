"""The embedded broker: one SQLite file that any number of processes on one machine share.

Nothing to install and nothing to start. `embedded:///abs/queue.db` and `embedded:rel/queue.db` name the file, which is
made with its topics and subscriptions on the first connect. Publishing, acks and lease extensions of a process go
through one writer thread that commits them in groups, each flushed to the disk before any caller is told; taking
deliveries is not flushed, for a claim lost in a power cut only means a redelivery.
"""

from __future__ import annotations

from pathlib import Path

from handoff.adapters import local_path
from handoff.brokers.embedded.broker import EmbeddedBroker
from handoff.contracts.errors import SettingsInvalid
from handoff.contracts.topology import Topology

__all__ = ["EmbeddedBroker", "connect"]


def connect(url: str, topology: Topology) -> EmbeddedBroker:
    """Open the queue file, making it where it is missing, with its topology declared.

    Raises: SettingsInvalid: the URL names no file that can be made; BrokerUnavailable
    """
    path = local_path(url)
    if path is None:
        raise SettingsInvalid(f"The broker URL {url!r} names no file; use embedded:///absolute/path/queue.db.")
    broker = EmbeddedBroker.open(Path(path).absolute())
    broker.declare(topology)
    return broker
