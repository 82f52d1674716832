"""A worker whose surroundings are in memory, run over a few deliveries, for those who watch it from outside."""

from __future__ import annotations

from collections.abc import Sequence

from handoff.contracts.topology import Topology
from handoff.telemetry.tracing import NO_TRACER, Tracer
from ml_server.answering_model import model_of
from ml_server.intake import Intake
from ml_server.micro_batches import MicroBatches
from ml_server.recording import NO_RECORDER, Recorder
from ml_server.results import Results
from ml_server.settlement import Settlement
from ml_server.worker import Worker
from tests.fakes import ARTIFACT, MANIFEST, BrightnessClassifier, FakeBroker, FakeDelivery, FakeStore, FakeSubscription


class WatchedService:
    """A store, a broker and a worker that tells a recorder and a tracer what it does."""

    def __init__(
        self,
        *,
        recorder: Recorder = NO_RECORDER,
        tracer: Tracer = NO_TRACER,
        classifier: BrightnessClassifier | None = None,
    ) -> None:
        self.store = FakeStore()
        self.broker = FakeBroker()
        self.classifier = classifier or BrightnessClassifier()
        self._recorder = recorder
        self._tracer = tracer

    def serve(self, *deliveries: FakeDelivery) -> None:
        """Run a worker that gets these deliveries and is then drained."""
        self.worker(deliveries).run()

    def worker(self, deliveries: Sequence[FakeDelivery]) -> Worker:
        """Put a worker together."""
        model = model_of(ARTIFACT, [self.classifier])
        return Worker(
            FakeSubscription(deliveries),
            intake=Intake(self.store, model=model, manifest=MANIFEST, max_batch_bytes=10_000, max_batch_images=100),
            micro_batches=MicroBatches(size=4, max_waiting=100),
            classifiers=[self.classifier],
            results=Results(self.store, model=model, labels=MANIFEST.labels, worker="w-1"),
            settlement=Settlement(
                self.broker, topology=Topology(), worker="w-1", recorder=self._recorder, tracer=self._tracer
            ),
            transfer_threads=2,
            max_attempts=3,
            recorder=self._recorder,
        )
