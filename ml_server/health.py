"""A worker's health over HTTP: what its parts tell, and the pages that say it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from http import HTTPStatus

from handoff.contracts.errors import MissingPackage
from handoff.settings import WorkerSettings
from ml_server.health_server import Answer, Pages, health_served
from ml_server.recording import End, Recorder, Serving
from ml_server.vitals import Vitals
from ml_server.work import Work


@contextmanager
def health_recorded(settings: WorkerSettings) -> Iterator[Recorder]:
    """Serve the pages until the block ends; yields what the worker tells its state to.

    Raises: SettingsInvalid: the port is taken; MissingPackage
    """
    try:
        from ml_server.metrics import CONTENT_TYPE, Metrics
    except ModuleNotFoundError as error:
        raise MissingPackage(error.name or "?", needed_for="metrics (worker.health_port)") from error
    vitals = Vitals()
    metrics = Metrics(vitals)
    pages = pages_of(vitals, lambda: Answer(HTTPStatus.OK, metrics.exposition(), CONTENT_TYPE))
    with health_served(settings.health_host, settings.health_port, pages):
        yield Recorders([vitals, metrics])


def pages_of(vitals: Vitals, metrics: Callable[[], Answer]) -> Pages:
    """What there is to ask; `/healthz` is the older name of liveness."""
    return {
        "/livez": lambda: _live(vitals),
        "/readyz": lambda: _ready(vitals),
        "/healthz": lambda: _live(vitals),
        "/metrics": metrics,
    }


class Recorders:
    """Tells several."""

    def __init__(self, recorders: Sequence[Recorder]) -> None:
        self._recorders = recorders

    def serving(self, serving: Serving) -> None:
        """The worker is warm and subscribed."""
        for recorder in self._recorders:
            recorder.serving(serving)

    def pulled(self, work: Work) -> None:
        """A delivery is held from now on."""
        for recorder in self._recorders:
            recorder.pulled(work)

    def classified(self, image_count: int) -> None:
        """A micro-batch was classified."""
        for recorder in self._recorders:
            recorder.classified(image_count)

    def ended(self, work: Work, end: End) -> None:
        """A delivery was acked or given back."""
        for recorder in self._recorders:
            recorder.ended(work, end)

    def draining(self) -> None:
        """Nothing more is pulled."""
        for recorder in self._recorders:
            recorder.draining()


def _live(vitals: Vitals) -> Answer:
    fault = vitals.fault()
    return _said(fault or "ok", well=not fault)


def _ready(vitals: Vitals) -> Answer:
    why_not = vitals.unreadiness()
    return _said(why_not or "ok", well=not why_not)


def _said(text: str, *, well: bool) -> Answer:
    return Answer(HTTPStatus.OK if well else HTTPStatus.SERVICE_UNAVAILABLE, f"{text}\n".encode())
