"""Console that receives responses, shows them as they come, and sums up (`fashion receive`)."""

from __future__ import annotations

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
from fashion_client.sinks import open_sinks
from fashion_client.summary import Summary, line_of
from handoff.console import Command, json_option, log_to_stderr, print_json, settings_from, settings_options
from handoff.contracts.errors import ExitCode
from handoff.image_files.options import Shape
from handoff.progress import Progress

FOLDER = click.Path(file_okay=False, path_type=Path)


@click.command("receive", cls=Command)
@settings_options
@click.option("--count", type=click.IntRange(1), help="End after this many responses.")
@click.option("--idle-timeout", type=click.FloatRange(0, min_open=True), help="End after this many seconds of silence.")
@click.option(
    "--predictions", type=click.Path(dir_okay=False, path_type=Path), help="Add every prediction to this CSV file."
)
@click.option("--images", type=FOLDER, help="Write every image into this folder, as NAME-LABEL.png.")
@click.option("--sheets", type=FOLDER, help="Write a contact sheet a request into this folder: images, labels, errors.")
@click.option("--shape", type=Shape(), metavar="HxW[xC]", help="Shape of images in CSV batches [default: square].")
@click.option("--quiet", is_flag=True, help="Show the summary only.")
@json_option
def command(**options: Any) -> None:  # noqa: ANN401 - click passes them so
    """Show responses as they come, until Ctrl-C, --count or --idle-timeout, then sum up.

    Exits 1 when any prediction failed, or what was to be written cannot be read from the store. Consoles started side
    by side share the responses. Images are read back from the store; a second run writes none twice (docs/images.md).
    """
    log_to_stderr(verbose=False)
    settings = settings_from(options["config"], options["broker"], options["store"]).settings
    summary, is_complete = Summary(), True
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
        sinks = stack.enter_context(
            open_sinks(settings, **{name: options[name] for name in ("predictions", "images", "sheets", "shape")})
        )
        watch = stack.enter_context(IdleWatch(options["idle_timeout"], client.stop_receiving))
        progress = stack.enter_context(Progress("responses", total=options["count"], unit="responses"))
        try:
            for response in client.responses():
                latency_ms = summary.add(response)
                with watch.handling():
                    is_complete &= sinks.save(response)
                progress.advance(1)
                if not options["quiet"]:
                    progress.write(line_of(response, latency_ms))
                if summary.response_count == options["count"]:
                    client.stop_receiving()  # the iteration goes on to its end, which acks this response
        except KeyboardInterrupt:
            click.echo("", err=True)
    click.echo("\n".join(filter(None, [summary.text(), sinks.text()])))
    if options["as_json"]:
        print_json(summary.figures() | sinks.figures())
    is_good = is_complete and not summary.failed_count
    click.get_current_context().exit(ExitCode.OK if is_good else ExitCode.PREDICTIONS_FAILED)


class IdleWatch:
    """Calls `stop` after a silence of `timeout_s` seconds; never where that is None."""

    def __init__(self, timeout_s: float | None, stop: Callable[[], None]) -> None:
        self._timeout_s = timeout_s
        self._stop = stop
        self._heard = threading.Event()
        self._over = threading.Event()
        self._is_busy = False
        self._thread = threading.Thread(target=self._run, name="idle-watch", daemon=True)

    def __enter__(self) -> Self:
        if self._timeout_s is not None:
            self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._heard.set()

    @contextmanager
    def handling(self) -> Iterator[None]:
        """Something was heard, and for as long as this block takes nobody listens: that is no silence."""
        self._is_busy = True
        try:
            yield
        finally:
            self._heard.set()
            self._is_busy = False

    def _run(self) -> None:
        # Whether something was heard is looked at last: who is not busy any more has said so before.
        while self._heard.wait(self._timeout_s) or self._is_busy or self._heard.is_set():
            if self._over.is_set():
                return
            self._heard.clear()
        self._stop()


if __name__ == "__main__":
    command(prog_name=Path(__file__).name)
