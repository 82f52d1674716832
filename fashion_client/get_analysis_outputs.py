"""Console that receives responses, shows them as they come, and sums up (`fashion receive`)."""

from __future__ import annotations

import csv
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Self

if __package__ in {None, ""}:  # run as a script: the packages lie beside this folder
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import click

from fashion_client.client import Client
from fashion_client.submission import Result
from fashion_client.summary import Summary, line_of
from handoff.console import Command, json_option, log_to_stderr, print_json, settings_from, settings_options
from handoff.contracts.errors import ExitCode, SettingsInvalid
from handoff.contracts.messages import AnalysisResponse
from handoff.progress import Progress
from handoff.settings import Settings
from handoff.stores.urls import open_store


@click.command("receive", cls=Command)
@settings_options
@click.option("--count", type=click.IntRange(1), help="End after this many responses.")
@click.option("--idle-timeout", type=click.FloatRange(0, min_open=True), help="End after this many seconds of silence.")
@click.option(
    "--predictions", type=click.Path(dir_okay=False, path_type=Path), help="Write every prediction here (CSV)."
)
@click.option("--quiet", is_flag=True, help="Show the summary only.")
@json_option
def command(**options: Any) -> None:  # noqa: ANN401 - click passes them so
    """Show responses as they come, until Ctrl-C, --count or --idle-timeout, then sum up.

    Exits 1 when any prediction failed. Consoles started side by side share the responses.
    """
    log_to_stderr(verbose=False)
    settings = settings_from(options["config"], options["broker"], options["store"]).settings
    summary = Summary()
    with ExitStack() as stack:
        client = stack.enter_context(
            Client.open(
                settings.broker,
                settings.store,
                topology=settings.topology,
                receive="shared",
                telemetry_endpoint=settings.telemetry.endpoint,
            )
        )
        write = stack.enter_context(predictions_file(options["predictions"], settings))
        watch = stack.enter_context(IdleWatch(options["idle_timeout"], client.stop_receiving))
        progress = stack.enter_context(Progress("responses", total=options["count"], unit="responses"))
        try:
            for response in client.responses():
                watch.reset()
                latency_ms = summary.add(response)
                write(response)
                progress.advance(1)
                if not options["quiet"]:
                    progress.write(line_of(response, latency_ms))
                if summary.response_count == options["count"]:
                    client.stop_receiving()  # the iteration goes on to its end, which acks this response
        except KeyboardInterrupt:
            click.echo("", err=True)
    click.echo(summary.text())
    if options["as_json"]:
        print_json(summary.figures())
    click.get_current_context().exit(ExitCode.PREDICTIONS_FAILED if summary.failed_count else ExitCode.OK)


@contextmanager
def predictions_file(path: Path | None, settings: Settings) -> Iterator[Callable[[AnalysisResponse], None]]:
    """Open a CSV file for every prediction of every response; without a path nothing is written.

    Raises: SettingsInvalid: the file cannot be written
    """
    if path is None:
        yield lambda _response: None
        return
    store = open_store(settings.store)
    try:
        file = path.open("w", newline="", encoding="utf-8")
    except OSError as error:
        raise SettingsInvalid(f"The predictions cannot be written to {path}: {error.strerror}.") from error
    with file:
        rows = csv.writer(file)
        rows.writerow(["request_id", "image_id", "label_id", "label", "probability"])

        def write(response: AnalysisResponse) -> None:
            if response.status == "succeeded":
                found = Result(response, store).predictions()
                best = found.probabilities.max(axis=1).astype(float).round(6)
                columns = (found.image_ids, found.label_ids.tolist(), found.labels, best.tolist())
                rows.writerows((response.request_id, *row) for row in zip(*columns, strict=True))

        yield write


class IdleWatch:
    """Calls `stop` after a silence of `timeout_s` seconds; never where that is None."""

    def __init__(self, timeout_s: float | None, stop: Callable[[], None]) -> None:
        self._timeout_s = timeout_s
        self._stop = stop
        self._heard = threading.Event()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="idle-watch", daemon=True)

    def __enter__(self) -> Self:
        if self._timeout_s is not None:
            self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._heard.set()

    def reset(self) -> None:
        """Something was heard."""
        self._heard.set()

    def _run(self) -> None:
        while self._heard.wait(self._timeout_s):
            if self._over.is_set():
                return
            self._heard.clear()
        self._stop()


if __name__ == "__main__":
    command(prog_name=Path(__file__).name)
