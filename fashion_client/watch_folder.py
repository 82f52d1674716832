"""Console that publishes requests for images as they appear in a folder (`fashion watch`)."""

from __future__ import annotations

import math
import sys
import threading
import time
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import ExitStack
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

if __package__ in {None, ""}:  # run as a script: the packages lie beside this folder
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import click

from fashion_client.client import Client
from fashion_client.image_blocks import Reading
from fashion_client.request_plan import deployment_of
from fashion_client.watch_flights import THREADS, Flights
from fashion_client.watch_folders import Folders, prepare_folders, watching
from fashion_client.watch_journal import FILE_NAME, WatchJournal
from fashion_client.watch_moves import Moves
from fashion_client.watch_outages import Persistence
from fashion_client.watch_parcels import Parcels
from fashion_client.watch_pictures import read_found
from fashion_client.watch_plan import Binding
from fashion_client.watch_report import WatchReport
from fashion_client.watch_scan import Lookout
from fashion_client.watch_sending import Order, WatchSending
from fashion_client.watch_settling import Settling
from fashion_client.watcher import Read, Watcher
from handoff.console import Command, json_option, log_to_stderr, print_json, settings_from, settings_options
from handoff.contracts.errors import SettingsInvalid
from handoff.draining import drained_by_signals
from handoff.image_files.options import Size
from handoff.progress import Progress
from handoff.settings import Settings
from handoff.stores.urls import open_store

# How long `--once` puts up with a broker, a store or a folder that does not answer; without it, for ever.
ONCE_GIVES_UP_AFTER_S = 30.0

_seconds = click.FloatRange(0, min_open=True)


class _Folder(click.Path):
    """A folder that was named: an empty variable of a shell would have this one's pictures moved away."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:  # noqa: ANN401
        """Refuse what names nothing."""
        if value == "":
            self.fail("it is empty; name a folder, or . for this one.", param, ctx)
        return super().convert(value, param, ctx)


_folder = _Folder(path_type=Path)


@click.command("watch", cls=Command)
@click.option("--input", type=_folder, required=True, help="Watch this folder.")
@click.option("--published", type=_folder, required=True, help="Move files here once they are published.")
@click.option(
    "--unreadable",
    type=_folder,
    help="Move files that are no pictures here [default: unreadable, beside --published].",
)
@settings_options
@click.option("--size", type=Size(), metavar="HxW", help="Resize every image [default: each size goes by itself].")
@click.option("--channels", type=click.Choice(["1", "3"]), help="Make all pictures gray or RGB [default: as they are].")
@click.option("--labels/--no-labels", default=True, show_default=True, help="Take a sub-folder's name as a label.")
@click.option("--batch-size", type=click.IntRange(1), help="Images a request, at most [default: 100].")
@click.option(
    "--format", "payload_format", type=click.Choice(["csv", "csv.gz"]), help="How batches are stored [default: csv]."
)
@click.option("--model", help="Ask for this model, NAME or NAME:VERSION.")
@click.option("--settle", type=_seconds, default=1.0, show_default=True, help="Seconds a file must not change.")
@click.option(
    "--linger",
    type=click.FloatRange(0),
    default=1.0,
    show_default=True,
    help="Seconds a request waits for more images.",
)
@click.option(
    "--unreadable-after",
    type=_seconds,
    default=10.0,
    show_default=True,
    help="Seconds after which a file that does not change and is no picture is given up.",
)
@click.option("--period", type=_seconds, default=0.5, show_default=True, help="Seconds between two looks.")
@click.option(
    "--journal",
    type=click.Path(dir_okay=False, path_type=Path),
    help=f"Write down here what is under way [default: {FILE_NAME} in --published].",
)
@click.option("--once", is_flag=True, help="Publish what is there now, and end.")
@json_option
def command(**options: Any) -> None:  # noqa: ANN401 - click passes them so
    """Publish requests for PNG and JPEG files as they appear in a folder, until Ctrl-C or SIGTERM.

    A file is taken when it lies still and is whole. What was published is moved to --published, each file once, also
    when this program or the machine breaks down in between: start it again with the same folders.

    The first signal finishes what is begun, a second one ends at once.
    """
    log_to_stderr(verbose=False)
    if options["unreadable_after"] < options["settle"]:
        raise click.UsageError("--unreadable-after must not be shorter than --settle.")
    settings = settings_from(
        options["config"],
        options["broker"],
        options["store"],
        client__batch_size=options["batch_size"],
        client__format=options["payload_format"],
    ).settings
    if settings.client.format == "npy":
        raise SettingsInvalid("npy carries no names, and responses are to name the files; use --format csv or csv.gz.")
    import_module("PIL.Image")  # said now, where it is missing, and not when the first picture comes
    folders = prepare_folders(options["input"], options["published"], options["unreadable"])
    binding = Binding(input=str(folders.input), published=str(folders.published), deployment=deployment_of(settings))
    with ExitStack() as stack:
        stack.enter_context(watching(folders.input))
        journal = stack.enter_context(WatchJournal.open(options["journal"] or folders.published / FILE_NAME, binding))
        report = WatchReport(stack.enter_context(Progress("published", total=None, unit="images")))
        try:
            _watch(folders, journal, report, settings=settings, options=options)
        finally:
            _sum_up(journal, report, as_json=options["as_json"])


def _watch(
    folders: Folders, journal: WatchJournal, report: WatchReport, *, settings: Settings, options: dict[str, Any]
) -> None:
    stopped, wake = threading.Event(), threading.Event()

    def drain() -> None:
        stopped.set()
        wake.set()

    moves, persistence = Moves(folders), _persistence(report, stopped, once=options["once"])
    with ExitStack() as stack:
        sending = WatchSending(
            stack.enter_context(_client(journal, settings)),
            store=open_store(settings.store),
            journal=journal,
            moves=moves,
            persistence=persistence,
            order=Order(folders.input, _reading(options), settings.client.format, options["model"]),
        )
        threads = stack.enter_context(ThreadPoolExecutor(THREADS, "request"))
        readers = stack.enter_context(ThreadPoolExecutor(THREADS, "picture"))
        watcher = Watcher(
            Lookout(folders.input, period_s=options["period"], notices=report.notices, clock=time.monotonic),
            settling=_settling(folders, options),
            read=_read_with(readers, folders, options),
            parcels=Parcels(batch_size=settings.client.batch_size, linger_s=options["linger"]),
            flights=Flights(sending, threads, when_landed=wake.set),
            moves=moves,
            report=report,
            clock=time.monotonic,
        )
        stack.enter_context(drained_by_signals(drain))
        watcher.resume(journal.entries())
        watcher.run(stopped=stopped, wake=wake, once=options["once"])


def _persistence(report: WatchReport, stopped: threading.Event, *, once: bool) -> Persistence:
    give_up_after_s = ONCE_GIVES_UP_AFTER_S if once else math.inf
    return Persistence(report.notices, stopped_within=stopped.wait, give_up_after_s=give_up_after_s)


def _settling(folders: Folders, options: dict[str, Any]) -> Settling:
    return Settling(
        folders.input,
        settle_s=options["settle"],
        unreadable_after_s=options["unreadable_after"],
        once=options["once"],
    )


def _read_with(readers: Executor, folders: Folders, options: dict[str, Any]) -> Read:
    read = partial(read_found, folders.input, reading=_reading(options), labelled=options["labels"])
    return lambda sightings: list(readers.map(read, sightings))


def _client(journal: WatchJournal, settings: Settings) -> Client:
    return Client.open(
        settings.broker,
        settings.store,
        topology=settings.topology,
        client_id=journal.binding.client_id,
        receive="nothing",
        telemetry_endpoint=settings.telemetry.endpoint,
    )


def _reading(options: dict[str, Any]) -> Reading:
    return Reading(options["size"], int(options["channels"]) if options["channels"] else None)


def _sum_up(journal: WatchJournal, report: WatchReport, *, as_json: bool) -> None:
    unfinished = len(journal.entries())
    click.echo(report.text())
    if unfinished:
        click.echo(f"{unfinished} requests are not done with; the same command goes on with them.", err=True)
    if as_json:
        print_json(report.figures() | {"unfinished": unfinished, "journal": str(journal.path)})


if __name__ == "__main__":
    command(prog_name=Path(__file__).name)
