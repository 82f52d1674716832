"""The worker's core: what becomes of each delivery, from the pull to the ack.

pull ─► take in ─► micro-batch ─► classify ─► store and answer ─► ack
        (transfer threads)       (a thread a core) (transfer threads)
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import numpy as np

from classifiers.protocol import Classifier, RemoteClassifier
from handoff.contracts.errors import Unavailable
from handoff.contracts.protocols import Subscription
from ml_server.intake import Intake
from ml_server.micro_batches import MicroBatches, Slice, join
from ml_server.outcomes import Outcome, Reply, outcome_of
from ml_server.recording import NO_RECORDER, Recorder
from ml_server.results import Results
from ml_server.settlement import Settlement
from ml_server.work import Work


class Worker:
    """Serves one subscription until it is closed, then finishes what it holds."""

    def __init__(
        self,
        subscription: Subscription,
        *,
        intake: Intake,
        micro_batches: MicroBatches,
        classifiers: Sequence[Classifier],
        results: Results,
        settlement: Settlement,
        transfer_threads: int,
        max_attempts: int,
        recorder: Recorder = NO_RECORDER,
    ) -> None:
        self._subscription = subscription
        self._recorder = recorder
        self._intake = intake
        self._micro_batches = micro_batches
        self._results = results
        self._settlement = settlement
        self._max_attempts = max_attempts
        self._takers = ThreadPoolExecutor(transfer_threads, "take-in")
        self._answerers = ThreadPoolExecutor(transfer_threads, "answer")
        self._classifiers = classifiers
        self._classifying = [
            threading.Thread(target=self._classify_all, args=(classifier,), name="classify")
            for classifier in classifiers
        ]

    @property
    def classifying(self) -> Sequence[threading.Thread]:
        """The threads that classify, from the moment it runs."""
        return self._classifying

    def run(self) -> None:
        """Serve; returns once the subscription was closed and every delivery held is acked or given back.

        Raises: BrokerUnavailable: the broker stopped answering
        """
        for thread in self._classifying:
            thread.start()
        try:
            for delivery in self._subscription:
                work = Work(delivery)
                self._settlement.hold(work)
                self._micro_batches.expect()
                self._takers.submit(self._take_in, work)
        finally:
            self._recorder.draining()
            for classifier in self._classifiers:
                if isinstance(classifier, RemoteClassifier):
                    classifier.stop_waiting()  # other workers may reach its server; they get what is held
            # The order of the images' way: what was pulled is taken in, then classified, then answered, then acked.
            self._takers.shutdown()
            self._micro_batches.close()
            for thread in self._classifying:
                thread.join()
            self._answerers.shutdown()
            self._settlement.wait_for_all()

    def _take_in(self, work: Work) -> None:
        self._settle(work, caught(lambda: self._intake.take_in(work)))
        self._micro_batches.put(None if work.ended else work)

    def _classify_all(self, classifier: Classifier) -> None:
        while slices := self._micro_batches.take():
            met = caught(partial(self._classify, classifier, slices))
            if isinstance(met, Exception) and not isinstance(met, Unavailable) and len(slices) > 1:
                # One request's images may be to blame; alone, the others go through.
                for part in slices:
                    self._settle(part.work, caught(partial(self._classify, classifier, [part])))
            else:
                for part in slices:
                    self._settle(part.work, met)

    def _classify(self, classifier: Classifier, slices: list[Slice]) -> None:
        images = join(slices)
        for part in slices:
            part.work.begin_classification()
        probabilities = classifier.classify(images)
        if len(probabilities) != len(images):
            raise RuntimeError(f"{len(probabilities)} predictions for {len(images)} images")
        self._recorder.classified(len(images))
        version = classifier.version if isinstance(classifier, RemoteClassifier) else None
        ends = np.cumsum([len(part.images) for part in slices])[:-1]
        for part, rows in zip(slices, np.split(probabilities, ends), strict=True):
            if version is not None:
                part.work.versions.add(version)
            if part.work.add_probabilities(part.start, rows):
                self._answerers.submit(self._answer, part.work)

    def _answer(self, work: Work) -> None:
        self._settle(work, caught(lambda: Reply(self._results.answer(work))))

    def _settle(self, work: Work, met: Outcome | Exception | None) -> None:
        """End a delivery with what a stage met; with nothing met, it goes on."""
        if isinstance(met, Exception):
            met = outcome_of(met, attempt=work.delivery.attempt, max_attempts=self._max_attempts)
        if met is not None:
            self._settlement.settle(work, met)


def caught(stage: Callable[[], Outcome | None]) -> Outcome | Exception | None:
    """Run a stage; an error is a value too, for a worker never dies of input."""
    try:
        return stage()
    except Exception as error:  # noqa: BLE001 - the one place
        return error
