"""`fashion dead-letters`: list, show, replay and drop what could not be served, on any broker."""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, cast

import click

from handoff import dead_letter_text as text
from handoff import dead_letters
from handoff.console import Command, print_json
from handoff.contracts.errors import DeadLetterUnknown, ExitCode, SettingsInvalid
from handoff.dead_letter_objects import look_up
from handoff.dead_letter_options import (
    check_choice,
    choice_options,
    choose,
    no_letter,
    reading,
    reading_options,
    say_whether_cut,
)
from handoff.dead_letters import Letter, Reading
from handoff.progress import Progress
from handoff.stores.urls import open_store


@click.group("dead-letters", context_settings={"help_option_names": ["-h", "--help"]})
def group() -> None:
    """List, show, replay or drop the messages that could not be served.

    A letter is called by its id, or by as many first digits of it as are enough. Letters are held while a command reads
    them and given back at its end, so two commands at once each see a part of them.
    """


@group.command("list", cls=Command)
@reading_options
@click.option("--code", metavar="CODE", help="Only letters with this code.")
def list_command(code: str | None, **options: Any) -> None:  # noqa: ANN401 - click passes them so
    """Show what could not be served and why; takes nothing away.

    `requested` is when the client sent it. A message that is there twice is one letter.
    """
    # What is not cut can be searched; a terminal gets one line a letter.
    columns = shutil.get_terminal_size().columns if sys.stdout.isatty() else None
    with reading(options) as (_, found, _settings):
        letters: list[Letter] = []
        for letter in found:
            if code not in {None, letter.burial.code}:
                continue
            if not letters:
                click.echo(text.header(columns=columns))
            letters.append(letter)
            click.echo(text.row(letter, columns=columns))
        click.echo(text.summary(letters) if letters else f"No dead letters{_with(code)}.")
        say_whether_cut(found)
        if options["as_json"]:
            print_json({"letters": [text.figures(each) for each in letters], "complete": not found.is_cut})


@group.command("show", cls=Command)
@reading_options
@click.option(
    "--raw", type=click.Path(dir_okay=False, path_type=Path), metavar="FILE", help="Write the body here as it was sent."
)
@click.argument("letter_id", metavar="ID")
def show_command(letter_id: str, raw: Path | None, **options: Any) -> None:  # noqa: ANN401 - click passes them so
    """Show one letter whole, and whether the store has its batch and an answer; takes nothing away."""
    with reading(options) as (_, found, settings):
        letters, _unknown = choose(found, (letter_id,))
        if not letters:
            raise DeadLetterUnknown(no_letter(letter_id, found))
        (letter,) = letters
        if raw is not None:
            with _opened(raw, "wb") as file:
                file.write(letter.message.body)
        batch, answer = look_up(letter, lambda: open_store(settings.store))
        for line in text.page(letter):
            click.echo(line)
        click.echo(f"batch       {text.printable(batch.words)}")
        click.echo(f"answer      {text.printable(answer.words)}")
        if options["as_json"]:
            print_json({**text.whole(letter), "batch_is_there": batch.is_there, "answer_is_there": answer.is_there})


@group.command("replay", cls=Command)
@reading_options
@click.option("--force", is_flag=True, help="Also what is malformed, which comes back as a letter.")
@choice_options
def replay_command(ids: tuple[str, ...], *, take_all: bool, code: str | None, force: bool, **options: Any) -> None:  # noqa: ANN401
    """Publish letters' requests again, as they were, and take the letters away.

    A letter goes when the broker has its request for good. Interrupted or done twice, a request is still answered
    once. Letters that come back meanwhile wait for the next replay.
    """
    check_choice(ids, take_all=take_all, code=code)
    with reading(options) as (broker, found, settings):
        letters, unknown = choose(found, ids, code=code)
        hopeless = [letter for letter in letters if letter.is_malformed and not force]
        letters = [letter for letter in letters if force or not letter.is_malformed]
        if hopeless:
            click.echo(f"{len(hopeless):,} malformed left alone: they would come back; --force replays them as well.")
        if not letters:
            click.echo("There is nothing to replay.")
        refused_count = 0
        with _counted("replay", letters) as done:
            for letter, refusal in dead_letters.replay(broker, settings.topology.requests_topic, letters):
                done(f"replayed  {_named(letter)}" if refusal is None else f"stays  {letter.id}  {refusal}")
                refused_count += refusal is not None
        say_whether_cut(found)
        counts = {"replayed": len(letters) - refused_count, "refused": refused_count, "malformed": len(hopeless)}
        if options["as_json"]:
            print_json({**counts, "unknown": unknown})
    _end(found, unknown, code=ExitCode.PREDICTIONS_FAILED if refused_count else ExitCode.OK)


@group.command("drop", cls=Command)
@reading_options
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.option(
    "--save",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Append the letters to this file first, a JSON object a line.",
)
@choice_options
def drop_command(ids: tuple[str, ...], *, take_all: bool, code: str | None, yes: bool, **options: Any) -> None:  # noqa: ANN401
    """Take letters away for good; asks first."""
    check_choice(ids, take_all=take_all, code=code)
    if not yes and not sys.stdin.isatty():
        raise click.UsageError("There is no terminal to ask in; --yes drops without asking.")
    with reading(options) as (_, found, _settings):
        letters, unknown = choose(found, ids, code=code)
        if not letters:
            click.echo("There is nothing to drop.")
        elif not yes and not _confirmed(f"Drop {text.summary(letters)[:-1]}?"):
            click.echo("Nothing was dropped.")
            letters = []
        _save(options["save"], letters)
        with _counted("drop", letters) as done:
            for letter in letters:
                dead_letters.drop(letter)
                done(f"dropped  {_named(letter)}")
        say_whether_cut(found)
        if options["as_json"]:
            print_json({"dropped": len(letters), "unknown": unknown})
    _end(found, unknown)


def _named(letter: Letter) -> str:
    return f"{letter.id}  {letter.request_id or '-'}  {text.printable(letter.burial.code, text.CODE_WIDTH)}"


def _with(code: str | None) -> str:
    return f" with the code {text.printable(code)}" if code is not None else ""


@contextmanager
def _counted(title: str, letters: Sequence[Letter]) -> Iterator[Callable[[str], None]]:
    """Count letters as they are done, each with a line; nothing where there are none."""
    if not letters:
        yield click.echo
        return
    with Progress(title, total=len(letters), unit="letters") as progress:

        def done(line: str) -> None:
            progress.advance(1)
            progress.write(line)

        yield done


def _confirmed(question: str) -> bool:
    try:
        return click.confirm(question)
    except click.Abort:
        raise KeyboardInterrupt from None


def _save(path: Path | None, letters: Sequence[Letter]) -> None:
    """Append letters to a file, and return when the disk has them."""
    if path is None or not letters:
        return
    with _opened(path, "ab") as file:
        for letter in letters:
            file.write(json.dumps(text.whole(letter)).encode() + b"\n")
        file.flush()
        os.fsync(file.fileno())


@contextmanager
def _opened(path: Path, mode: str) -> Iterator[BinaryIO]:
    try:
        with path.open(mode) as file:
            yield cast("BinaryIO", file)
    except OSError as error:
        raise SettingsInvalid(f"The file {path} cannot be written: {error.strerror}.") from error


def _end(found: Reading, unknown: Sequence[str], *, code: ExitCode = ExitCode.OK) -> None:
    """Say which ids name no letter, after what could be done was done, and exit."""
    for given in unknown:
        click.echo(f"Error: {no_letter(given, found)}", err=True)
    click.get_current_context().exit(ExitCode.DEAD_LETTER_UNKNOWN if unknown else code)
