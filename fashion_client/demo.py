"""The whole service on one machine in seconds: `fashion demo`."""

from __future__ import annotations

import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

import click
import numpy as np
import pandas as pd

from fashion_client.client import Client
from fashion_client.sources import SAMPLE_IMAGES, SAMPLE_LABELS, batches, count_images, read_images
from fashion_client.submission import Result, Submission
from fashion_client.tables import confusion_table
from handoff.console import Command, json_option, log_to_stderr, print_json
from handoff.contracts.errors import ExitCode, FashionError, SettingsInvalid
from handoff.progress import Progress
from handoff.settings import REPOSITORY, Settings, environment_of, load_settings

BATCH_SIZE = 50
WORKER_COUNT = 2
ROWS_SHOWN = 12

# Starting takes about a second; a machine that needs longer than this has another problem.
READY_TIMEOUT_S = 60.0
DRAIN_TIMEOUT_S = 30.0


class WorkersNotReady(FashionError):
    """The demo's workers did not start."""

    code, exit_code = "workers_failed", ExitCode.WORKERS_FAILED


@click.command("demo", cls=Command)
@click.option(
    "--folder", type=click.Path(file_okay=False, path_type=Path), help="Where its files go [default: var/demo-TIME]."
)
@json_option
def command(folder: Path | None, *, as_json: bool) -> None:
    """Start two workers on the embedded broker, classify the 1,000 sample images, and show what came of it."""
    log_to_stderr(verbose=False)
    folder = (folder or Path(f"var/demo-{datetime.now():%Y%m%d-%H%M%S}")).absolute()  # noqa: DTZ005 - a local name
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise SettingsInvalid(f"The folder {folder} cannot be made: {error.strerror}.") from error
    # Its workers' log is read for their readiness, and so is text.
    flags = {"broker": f"embedded://{folder}/queue.db", "store": f"file://{folder}/store", "log_format": "text"}
    settings = load_settings(flags=flags).settings
    click.echo(f"Starting {WORKER_COUNT} workers on an embedded broker (SQLite) and a folder as object store ...")
    with running_workers(folder, settings) as ready_s:
        click.echo(f"Both ready after {ready_s:.1f} s. Sending the sample in requests of {BATCH_SIZE} images ...")
        started_at = time.perf_counter()
        results = list(_classified(settings))
        seconds = time.perf_counter() - started_at
    _report(results, seconds, folder, as_json=as_json)


@contextmanager
def running_workers(folder: Path, settings: Settings) -> Iterator[float]:
    """Run supervised workers, yielding the seconds they took to be ready; they are drained at the end.

    Raises: WorkersNotReady: with the last line of their log
    """
    log_path = folder / "workers.log"
    script = REPOSITORY / "ml_server" / "image_classification_service.py"
    started_at = time.perf_counter()
    with log_path.open("wb") as log:
        supervisor = subprocess.Popen(
            [sys.executable, str(script), "--workers", str(WORKER_COUNT)],
            env=environment_of(settings),
            stderr=log,
            stdout=log,
            start_new_session=True,
        )
    try:
        _wait_until_ready(supervisor, log_path)
        yield time.perf_counter() - started_at
    finally:
        supervisor.terminate()
        try:
            supervisor.wait(DRAIN_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            supervisor.terminate()  # the second signal forces
            supervisor.wait()


def _wait_until_ready(supervisor: subprocess.Popen[bytes], log_path: Path) -> None:
    deadline = time.monotonic() + READY_TIMEOUT_S
    while log_path.read_text(encoding="utf-8").count(" ready_s=") < WORKER_COUNT:
        if supervisor.poll() is not None or time.monotonic() > deadline:
            last = log_path.read_text(encoding="utf-8").strip().splitlines()[-1:]
            raise WorkersNotReady(f"The workers did not start ({' '.join(last) or 'no log'}); see {log_path}.")
        time.sleep(0.05)


def _classified(settings: Settings) -> Iterator[tuple[list[str], Result]]:
    """Yield each request's true labels and result, showing the progress."""
    with (
        Client.open(
            settings.broker,
            settings.store,
            topology=settings.topology,
            telemetry_endpoint=settings.telemetry.endpoint,
        ) as client,
        Progress("classified", total=count_images(SAMPLE_IMAGES), unit="images") as progress,
    ):
        sent: list[tuple[list[str], Submission]] = [
            (batch.labels or [], client.submit(batch))
            for batch in batches(read_images(SAMPLE_IMAGES, labels=SAMPLE_LABELS), size=BATCH_SIZE)
        ]
        for labels, submission in sent:
            yield labels, submission.result(settings.client.timeout_s)
            progress.advance(submission.image_count)


def _report(results: list[tuple[list[str], Result]], seconds: float, folder: Path, *, as_json: bool) -> None:
    true_ids = np.array([int(label) for labels, _ in results for label in labels])
    table = pd.concat([result.table() for _, result in results], ignore_index=True)
    names = list(table.columns[4:])
    predicted_ids = table["label_id"].to_numpy(np.int64)
    accuracy = float((predicted_ids == true_ids).mean())
    workers = Counter(result.response.worker for _, result in results)
    shown = table[["image_id", "label", "probability"]].assign(true=[names[label_id] for label_id in true_ids])
    click.echo(f"\nPredictions (the first {ROWS_SHOWN} of {len(table)}):\n")
    click.echo(shown.head(ROWS_SHOWN).to_string(index=False, float_format="%.3f"))
    click.echo("\nConfusion (a row per true label):\n")
    click.echo(confusion_table(true_ids, predicted_ids, names).to_string())
    click.echo(f"\naccuracy     {accuracy:.1%} of {len(table)} images")
    click.echo(f"throughput   {len(table) / seconds:,.0f} images/s, from first upload to last result")
    click.echo("workers      " + ", ".join(f"{name}: {count} requests" for name, count in sorted(workers.items())))
    click.echo(f"files        {folder}/store/requests, {folder}/store/results, {folder}/workers.log")
    if as_json:
        figures = {"images": len(table), "accuracy": accuracy, "seconds": seconds, "workers": dict(workers)}
        print_json({**figures, "images_per_s": len(table) / seconds, "folder": str(folder)})


if __name__ == "__main__":
    command(prog_name=Path(__file__).name)
