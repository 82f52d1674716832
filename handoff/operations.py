"""Commands about a deployment itself: `fashion init`, `fashion status`, `fashion config`."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import click
import msgspec

from handoff.brokers.urls import open_broker
from handoff.console import Command, json_option, print_json, settings_from, settings_options
from handoff.contracts.sentences import without_credentials
from handoff.stores.urls import open_store


@click.command("init", cls=Command)
@settings_options
@json_option
def init_command(config: Path | None, broker: str | None, store: str | None, *, as_json: bool) -> None:
    """Create topics, subscriptions and the store where they are missing, and a bucket's retention; says what it did.

    Running it again changes nothing. The embedded broker needs no init.
    """
    settings = settings_from(config, broker, store).settings
    with closing(open_broker(settings.broker, settings.topology)) as opened:
        done = opened.declare(settings.topology)
    done += open_store(settings.store).declare(retention_s=settings.store_retention_s)
    for sentence in done:
        click.echo(sentence)
    click.echo(f"{without_credentials(settings.broker)} and {settings.store} are ready.")
    if as_json:
        print_json({"done": done})


@click.command("status", cls=Command)
@settings_options
@json_option
def status_command(config: Path | None, broker: str | None, store: str | None, *, as_json: bool) -> None:
    """Show the backlog of each subscription: the signal to start more workers."""
    settings = settings_from(config, broker, store).settings
    with closing(open_broker(settings.broker, settings.topology)) as opened:
        backlogs = {spec.name: opened.backlog(spec) for spec in settings.topology.subscriptions}
    click.echo(f"{'subscription':<32}{'unacked':>10}{'oldest, s':>12}")
    for name, backlog in backlogs.items():
        click.echo(f"{name:<32}{_shown(backlog.count):>10}{_shown(backlog.oldest_unacked_age_s):>12}")
    if unknown := [name for name, backlog in backlogs.items() if backlog.count is None]:
        click.echo(f"This broker does not say how much waits on {' and '.join(unknown)}.")
    if as_json:
        print_json({name: msgspec.structs.asdict(backlog) for name, backlog in backlogs.items()})


@click.command("config", cls=Command)
@settings_options
@json_option
def config_command(config: Path | None, broker: str | None, store: str | None, *, as_json: bool) -> None:
    """Show every setting, its value and its origin: flag > environment > settings file > default."""
    rows = [
        (name, without_credentials(value) if isinstance(value, str) else value, origin)
        for name, value, origin in settings_from(config, broker, store).rows()
    ]
    for name, value, origin in rows:
        click.echo(f"{name:<36}{value!s:<35} {origin}")
    if as_json:
        print_json({name: {"value": value, "origin": origin} for name, value, origin in rows})


def _shown(figure: float | None) -> str:
    return "-" if figure is None else f"{figure:,.0f}"
