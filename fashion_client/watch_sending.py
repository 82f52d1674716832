"""One request of a watched folder from its pictures to their new place, by way of the journal, or gone on with."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from fashion_client.client import Client
from fashion_client.image_blocks import Reading
from fashion_client.submission import Prepared
from fashion_client.watch_journal import Entry, WatchJournal
from fashion_client.watch_moves import Moves
from fashion_client.watch_moving import Moving
from fashion_client.watch_outages import Persistence
from fashion_client.watch_pictures import MAX_FILE_BYTES, Picture, batch_of, read_again
from fashion_client.watch_plan import Plan
from handoff.contracts.errors import FolderUnavailable, RequestConflict, RequestRefused
from handoff.contracts.messages import PayloadFormat
from handoff.contracts.protocols import Store

THE_BROKER, THE_STORE, THE_FOLDER = "The broker", "The store", "The folder"

# A batch as CSV takes up to four bytes a pixel: room for one picture of the largest size in colour.
MAX_BATCH_BYTES = MAX_FILE_BYTES


@dataclass(frozen=True)
class Order:
    """What is the same for every request of a watcher."""

    folder: Path
    reading: Reading
    format: PayloadFormat
    model: str | None = None


@dataclass(frozen=True)
class Outcome:
    """What became of a request, begun by this process or, `resumed`, by an earlier one."""

    kind: Literal["published", "moved", "dropped"]
    """Published by this process; by an earlier one, so that there were only files to move; by none."""
    plan: Plan
    resumed: bool = False
    absent: Plan | None = None
    """The part of it whose files were not there."""


class WatchSending:
    """Sends requests, each step of one in the order that lets a crash neither lose nor repeat an image; thread-safe."""

    def __init__(
        self,
        client: Client,
        *,
        store: Store,
        journal: WatchJournal,
        moves: Moves,
        persistence: Persistence,
        order: Order,
    ) -> None:
        self._client = client
        self._store = store
        self._journal = journal
        self._moves = moves
        self._persistence = persistence
        self._order = order

    def send(self, pictures: Sequence[Picture]) -> Outcome:
        """Publish a request for pictures and move their files.

        Raises: Unavailable: the journal keeps what is begun; SettingsInvalid
        """
        order = self._order
        prepared = self._client.prepare(batch_of(pictures), format=order.format, model=order.model)
        files = [picture.file for picture in pictures]
        plan = Plan(request=prepared.request, files=files, reading=order.reading)
        self._journal.begin(plan)
        self._publish(prepared, resumed=False)
        return self._move_published(plan, resumed=False)

    def resume(self, entry: Entry) -> Outcome:
        """Go on with a request of an earlier process, under its own id and with its own bytes.

        Raises: Unavailable; SettingsInvalid
        """
        if entry.state == "published":
            return Outcome("moved", entry.plan, resumed=True, absent=self._move(entry.plan, resumed=True))
        prepared = self._prepared_again(entry.plan)
        try:
            if prepared is not None:
                self._publish(prepared, resumed=True)
                return self._move_published(entry.plan, resumed=True)
        except RequestConflict:  # what lies under its id is not what was written down: it cannot have been published
            pass
        self._journal.forget(entry.plan.request_id)
        return Outcome("dropped", entry.plan, resumed=True)

    def _publish(self, prepared: Prepared, *, resumed: bool) -> None:
        request = prepared.request
        with self._client.sending(request.request_id) as span:
            self._persistence.insist(lambda _: self._client.upload(prepared), on=THE_STORE)
            # What did not answer may have taken the request all the same.
            self._persistence.insist(
                lambda number: self._client.publish(request, republished=resumed or number > 1, span=span),
                on=THE_BROKER,
            )

    def _move_published(self, plan: Plan, *, resumed: bool) -> Outcome:
        """Write down that the broker has a request, then move its files."""
        plan = self._persistence.insist(lambda _: self._with_destinations(plan), on=THE_FOLDER)
        self._journal.mark_published(plan)
        return Outcome("published", plan, resumed=resumed, absent=self._move(plan, resumed=resumed))

    def _with_destinations(self, plan: Plan) -> Plan:
        try:
            return self._moves.with_destinations(plan)
        except OSError as error:
            raise FolderUnavailable(f"The folder of the published does not answer: {error.strerror}.") from error

    def _move(self, plan: Plan, *, resumed: bool) -> Plan | None:
        moving = Moving(plan, moves=self._moves, journal=self._journal, resumed=resumed)
        return self._persistence.insist(lambda _: moving.carry_on(), on=THE_FOLDER)

    def _prepared_again(self, plan: Plan) -> Prepared | None:
        """Make a begun request from its files, or where they are no longer what they were, from what was uploaded."""
        prepared = self._persistence.insist(lambda _: self._from_files(plan), on=THE_FOLDER)
        return prepared or self._persistence.insist(lambda _: self._from_store(plan), on=THE_STORE)

    def _from_files(self, plan: Plan) -> Prepared | None:
        told = plan.request
        try:
            batch = read_again(self._order.folder, plan)
        except OSError as error:
            raise FolderUnavailable(f"The files of a begun request cannot be read: {error.strerror}.") from error
        if batch is None:
            return None
        prepared = self._client.prepare(batch, format=told.format, model=told.model, request_id=told.request_id)
        return prepared if prepared.request == told else None

    def _from_store(self, plan: Plan) -> Prepared | None:
        try:
            data = self._store.read(plan.request.batch_uri, max_bytes=MAX_BATCH_BYTES)
        except RequestRefused:  # it is not there, is another's, or the store lies elsewhere now
            return None
        is_same = plan.request.checksum == f"sha256:{hashlib.sha256(data).hexdigest()}"
        return Prepared(plan.request, data) if is_same else None
