"""A worker whose model a server holds: which model it answers as, and what becomes of deliveries without the server."""

from __future__ import annotations

import threading

import pytest

from classifiers.protocol import Images, Probabilities, RemoteClassifier
from handoff.contracts.errors import RuntimeFailed, RuntimeUnavailable
from handoff.contracts.protocols import UNKNOWN_BACKLOG
from ml_server.answering_model import LocalModel, model_of
from ml_server.health import Recorders
from ml_server.metrics import Metrics
from ml_server.recording import Serving
from ml_server.vitals import Vitals
from tests.fakes import ARTIFACT, BrightnessClassifier, FakeDelivery, batch_of, delivery_of, upload
from tests.serving import WatchedService

POISON = 2


class ServedClassifier(BrightnessClassifier):
    """Brightness from afar, by versions that are given beforehand."""

    def __init__(self, *versions: str | None) -> None:
        super().__init__()
        self._versions = list(versions)
        self.version: str | None = None
        self.fault = ""
        self.indigestible = -1
        self.stopped = threading.Event()

    def classify(self, images: Images) -> Probabilities:
        """Classify images with the next version."""
        if (images == self.indigestible).any():
            raise RuntimeFailed("The server answered with no list of numbers an image.")
        probabilities = super().classify(images)
        self.version = self._versions.pop(0) if len(self._versions) > 1 else self._versions[0]
        return probabilities

    def stop_waiting(self) -> None:
        """Remember it."""
        self.stopped.set()


def service_of(*versions: str | None) -> WatchedService:
    """A worker with such a classifier."""
    classifier = ServedClassifier(*versions)
    assert isinstance(classifier, RemoteClassifier)
    return WatchedService(classifier=classifier)


def request(service: WatchedService, *levels: int, model: str | None = None) -> FakeDelivery:
    """A delivery of a request with one image a level."""
    return delivery_of(upload(service.store, "r-1", batch_of(*levels), model=model))


def test_a_response_names_the_version_that_classified_and_no_digest() -> None:
    """The digest of the graph that lies here would be about something else."""
    service = service_of("12")
    service.serve(request(service, 0, 255))
    (response,) = service.broker.responses()
    assert response.model is not None
    assert (response.model.name, response.model.version, response.model.digest) == ("fashion", "12", "")


def test_a_server_that_tells_no_version_answers_as_the_manifests() -> None:
    """Then the operator's word is all there is."""
    service = service_of(None)
    service.serve(request(service, 0))
    (response,) = service.broker.responses()
    assert response.model is not None
    assert (response.model.version, response.model.digest) == ("7", "")


def test_a_request_that_two_versions_classified_is_classified_again() -> None:
    """Its micro-batches fell on both sides of a roll-out: neither version may answer for the other."""
    service = service_of("1", "2")
    delivery = request(service, *range(8))  # two micro-batches
    service.serve(delivery)
    assert (delivery.ends, service.broker.responses()) == (["nack"], [])
    again = FakeDelivery(delivery.message, attempt=2)
    service.serve(again)
    (response,) = service.broker.responses()
    assert response.model is not None
    assert (again.ends, response.model.version) == (["ack"], "2")


@pytest.mark.parametrize("asked", [None, "fashion", "fashion:12"])
def test_the_version_that_was_asked_for_is_served(asked: str | None) -> None:
    """By its number on the server, not by the manifest's."""
    service = service_of("12")
    service.serve(request(service, 0, model=asked))
    assert [response.status for response in service.broker.responses()] == ["succeeded"]


@pytest.mark.parametrize(("asked", "classified"), [("fashion:7", 1), ("other", 0), ("other:12", 0)])
def test_another_model_than_the_one_that_was_asked_for_is_refused(asked: str, classified: int) -> None:
    """Another name at once, another version when it is known for certain what has classified."""
    service = service_of("12")
    service.serve(request(service, 0, model=asked))
    (response,) = service.broker.responses()
    assert response.error is not None
    assert (response.error.code, len(service.classifier.sizes)) == ("unknown_model", classified)


def test_a_server_that_does_not_answer_gives_back_what_is_held() -> None:
    """A nack with backoff; after the last attempt a dead letter with the reason."""
    service = service_of("1")
    service.classifier.errors = [RuntimeUnavailable("Nothing answers at http://s.") for _ in range(2)]
    first = request(service, 0)
    service.serve(first)
    assert first.ends == ["nack"]
    assert first.delay_s is not None
    assert 0 < first.delay_s <= 1
    service.serve(FakeDelivery(first.message, attempt=3))
    (letter,) = service.broker.dead_letters()
    assert letter.attributes["dead-letter-code"] == "runtime_unavailable"
    assert letter.attributes["dead-letter-reason"] == "Nothing answers at http://s."


def test_a_request_that_the_server_cannot_classify_hurts_no_other() -> None:
    """What came in one micro-batch with it is classified without it."""
    service = service_of("1")
    assert isinstance(service.classifier, ServedClassifier)
    service.classifier.indigestible = POISON
    deliveries = [delivery_of(upload(service.store, f"r-{level}", batch_of(level))) for level in (1, POISON, 3)]
    service.serve(*deliveries)
    assert [delivery.ends for delivery in deliveries] == [["ack"], ["nack"], ["ack"]]


def test_draining_ends_the_wait_for_a_server() -> None:
    """Before what is held is waited for: others get it, and the process ends."""
    service = service_of("1")
    service.serve(request(service, 0))
    assert isinstance(service.classifier, ServedClassifier)
    assert service.classifier.stopped.is_set()


def test_metrics_name_the_version_of_the_moment() -> None:
    """It may change while a worker lives; a local model's does not, and has a digest."""
    vitals = Vitals()
    metrics = Metrics(vitals)
    classifier = ServedClassifier("1", "2")
    model = model_of(ARTIFACT, [classifier])
    Recorders([vitals, metrics]).serving(Serving(model.current, [], lambda: UNKNOWN_BACKLOG, model.fault))
    assert b'version="7"' in metrics.exposition()
    classifier.version = "2"
    assert b'fashion_model_info{digest="",name="fashion",version="2"} 1.0' in metrics.exposition()
    assert vitals.is_ready()
    classifier.fault = "Nothing answers."
    assert vitals.unreadiness() == "Nothing answers."
    assert LocalModel(ARTIFACT).current().digest == ARTIFACT.graph_digest
    assert LocalModel(ARTIFACT).fault() == ""
