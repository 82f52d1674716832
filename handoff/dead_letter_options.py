"""What the `fashion dead-letters` commands share: their flags, a reading, and which letters are meant."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from typing import Any, NamedTuple, TypeVar

import click

from handoff import dead_letters
from handoff.brokers.urls import open_broker
from handoff.console import json_option, log_to_stderr, settings_from, settings_options
from handoff.contracts.protocols import Broker
from handoff.dead_letter_text import printable
from handoff.dead_letters import DEFAULT_LIMIT, Letter, Reading, chosen
from handoff.progress import Progress
from handoff.settings import Settings

F = TypeVar("F", bound=Callable[..., Any])
ID_SHOWN = 64


class Deployment(NamedTuple):
    """A connected broker, the letters that it gives, and the settings of both."""

    broker: Broker
    reading: Reading
    settings: Settings


def reading_options(command: F) -> F:
    """Add the flags that every one of these commands has."""
    for option in (
        json_option,
        click.option(
            "--idle-timeout",
            type=click.FloatRange(0, min_open=True),
            metavar="SECONDS",
            help="Letters are all read after this silence [default: 1 where the broker is a file, else 5].",
        ),
        click.option(
            "--limit", type=click.IntRange(1), default=DEFAULT_LIMIT, show_default=True, help="Read no more letters."
        ),
        settings_options,
    ):
        command = option(command)
    return command


def choice_options(command: F) -> F:
    """Add what says which letters are meant."""
    for option in (
        click.option("--code", metavar="CODE", help="With --all: only letters with this code."),
        click.option("--all", "take_all", is_flag=True, help="Take every letter."),
        click.argument("ids", nargs=-1, metavar="[ID]..."),
    ):
        command = option(command)
    return command


def check_choice(ids: tuple[str, ...], *, take_all: bool, code: str | None) -> None:
    """Refuse a command line that names no letters, or names them twice over."""
    if bool(ids) == take_all:
        raise click.UsageError("Name the letters by their ids, or all of them with --all.")
    if code is not None and not take_all:
        raise click.UsageError("--code goes with --all.")


@contextmanager
def reading(options: dict[str, Any]) -> Iterator[Deployment]:
    """Connect and begin to read; at the end, whatever ended it, letters that were not acked are given back."""
    log_to_stderr(verbose=False)
    settings = settings_from(options["config"], options["broker"], options["store"]).settings
    with closing(open_broker(settings.broker, settings.topology)) as broker:
        begun = dead_letters.read(
            broker, settings.topology.dead_letters, limit=options["limit"], silence_s=options["idle_timeout"]
        )
        with begun as found:
            yield Deployment(broker, found, settings)


def choose(found: Reading, ids: tuple[str, ...], *, code: str | None = None) -> tuple[list[Letter], list[str]]:
    """Read everything; the letters meant, which without ids are all with this code, and the ids that name none.

    Raises: DeadLetterUnknown: an id names several letters
    """
    with Progress("reading", total=None, unit="letters") as progress:
        for _ in found:
            progress.advance(1)
    if ids:
        return chosen(found.letters, ids)
    return [letter for letter in found.letters.values() if code in {None, letter.burial.code}], []


def say_whether_cut(found: Reading) -> None:
    """Tell of letters that were not looked at."""
    if found.is_cut:
        click.echo("Reading ended at --limit, or at 256 MiB of bodies; there may be more: come again, or raise it.")


def no_letter(given: str, found: Reading) -> str:
    """Say that an id names nothing."""
    where = "among those read; raise --limit" if found.is_cut else "there now; see `fashion dead-letters list`"
    return f"No dead letter whose id begins with '{printable(given, ID_SHOWN)}' is {where}."
