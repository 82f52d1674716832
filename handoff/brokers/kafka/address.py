"""What a Kafka URL says: `kafka://HOST:9092[,HOST:9092…][?mode=…&partitions=…&replication=…&properties=FILE&NAME=VALUE…]`."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Literal, NamedTuple, cast, get_args
from urllib.parse import parse_qsl

from handoff.contracts.errors import SettingsInvalid

Mode = Literal["consumer-group", "share-group"]

# More than anyone starts workers on a few machines; raising it later moves keys, which harms nothing here.
DEFAULT_PARTITIONS = 8
# The broker's own `default.replication.factor` (KIP-464).
BROKER_CHOOSES = -1

_URL = re.compile(r"kafka://(?P<servers>[^/?#@]+)/?(?:\?(?P<query>[^#]*))?")
# Of one server; librdkafka would take any other port for 0 or for one of its own reckoning, and wait for an answer.
_SERVER = re.compile(r"(?:\[[^\]]+\]|[^:\[\]\s]+)(?::(?P<port>[0-9]{1,5}))?")
_PORTS = range(1, 65_536)
_OURS = ("mode", "partitions", "replication", "properties")
# What the adapter's promises rest on, and so sets itself; and what is no text, as every `…_cb` is none.
_RESERVED = frozenset({
    "acks", "auto.offset.reset", "batch.num.messages", "bootstrap.servers", "default.topic.config",
    "delivery.report.only.error",
    "enable.auto.commit", "enable.auto.offset.store", "enable.idempotence", "enable.partition.eof", "group.id",
    "group.instance.id", "group.protocol", "max.poll.records", "metadata.broker.list",
    "partition.assignment.strategy", "request.required.acks", "session.timeout.ms",
    "share.acknowledgement.mode", "transactional.id",
})  # fmt: skip


class Address(NamedTuple):
    """Where a cluster is, how it is spoken to, and what `fashion init` makes there."""

    servers: str
    mode: Mode = "consumer-group"
    partitions: int = DEFAULT_PARTITIONS
    replication: int = BROKER_CHOOSES
    properties: Mapping[str, str] = {}
    """librdkafka's properties, passed through: TLS, SASL, time-outs."""


def parse_address(url: str) -> Address:
    """Read a URL, and the file of properties that it may name.

    Raises: SettingsInvalid: not such a URL, or a property that is not the user's to set
    """
    match = _URL.fullmatch(url)
    if not match:
        raise SettingsInvalid(
            f"The broker URL {url!r} names no cluster; use kafka://HOST:9092, with sasl.username and sasl.password "
            "in a file that ?properties=FILE names."
        )
    _check_servers(match["servers"])
    given = parse_qsl(match["query"] or "", keep_blank_values=True)
    ours = {name: value for name, value in given if name in _OURS}
    properties = {name: value for name, value in given if name not in _OURS}
    if "properties" in ours:
        properties = {**_read_properties(Path(ours["properties"])), **properties}
    for name in properties:
        if name in _RESERVED or name.endswith("_cb"):
            raise SettingsInvalid(f"The Kafka property {name} is the adapter's own to set; leave it out.")
    mode = ours.get("mode", "consumer-group")
    if mode not in get_args(Mode):
        raise SettingsInvalid(f"The Kafka mode {mode!r} is unknown; use {' or '.join(get_args(Mode))}.")
    return Address(
        match["servers"],
        mode=cast("Mode", mode),
        partitions=_count(ours, "partitions", DEFAULT_PARTITIONS),
        replication=_count(ours, "replication", BROKER_CHOOSES),
        properties=properties,
    )


def _check_servers(servers: str) -> None:
    for server in servers.split(","):
        match = _SERVER.fullmatch(server)
        if not match or int(match["port"] or _PORTS[0]) not in _PORTS:
            raise SettingsInvalid(
                f"The broker URL names the server {server!r}, which is no HOST:PORT; use kafka://HOST:9092 "
                "or kafka://HOST:9092,HOST:9092."
            )


def _count(given: Mapping[str, str], name: str, default: int) -> int:
    text = given.get(name)
    if text is None:
        return default
    if not (text.isascii() and text.isdigit() and len(text) < 5 and int(text)):  # noqa: PLR2004 - a cluster has less
        raise SettingsInvalid(f"The Kafka URL says {name}={text}; it must be a whole number from 1.")
    return int(text)


def _read_properties(path: Path) -> dict[str, str]:
    """Read `name=value` lines, as Kafka's own tools write them; `#` begins a comment."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError) as error:  # no such file, none that there could be, or not of text
        raise SettingsInvalid(f"The Kafka properties cannot be read from {path}: {error}.") from error
    found = {}
    for line in map(str.strip, lines):
        name, equals, value = (part.strip() for part in line.partition("="))
        if not line or line.startswith("#"):
            continue
        if not equals or not name:
            raise SettingsInvalid(f"{path} has a line that is no `name=value`; Kafka properties are needed there.")
        found[name] = value
    return found
