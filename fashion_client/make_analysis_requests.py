"""Console that uploads batches of images and publishes a request for each (`fashion request`)."""

from __future__ import annotations

import itertools
import math
import sys
import time
import uuid
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, get_args

if __package__ in {None, ""}:  # run as a script: the packages lie beside this folder
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import click

from fashion_client.client import Client
from fashion_client.sources import SAMPLE_IMAGES, SAMPLE_LABELS, batches, count_images, read_images
from fashion_client.submission import Submission
from handoff.console import Command, json_option, log_to_stderr, print_json, settings_from, settings_options
from handoff.contracts.batches import Batch
from handoff.contracts.messages import PayloadFormat
from handoff.image_files.options import Size
from handoff.progress import Progress
from handoff.settings import Settings

# Uploads under way at once: enough to hide a distant store's answer time, few enough for a laptop.
UPLOADS = 4

FORMATS = get_args(PayloadFormat)


@click.command("request", cls=Command)
@click.argument("images", type=click.Path(path_type=Path), required=False)
@settings_options
@click.option("--labels", type=click.Path(path_type=Path), help="True labels of idx, npy or npz images.")
@click.option("--size", type=Size(), metavar="HxW", help="Resize every image [default: all must be of one size].")
@click.option("--channels", type=click.Choice(["1", "3"]), help="Make all pictures gray or RGB [default: as they are].")
@click.option("--batch-size", type=click.IntRange(1), help="Images a request [default: 100].")
@click.option("--format", "payload_format", type=click.Choice(FORMATS), help="How batches are stored [default: csv].")
@click.option("--count", type=click.IntRange(1), help="Stop after this many requests.")
@click.option("--repeat", type=click.IntRange(1), default=1, show_default=True, help="Send all images this many times.")
@click.option("--rate", type=click.FloatRange(0, min_open=True), help="Requests a second at most.")
@click.option("--model", help="Ask for this model, NAME or NAME:VERSION.")
@json_option
def command(images: Path | None, repeat: int, count: int | None, **options: Any) -> None:  # noqa: ANN401 - click's
    """Upload IMAGES in batches and publish a request for each.

    IMAGES is an idx file (.gz or not), a CSV file with pixel columns, a .npy or .npz file, or a folder of PNG or JPEG
    files, one sub-folder a label where labels are known. Without IMAGES the 1,000 sample images are sent.
    """
    log_to_stderr(verbose=False)
    if options["labels"] and not images:
        raise click.UsageError("--labels belongs to IMAGES: name both.")
    settings = settings_from(
        options["config"],
        options["broker"],
        options["store"],
        client__batch_size=options["batch_size"],
        client__format=options["payload_format"],
    ).settings
    source = images or SAMPLE_IMAGES
    labels = options["labels"] if images else SAMPLE_LABELS
    size = settings.client.batch_size
    channels = int(options["channels"]) if options["channels"] else None

    def all_batches() -> Iterator[Batch]:
        for _ in range(repeat):
            yield from batches(read_images(source, labels=labels, size=options["size"], channels=channels), size=size)

    started_at = time.perf_counter()
    known = count_images(source) if source.exists() else None
    total = count if known is None else min(count or math.inf, repeat * math.ceil(known / size))
    request_count, image_count = _send(settings, itertools.islice(all_batches(), count), options, total=total)
    seconds = time.perf_counter() - started_at
    click.echo(f"Published {request_count} requests with {image_count} images in {seconds:.1f} s.")
    if options["as_json"]:
        print_json({"requests": request_count, "images": image_count, "seconds": round(seconds, 3)})


def _send(
    settings: Settings, every: Iterator[Batch], options: dict[str, Any], *, total: float | None
) -> tuple[int, int]:
    request_count = image_count = 0
    client = Client.open(
        settings.broker,
        settings.store,
        topology=settings.topology,
        receive="nothing",
        telemetry_endpoint=settings.telemetry.endpoint,
    )
    with client, Progress("requests", total=None if total is None else int(total), unit="requests") as progress:

        def submit(batch: Batch) -> Submission:
            return client.submit(
                batch, format=settings.client.format, model=options["model"], request_id=uuid.uuid4().hex
            )

        for submission in _in_order(submit, paced(every, options["rate"])):
            request_count += 1
            image_count += submission.image_count
            progress.advance(1)
    return request_count, image_count


def _in_order(submit: Callable[[Batch], Submission], every: Iterator[Batch]) -> Iterator[Submission]:
    """Submit a few batches at a time, never more, and yield them in their order."""
    with ThreadPoolExecutor(UPLOADS, "upload") as uploads:
        waiting: deque[Future[Submission]] = deque()
        for batch in every:
            waiting.append(uploads.submit(submit, batch))
            if len(waiting) > UPLOADS:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


def paced(every: Iterator[Batch], rate: float | None) -> Iterator[Batch]:
    """Yield at most `rate` batches a second, evenly; at once where there is no rate."""
    due_at = time.monotonic()
    for batch in every:
        if rate is not None:
            time.sleep(max(0.0, due_at - time.monotonic()))
            due_at += 1 / rate
        yield batch


if __name__ == "__main__":
    command(prog_name=Path(__file__).name)
