"""Where a receive console puts what the responses are about: predictions, images and contact sheets."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from fashion_client.answered_batches import AnsweredBatch, AnsweredBatches, BatchLimits
from fashion_client.image_sink import save_images
from fashion_client.picture_folder import PictureFolder
from fashion_client.predictions_file import Save, open_predictions
from handoff.contracts.errors import RequestRefused
from handoff.contracts.images import ImageShape
from handoff.contracts.messages import AnalysisResponse
from handoff.settings import Settings
from handoff.stores.urls import open_store

_log = logging.getLogger(__name__)

SavePictures = Callable[[AnsweredBatch, PictureFolder], None]


class Sinks:
    """Puts each response into every sink that was asked for; `open_sinks` opens them."""

    def __init__(self) -> None:
        self._batches: AnsweredBatches | None = None
        self._saves: dict[str, Save] = {}
        self._folders: dict[str, PictureFolder] = {}

    def read_from(self, batches: AnsweredBatches) -> None:
        """Find there what responses are about."""
        self._batches = batches

    def add(self, what: str, save: Save) -> None:
        """Add a sink; what it cannot save is told as the `what` of a request."""
        self._saves[what] = save

    def add_folder(self, what: str, folder: PictureFolder, save: SavePictures) -> None:
        """Add a folder of pictures."""
        self._folders[what] = folder
        self._saves[what] = lambda answered: save(answered, folder)

    def save(self, response: AnalysisResponse) -> bool:
        """Save what a response is about; False where that cannot be read, which is told.

        One response is no reason to end, nor to be given it again for ever. A failed one is about nothing.

        Raises: SettingsInvalid: a file cannot be written; StoreUnavailable
        """
        if self._batches is None or response.status == "failed":
            return True
        answered = self._batches.of(response)
        for what, save in self._saves.items():
            try:
                save(answered)
            except RequestRefused as error:  # whatever comes after needs the same
                _log.warning("the %s of %s cannot be read: %s", what, response.request_id, error)
                return False
        return True

    def figures(self) -> dict[str, int]:
        """How many pictures were new, and how many were there."""
        made: dict[str, int] = {}
        for what, folder in self._folders.items():
            name = what.replace(" ", "_")
            made |= {f"{name}_written": folder.added_count, f"{name}_there_already": folder.known_count}
        return made

    def text(self) -> str:
        """The same as lines for people."""
        made = self._folders.items()
        return "\n".join(
            f"{what}: {each.added_count:,} written, {each.known_count:,} there already" for what, each in made
        )


@contextmanager
def open_sinks(
    settings: Settings,
    *,
    predictions: Path | None = None,
    images: Path | None = None,
    sheets: Path | None = None,
    shape: ImageShape | None = None,
) -> Iterator[Sinks]:
    """Open a CSV file for every prediction, a folder for every image, and one for a contact sheet a batch.

    Raises: SettingsInvalid: one of them cannot be written; MissingPackage
    """
    sinks = Sinks()
    with ExitStack() as stack:
        if predictions or images or sheets:
            limits = BatchLimits(settings.worker.max_batch_bytes, settings.worker.max_batch_images)
            sinks.read_from(AnsweredBatches(open_store(settings.store), limits=limits, shape=shape))
        if predictions is not None:
            sinks.add("predictions", stack.enter_context(open_predictions(predictions)))
        if images is not None:
            sinks.add_folder("images", stack.enter_context(PictureFolder(images)), save_images)
        if sheets is not None:
            from fashion_client.contact_sheet import save_sheets

            sinks.add_folder("contact sheets", stack.enter_context(PictureFolder(sheets)), save_sheets)
        yield sinks
