"""The deployments that are measured: embedded always, Google's and Kafka's where their servers can be started."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager

import msgspec

from handoff.brokers.urls import open_broker
from handoff.settings import Settings, load_settings
from handoff.stores.urls import open_store
from tests import servers
from tests.kafka_server import kafka_server

BUCKET = "gs://bench-store"


@contextmanager
def deployments() -> Iterator[dict[str, Settings]]:
    """Yield settings by the deployment's name, everything that they name declared."""
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        found = {"embedded": {"broker": f"embedded://{folder}/queue.db", "store": f"file://{folder}/store"}}
        try:
            os.environ["PUBSUB_EMULATOR_HOST"] = stack.enter_context(servers.pubsub_emulator())
            os.environ["STORAGE_EMULATOR_HOST"] = stack.enter_context(servers.storage_server())
            found["pubsub"] = {"broker": "pubsub://bench", "store": f"{BUCKET}/bench"}
        except servers.ServerAbsent as reason:
            print(f"left out: {reason}", file=sys.stderr)
        try:
            address = stack.enter_context(kafka_server())
            found["kafka"] = {"broker": f"kafka://{address}", "store": f"file://{folder}/kafka"}
            found["kafka_share"] = {"broker": f"kafka://{address}?mode=share-group", "store": f"file://{folder}/share"}
        except servers.ServerAbsent as reason:
            print(f"left out: {reason}", file=sys.stderr)
        yield {name: _opened(name, flags) for name, flags in found.items()}


def _opened(name: str, flags: dict[str, str]) -> Settings:
    # A worker's log is read for its readiness, and so is text.
    settings = load_settings(flags={**flags, "log_format": "text"}).settings
    # A share group would read what the consumer group's deployment has published on the same topic.
    return beside(settings, "share") if name == "kafka_share" else declared(settings)


def afresh(settings: Settings, name: str) -> Settings:
    """The same, in a bucket of its own: the local Cloud Storage server grows slower with each object of a bucket."""
    if not settings.store.startswith(BUCKET):
        return settings
    return declared(msgspec.structs.replace(settings, store=f"{BUCKET}-{name}/bench"))


def beside(settings: Settings, name: str) -> Settings:
    """The same broker and store, topics of other names: two kinds of workers take nothing of each other."""
    topology = settings.topology
    names = {
        field: f"{name}-{value}"
        for field, value in msgspec.structs.asdict(topology).items()
        if field.endswith(("_topic", "_subscription"))
    }
    return declared(msgspec.structs.replace(settings, topology=msgspec.structs.replace(topology, **names)))


def declared(settings: Settings) -> Settings:
    """Make what the settings name."""
    open_store(settings.store).declare()
    with closing(open_broker(settings.broker, settings.topology)) as broker:
        broker.declare(settings.topology)
    return settings
