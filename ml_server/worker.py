"""The worker's core: what becomes of each delivery, from the pull to the ack.

pull ─► take in ─► micro-batch ─► classify ─► store and answer ─► ack
        (transfer threads)        (one thread) (transfer threads)
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from handoff.contracts.protocols import Subscription
from ml_server.classifier import Classifier
from ml_server.intake import Intake
from ml_server.micro_batches import MicroBatches, Slice, join
from ml_server.outcomes import Outcome, Reply, outcome_of
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
        classifier: Classifier,
        results: Results,
        settlement: Settlement,
        transfer_threads: int,
        max_attempts: int,
    ) -> None:
        self._subscription = subscription
        self._intake = intake
        self._micro_batches = micro_batches
        self._classifier = classifier
        self._results = results
        self._settlement = settlement
        self._max_attempts = max_attempts
        self._takers = ThreadPoolExecutor(transfer_threads, "take-in")
        self._answerers = ThreadPoolExecutor(transfer_threads, "answer")
        self._classifying = threading.Thread(target=self._classify_all, name="classify")

    def run(self) -> None:
        """Serve; returns once the subscription was closed and every delivery held is acked or given back.

        Raises: BrokerUnavailable: the broker stopped answering
        """
        self._classifying.start()
        try:
            for delivery in self._subscription:
                self._settlement.hold()
                self._micro_batches.expect()
                self._takers.submit(self._take_in, Work(delivery))
        finally:
            # The order of the images' way: what was pulled is taken in, then classified, then answered, then acked.
            self._takers.shutdown()
            self._micro_batches.close()
            self._classifying.join()
            self._answerers.shutdown()
            self._settlement.wait_for_all()

    def _take_in(self, work: Work) -> None:
        self._attempt([work], lambda: self._intake.take_in(work))
        self._micro_batches.put(None if work.ended else work)

    def _classify_all(self) -> None:
        while slices := self._micro_batches.take():
            self._attempt([part.work for part in slices], lambda: self._classify(slices))

    def _classify(self, slices: list[Slice]) -> None:
        images = join(slices)
        for part in slices:
            part.work.begin_classification()
        probabilities = self._classifier.classify(images)
        if len(probabilities) != len(images):
            raise RuntimeError(f"{len(probabilities)} predictions for {len(images)} images")
        ends = np.cumsum([len(part.images) for part in slices])[:-1]
        for part, rows in zip(slices, np.split(probabilities, ends), strict=True):
            if part.work.add_probabilities(part.start, rows):
                self._answerers.submit(self._answer, part.work)

    def _answer(self, work: Work) -> None:
        self._attempt([work], lambda: Reply(self._results.answer(work)))

    def _attempt(self, works: Iterable[Work], stage: Callable[[], Outcome | None]) -> None:
        """Run a stage; whatever it meets becomes the outcome of its deliveries, never the end of the worker."""
        outcome: Outcome | None
        error: Exception | None = None
        try:
            outcome = stage()
        except Exception as met:  # noqa: BLE001 - the one place: a worker never dies of input
            outcome, error = None, met
        for work in works:
            if error is not None:
                outcome = outcome_of(error, attempt=work.delivery.attempt, max_attempts=self._max_attempts)
            if outcome is not None:
                self._settlement.settle(work, outcome)
