"""Bulk classification: any number of images through the service, in constant memory, going on after a crash."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import msgspec

from fashion_client.bulk_batches import BulkBatch, Place, read_batches
from fashion_client.bulk_flights import Answer, Flight, Flights, Order
from fashion_client.bulk_inputs import Inputs
from fashion_client.bulk_output import BulkOutput
from fashion_client.bulk_progress_file import JobProgress, progress_path, read_progress
from fashion_client.image_blocks import Reading
from handoff.contracts.errors import DataSetUnavailable, SettingsInvalid
from handoff.contracts.messages import FailureReason
from handoff.contracts.objects import batch_uri, predictions_uri, response_uri
from handoff.contracts.protocols import Store
from handoff.progress import Progress

# Objects deleted at a time; a batch has three.
DELETERS = 4


@dataclass(frozen=True)
class Job:
    """What to classify, and how; two jobs with equal digests have equal batches."""

    inputs: Inputs
    reading: Reading
    batch_size: int
    order: Order

    @property
    def options(self) -> str:
        """Digest of all that shapes batches and answers beside the inputs."""
        told = [self.reading.size, self.reading.channels, self.batch_size, self.order]
        return hashlib.sha256(msgspec.json.encode(told)).hexdigest()

    def batches(self, progress: JobProgress) -> Iterator[BulkBatch]:
        """Read the batches that are not complete.

        Raises: DataSetUnavailable
        """
        return read_batches(
            self.inputs,
            self.reading,
            size=self.batch_size,
            start=Place(progress.next_input, progress.next_position),
            number=progress.batches,
        )


def begin(job: Job, output: Path, *, overwrite: bool) -> JobProgress:
    """Say where to go on: from the start, or after what an interrupted run of the same job has completed.

    Raises: SettingsInvalid: the output is another job's, or nobody knows whose
    """
    _refuse_output(job, output)
    fresh = JobProgress(inputs=job.inputs.digest, options=job.options, run=secrets.token_hex(8))
    if overwrite:
        return fresh
    found = read_progress(output)
    if found is None:
        if output.exists() and output.stat().st_size:
            raise SettingsInvalid(f"{output} is there already; name another file, or begin it anew with --overwrite.")
        return fresh
    if (found.inputs, found.options) != (fresh.inputs, fresh.options):
        changed = "inputs that are others or have changed since" if found.inputs != fresh.inputs else "other options"
        raise SettingsInvalid(
            f"{output} was begun with {changed} (see {progress_path(output)}); give the same again, name another"
            " file, or begin it anew with --overwrite."
        )
    return found


def classify(batches: Iterator[BulkBatch], *, flights: Flights, output: BulkOutput, progress: Progress) -> None:
    """Keep the window full until every batch is in the output.

    Where an input turns out to be broken, what comes before the fault is completed first.

    Raises: DataSetUnavailable; SettingsInvalid; ResponseTimeout; Unavailable
    """
    broken: DataSetUnavailable | None = None
    has_more = True
    number = output.progress.batches
    while has_more or flights:
        if flights.has_next or flights.is_full or not has_more:
            if not flights.has_next:
                output.commit()
            flight, answer = flights.take()
            _append(output, flight, answer)
            progress.advance(flight.image_count)
            continue
        try:
            batch = next(batches, None)
        except DataSetUnavailable as error:
            batch, broken = None, error
        if batch is None:
            has_more = False
        else:
            flights.send(batch, request_id=output.progress.request_id(number))
            number += 1
    output.commit()
    if broken is not None:
        raise broken


def _append(output: BulkOutput, flight: Flight, answer: Answer) -> None:
    failure, rows = answer.failure, answer.rows
    if rows is not None and not output.fits(rows):
        failure = FailureReason("labels_differ", "It was answered by a model of other labels; name one with --model.")
    failed = [(origin, FailureReason("unreadable", reason)) for origin, reason in flight.unreadable]
    if failure is not None:
        failed += [(origin, failure) for origin in flight.origins]
    elif rows is not None and answer.response is not None:
        output.append(rows, answer.response, count=sum(origin.count for origin in flight.origins))
    output.complete(failed, is_failed=failure is not None, images=flight.image_count, end=flight.end)


class Deletion:
    """Deletes the objects of complete batches beside the other work; where they are kept, it does nothing."""

    def __init__(self, store: Store, *, run: JobProgress, order: Order, keep: bool) -> None:
        self._store = store
        self._run = run
        self._order = order
        self._keep = keep
        self._each = ThreadPoolExecutor(DELETERS, "delete")
        self._whole = ThreadPoolExecutor(1, "deletion")

    def begin(self, batches: range) -> Future[None]:
        """Delete what these batches left in the store."""
        return self._whole.submit(self._delete, range(0) if self._keep else batches)

    def close(self) -> None:
        """Finish what is being deleted."""
        self._whole.shutdown()
        self._each.shutdown()

    def _delete(self, batches: range) -> None:
        root = self._store.root
        requests = [self._run.request_id(batch) for batch in batches]
        uris = [batch_uri(root, each, self._order.format) for each in requests]
        uris += [uri(root, each) for each in requests for uri in (predictions_uri, response_uri)]
        for _ in self._each.map(self._store.delete, uris):
            pass


def _refuse_output(job: Job, output: Path) -> None:
    if output.suffix == ".gz":
        raise SettingsInvalid(f"{output} would be compressed, which cannot be gone on with; name a .csv file.")
    if not output.parent.is_dir():
        raise SettingsInvalid(f"There is no folder {output.parent} to write {output.name} in; make it first.")
    if output.exists() and any(_is_same(output, name) for name in _names(job.inputs)):
        raise SettingsInvalid(f"{output} is one of the inputs; name another file as --output.")


def _names(inputs: Inputs) -> Sequence[Path]:
    return [Path(each.name) for each in inputs.every if not each.is_object]


def _is_same(output: Path, name: Path) -> bool:
    return name.exists() and output.samefile(name)
