"""Console that classifies any number of images and writes one file of predictions (`fashion classify`)."""

from __future__ import annotations

import sys
import time
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any, get_args

if __package__ in {None, ""}:  # run as a script: the packages lie beside this folder
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import click

from fashion_client.bulk import Deletion, Job, begin, classify
from fashion_client.bulk_flights import Flights, Order, Patience
from fashion_client.bulk_inputs import count_images, find_inputs
from fashion_client.bulk_output import BulkOutput
from fashion_client.bulk_progress_file import JobProgress
from fashion_client.client import Client
from fashion_client.image_blocks import Reading
from handoff.console import Command, json_option, log_to_stderr, print_json, settings_from, settings_options
from handoff.contracts.errors import ExitCode
from handoff.contracts.messages import PayloadFormat
from handoff.contracts.protocols import Store
from handoff.image_files.options import Size
from handoff.progress import Progress
from handoff.settings import Settings
from handoff.stores.urls import open_store

# Large enough that a request's own cost vanishes, small enough that a worker's micro-batches and memory do not notice.
BATCH_SIZE = 1_000
WINDOW = 32


@click.command("classify", cls=Command)
@click.argument("inputs", metavar="INPUT...", nargs=-1, required=True)
@settings_options
@click.option(
    "--output",
    type=click.Path(dir_okay=False, path_type=Path),
    required=True,
    help="Write the predictions here (CSV); how far they are stands in a .progress file beside it.",
)
@click.option("--overwrite", is_flag=True, help="Begin anew, whatever the output holds.")
@click.option("--size", type=Size(), metavar="HxW", help="Resize every image [default: all must be of one size].")
@click.option("--channels", type=click.Choice(["1", "3"]), help="Make all pictures gray or RGB [default: as they are].")
@click.option(
    "--batch-size", type=click.IntRange(1), default=BATCH_SIZE, show_default=True, help="Images a request, at most."
)
@click.option(
    "--window", type=click.IntRange(1), default=WINDOW, show_default=True, help="Requests in flight, at most."
)
@click.option(
    "--format",
    "payload_format",
    type=click.Choice(get_args(PayloadFormat)),
    default="npy",
    show_default=True,
    help="How batches are stored.",
)
@click.option("--model", help="Ask for this model, NAME or NAME:VERSION.")
@click.option("--keep", is_flag=True, help="Keep the requests and results in the store [default: delete what is done].")
@json_option
def command(inputs: tuple[str, ...], output: Path, **options: Any) -> None:  # noqa: ANN401 - click passes them so
    """Classify all images of INPUT... and write one CSV file with a row an image, in their order.

    INPUT is an idx, CSV, npy or npz file, a picture, a folder of PNG or JPEG files, or the beginning of objects' URIs
    in the store (gs://BUCKET/PREFIX/). The same command goes on where it was ended, by Ctrl-C or otherwise.
    """
    log_to_stderr(verbose=False)
    settings = settings_from(options["config"], options["broker"], options["store"]).settings
    store = open_store(settings.store)
    found = find_inputs(inputs, store, max_object_bytes=settings.worker.max_batch_bytes)
    job = Job(
        found,
        Reading(options["size"], int(options["channels"]) if options["channels"] else None),
        options["batch_size"],
        Order(options["payload_format"], options["model"], with_file=found.has_several),
    )
    before = begin(job, output, overwrite=options["overwrite"])
    started_at = time.perf_counter()
    try:
        done, failed_path = _run(job, before, output, settings=settings, store=store, options=options)
    except KeyboardInterrupt:
        click.echo("Interrupted; the same command goes on from there.", err=True)
        click.get_current_context().exit(ExitCode.INTERRUPTED)
    _report(before, done, output, failed_path, seconds=time.perf_counter() - started_at, as_json=options["as_json"])
    click.get_current_context().exit(ExitCode.PREDICTIONS_FAILED if done.failed_images else ExitCode.OK)


def _run(
    job: Job, before: JobProgress, path: Path, *, settings: Settings, store: Store, options: dict[str, Any]
) -> tuple[JobProgress, Path]:
    total, is_estimate = count_images(job.inputs)
    if before.batches:
        click.echo(f"Resuming after {before.images:,} of {_said(total, is_estimate)} images.", err=True)
    with ExitStack() as stack:
        deletion = stack.enter_context(closing(Deletion(store, run=before, order=job.order, keep=options["keep"])))
        output = stack.enter_context(BulkOutput(path, before, delete=deletion.begin))
        client = stack.enter_context(
            Client.open(
                settings.broker,
                settings.store,
                topology=settings.topology,
                telemetry_endpoint=settings.telemetry.endpoint,
            )
        )
        progress = stack.enter_context(
            Progress("classified", total=total, unit="images", done=before.images, is_estimate=is_estimate)
        )
        patience = Patience(timeout_s=settings.client.timeout_s)
        flights = stack.enter_context(
            closing(
                Flights(
                    client,
                    store=store,
                    order=job.order,
                    window=options["window"],
                    patience=patience,
                    notify=progress.note,
                )
            )
        )
        classify(job.batches(before), flights=flights, output=output, progress=progress)
        return output.finish(), output.failed_path


def _said(total: int | None, is_estimate: bool) -> str:  # noqa: FBT001 - it goes with the total
    return "an unknown number of" if total is None else f"{'about ' if is_estimate else ''}{total:,}"


def _report(
    before: JobProgress, done: JobProgress, output: Path, failed_path: Path, *, seconds: float, as_json: bool
) -> None:
    classified = done.images - done.failed_images
    rate = (done.images - before.images) / seconds if seconds > 0 else 0.0
    click.echo(f"{classified:,} images in {output}; {seconds:.1f} s, {rate:,.0f} images/s")
    for label, count in sorted(done.labels.items(), key=lambda entry: -entry[1]):
        click.echo(f"{label:<20}{count:>14,}  {count / classified:.1%}")
    if done.failed_images:
        click.echo(f"{done.failed_images:,} images failed, {done.failed_batches:,} batches whole: see {failed_path}")
    if as_json:
        print_json(
            {
                "images": classified,
                "resumed_after": before.images,
                "seconds": round(seconds, 3),
                "images_per_s": rate,
                "labels": done.labels,
                "models": done.models,
                "failed_batches": done.failed_batches,
                "failed_images": done.failed_images,
                "output": str(output),
            }
        )


if __name__ == "__main__":
    command(prog_name=Path(__file__).name)
