"""`fashion clean`: remove now what is over its retention, and say what it was."""

from __future__ import annotations

import re
import time
from contextlib import closing
from pathlib import Path

import click

from handoff.brokers.urls import open_broker
from handoff.console import Command, json_option, print_json, settings_from, settings_options
from handoff.contracts.errors import SettingsInvalid
from handoff.contracts.protocols import Broker, Removed, SweptBroker, SweptStore
from handoff.contracts.sentences import without_credentials
from handoff.contracts.topology import DAY_S, Topology
from handoff.stores.urls import open_store

UNITS_S = {"s": 1.0, "m": 60.0, "h": 3_600.0, "d": DAY_S}


def seconds(_context: click.Context, _parameter: click.Parameter, text: str | None) -> float | None:
    """Read the age `2d`, `36h`, `90m` or `30s`."""
    if text is None:
        return None
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([smhd])", text.strip())
    if not match:
        raise click.BadParameter(f"{text!r} is no age; write it as 2d, 36h, 90m or 30s.")
    return float(match[1]) * UNITS_S[match[2]]


@click.command("clean", cls=Command)
@settings_options
@click.option(
    "--older-than", "older_than_s", callback=seconds, metavar="AGE", help="2d, 36h, 90m [default: store_retention_s]."
)
@click.option("--dry-run", is_flag=True, help="Say what would be removed, and remove nothing.")
@json_option
def command(
    config: Path | None,
    broker: str | None,
    store: str | None,
    *,
    older_than_s: float | None,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Remove messages over their retention, and requests and results that are older than theirs.

    Workers do the same in the background, once an hour. A bucket does it by a rule that `fashion init` sets.
    """
    settings = settings_from(config, broker, store).settings
    age_s = settings.store_retention_s if older_than_s is None else older_than_s
    if older_than_s is None and not age_s:
        click.echo("Objects are kept for ever (store_retention_s is 0); name an age with --older-than to remove some.")
    with closing(open_broker(settings.broker, settings.topology)) as opened:
        message_count = _clean_broker(opened, without_credentials(settings.broker), dry_run=dry_run)
        removed = Removed()
        if age_s or older_than_s is not None:
            removed = _clean_store(settings.store, opened, settings.topology, age_s=age_s, dry_run=dry_run)
    if as_json:
        print_json(
            {
                "messages": message_count,
                "objects": removed.object_count,
                "bytes": removed.size_bytes,
                "older_than_s": age_s,
                "dry_run": dry_run,
            }
        )


def _clean_broker(broker: Broker, url: str, *, dry_run: bool) -> int:
    if not isinstance(broker, SweptBroker):
        click.echo(f"{url} removes messages over their retention by itself.")
        return 0
    count = broker.sweep(dry_run=dry_run)
    click.echo(f"{_removed(dry_run)} {count:,} deliveries over their retention from {url}.")
    return count


def _clean_store(url: str, broker: Broker, topology: Topology, *, age_s: float, dry_run: bool) -> Removed:
    store = open_store(url)
    if not isinstance(store, SweptStore):
        click.echo(f"{store.root} removes old objects by the rule that `fashion init` sets.")
        return Removed()
    if age_s < topology.retention_s:
        _check_nothing_waits(broker, topology, age_s=age_s)
    count = size_bytes = 0
    for part in store.sweep(older_than_s=age_s, now=time.time(), dry_run=dry_run):
        count, size_bytes = count + part.object_count, size_bytes + part.size_bytes
    click.echo(f"{_removed(dry_run)} {count:,} objects ({size_bytes / 1e6:,.1f} MB) from {store.root}.")
    return Removed(object_count=count, size_bytes=size_bytes)


def _check_nothing_waits(broker: Broker, topology: Topology, *, age_s: float) -> None:
    """Refuse an age at which a message that may still come would find its objects gone, or be classified again."""
    for spec in topology.subscriptions:
        backlog = broker.backlog(spec)
        if backlog.count == 0:
            continue
        oldest_s = backlog.oldest_unacked_age_s
        if oldest_s is None:
            raise SettingsInvalid(
                f"This broker does not say how old the messages of {spec.name} are, and one may need its objects;"
                f" use --older-than {topology.retention_s:g}s (topology.retention_s) or more."
            )
        if oldest_s >= age_s:
            raise SettingsInvalid(
                f"A message of {spec.name} is {oldest_s:,.0f} s old and may need objects of that age;"
                " use a higher --older-than, or have it read first."
            )


def _removed(dry_run: bool) -> str:  # noqa: FBT001 - the one thing it is about
    return "Would remove" if dry_run else "Removed"
