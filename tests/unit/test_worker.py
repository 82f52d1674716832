"""What becomes of each delivery, from the pull to the ack, with everything outside in memory."""

from __future__ import annotations

import threading
from collections.abc import Callable

import msgspec
import numpy as np
import pytest

from classifiers.protocol import Images, Probabilities
from handoff.contracts.errors import RuntimeUnavailable, StoreUnavailable
from handoff.contracts.messages import AnalysisRequest, AnalysisResponse, encode_body
from handoff.contracts.objects import predictions_uri, response_uri
from handoff.contracts.predictions import decode_predictions, encode_predictions
from handoff.contracts.protocols import Message
from handoff.contracts.topology import Topology
from ml_server.answering_model import LocalModel
from ml_server.intake import Intake
from ml_server.micro_batches import MicroBatches
from ml_server.results import Results
from ml_server.settlement import Settlement
from ml_server.work import Work
from ml_server.worker import Worker
from tests.fakes import (
    ARTIFACT,
    MANIFEST,
    BrightnessClassifier,
    FakeBroker,
    FakeDelivery,
    FakeStore,
    FakeSubscription,
    batch_of,
    delivery_of,
    upload,
)

MAX_ATTEMPTS = 3


class Service:
    """A worker with a store, a broker and a model that the test can look into."""

    def __init__(self, *, micro_batch: int = 4) -> None:
        self.name = "w-1"
        self.store = FakeStore()
        self.broker = FakeBroker()
        self.classifier = BrightnessClassifier()
        self._micro_batch = micro_batch

    def serve(self, *deliveries: FakeDelivery) -> list[AnalysisResponse]:
        """Run a worker that gets these deliveries and is then drained; the responses it published."""
        self.worker(FakeSubscription(deliveries)).run()
        return self.broker.responses()

    def worker(self, subscription: FakeSubscription) -> Worker:
        """Put a worker together."""
        model = LocalModel(ARTIFACT)
        intake = Intake(self.store, model=model, manifest=MANIFEST, max_batch_bytes=10_000, max_batch_images=100)
        return Worker(
            subscription,
            intake=intake,
            micro_batches=MicroBatches(size=self._micro_batch, max_waiting=100),
            classifiers=[self.classifier],
            results=Results(self.store, model=model, labels=MANIFEST.labels, worker=self.name),
            settlement=Settlement(self.broker, topology=Topology(), worker=self.name),
            transfer_threads=2,
            max_attempts=MAX_ATTEMPTS,
        )

    def request(self, request_id: str, *levels: int, attempt: int = 1, labels: list[str] | None = None) -> FakeDelivery:
        """A delivery of a good request with one image a level."""
        return delivery_of(upload(self.store, request_id, batch_of(*levels, labels=labels)), attempt=attempt)


@pytest.fixture
def service() -> Service:
    """A worker's surroundings."""
    return Service()


def test_a_request_is_answered_and_acked(service: Service) -> None:
    """Predictions stored, response stored and published, delivery acked; the response says all there is to say."""
    delivery = service.request("r-1", 0, 255, 51, labels=["dark", "0", ""])
    (response,) = service.serve(delivery)
    assert delivery.ends == ["ack"]
    assert (response.request_id, response.status, response.image_count) == ("r-1", "succeeded", 3)
    assert (response.worker, response.attempt) == ("w-1", 1)
    assert response.predictions is not None
    assert response.predictions.label_ids == [0, 1, 0]
    assert response.predictions.labels == ["dark", "bright", "dark"]
    assert response.predictions.probabilities == [1.0, 1.0, 0.8]
    assert response.label_counts == {"dark": 2, "bright": 1}
    assert (response.labelled_count, response.correct_count) == (2, 1)
    assert response.model is not None
    assert (response.model.name, response.model.version) == ("fashion", "7")
    assert response.model.digest == ARTIFACT.graph_digest
    assert set(response.timings_ms) == {"queued", "fetch", "decode", "wait", "classify", "store", "total"}
    table = decode_predictions(service.store.objects[predictions_uri(service.store.root, "r-1")])
    assert table.image_ids == ["image-0", "image-1", "image-2"]
    assert table.label_ids.tolist() == [0, 1, 0]
    stored = service.store.objects[response_uri(service.store.root, "r-1")]
    assert msgspec.json.decode(stored, type=AnalysisResponse) == response


def test_a_response_goes_to_whoever_asked(service: Service) -> None:
    """The client's name and the trace are repeated, the worker is the source."""
    request = upload(service.store, "r-1", batch_of(1))
    service.serve(delivery_of(request, client_id="laptop-7"))
    (message,) = [message for topic, message in service.broker.published if topic == Topology().responses_topic]
    assert message.attributes["client_id"] == "laptop-7"
    assert message.attributes["ce-source"] == "/workers/w-1"
    assert message.attributes["ce-imagecount"] == "1"
    assert message.key == "r-1"


@pytest.mark.parametrize("micro_batch", [1, 3, 4, 100])
def test_every_image_gets_its_own_prediction(micro_batch: int) -> None:
    """However requests are cut and joined, each image's probabilities end in its own row."""
    service = Service(micro_batch=micro_batch)
    levels = {f"r-{number}": [(37 * number + 11 * k) % 256 for k in range(number + 1)] for number in range(9)}
    service.serve(*[service.request(request_id, *each) for request_id, each in levels.items()])
    for request_id, each in levels.items():
        table = decode_predictions(service.store.objects[predictions_uri(service.store.root, request_id)])
        assert np.allclose(table.probabilities[:, 1], np.array(each) / 255, atol=2e-6)
    assert sum(service.classifier.sizes) == sum(map(len, levels.values()))
    assert max(service.classifier.sizes) <= micro_batch


def test_a_duplicate_is_answered_without_classification(service: Service) -> None:
    """The second delivery gets the first one's response, byte by byte, and both are acked."""
    first = service.request("r-1", 200)
    service.serve(first)
    objects = dict(service.store.objects)
    second = FakeDelivery(first.message, attempt=2)
    responses = service.serve(second)
    assert service.classifier.sizes == [1]
    assert (first.ends, second.ends) == (["ack"], ["ack"])
    assert responses[0] == responses[1]
    assert responses[1].attempt == 1
    assert service.store.objects == objects


def test_a_request_published_again_gets_the_answer_that_stands(service: Service) -> None:
    """By another worker, whose own response would name it, and on a first delivery that is not looked up."""
    first = service.request("r-1", 200)
    service.serve(first)
    objects = dict(service.store.objects)
    service.name = "w-2"
    responses = service.serve(FakeDelivery(first.message))
    assert [response.worker for response in responses] == ["w-1", "w-1"]
    assert service.store.objects == objects


def test_what_its_sender_calls_republished_is_looked_up_first(service: Service) -> None:
    """A first delivery of a message that says so is answered from the store, unclassified."""
    first = service.request("r-1", 200)
    service.serve(first)
    again = Message(body=first.message.body, attributes={**first.message.attributes, "republished": "1"})
    responses = service.serve(FakeDelivery(again))
    assert responses[0] == responses[1]
    assert service.classifier.sizes == [1]


def test_predictions_a_dead_worker_left_are_taken_over(service: Service) -> None:
    """Stored by the same model for the same request, with no response yet: they stay, and the response names them."""
    delivery = service.request("r-1", 255)
    (calm,) = service.serve(delivery)
    del service.store.objects[response_uri(service.store.root, "r-1")]
    objects = dict(service.store.objects)
    response = service.serve(FakeDelivery(delivery.message, attempt=2))[-1]
    assert response.attempt == 2
    assert response.predictions_uri == calm.predictions_uri == predictions_uri(service.store.root, "r-1")
    del service.store.objects[response_uri(service.store.root, "r-1")]
    assert service.store.objects == objects


def test_predictions_of_another_model_are_not_passed_off_as_ones_own(service: Service) -> None:
    """A worker with another model died before its response: what it left stays, and the response names other ones."""
    delivery = service.request("r-1", 255)
    theirs = encode_predictions(["image-0"], np.array([[0.75, 0.25]], np.float32), MANIFEST.labels)
    left = predictions_uri(service.store.root, "r-1")
    service.store.objects[left] = theirs
    (response,) = service.serve(delivery)
    assert response.predictions is not None
    assert response.predictions_uri is not None
    assert response.predictions.labels == ["bright"]
    assert response.predictions_uri != left
    assert response.predictions_uri.startswith(left.removesuffix(".csv") + "-")
    table = decode_predictions(service.store.objects[response.predictions_uri])
    assert table.labels == ["bright"]
    assert service.store.objects[left] == theirs


def test_last_decimals_of_another_processor_are_taken_over(service: Service) -> None:
    """The same request and model, stored by another worker under their fingerprint: the response repeats those."""
    delivery = service.request("r-1", 255)
    left = predictions_uri(service.store.root, "r-1")
    service.store.objects[left] = b"of another model"
    first = service.serve(delivery)[-1]
    del service.store.objects[response_uri(service.store.root, "r-1")]
    assert first.predictions_uri is not None
    nearly = encode_predictions(["image-0"], np.array([[0.000001, 0.999999]], np.float32), MANIFEST.labels)
    service.store.objects[first.predictions_uri] = nearly
    second = service.serve(FakeDelivery(delivery.message, attempt=2))[-1]
    assert second.predictions is not None
    assert (second.predictions_uri, second.predictions.probabilities) == (first.predictions_uri, [0.999999])
    assert service.store.objects[first.predictions_uri] == nearly


@pytest.mark.parametrize(
    ("image_ids", "labels"), [(["image-0", "image-1"], MANIFEST.labels), (["x"], MANIFEST.labels), (["image-0"], "ab")]
)
def test_stored_predictions_of_other_images_are_refused(
    service: Service, image_ids: list[str], labels: list[str]
) -> None:
    """Whoever may write into the store can put them under the very name: a failed response, never a redelivery loop."""
    delivery = service.request("r-1", 255)
    service.store.objects[predictions_uri(service.store.root, "r-1")] = b"of another model"
    first = service.serve(delivery)[-1]
    del service.store.objects[response_uri(service.store.root, "r-1")]
    assert first.predictions_uri is not None
    probabilities = np.full((len(image_ids), 2), 0.5, np.float32)
    service.store.objects[first.predictions_uri] = encode_predictions(image_ids, probabilities, labels)
    second = FakeDelivery(delivery.message, attempt=2)
    response = service.serve(second)[-1]
    assert response.error is not None
    assert response.error.code == "payload_corrupt"
    assert second.ends == ["ack"]


@pytest.mark.parametrize("attempt", [1, 2])
@pytest.mark.parametrize(
    "changes", [{"checksum": None}, {"labels": ["dark"]}, {"model": "fashion:7"}], ids=["batch", "labels", "model"]
)
def test_another_request_under_an_answered_id_is_refused(
    service: Service, attempt: int, changes: dict[str, list[str] | str | None]
) -> None:
    """Other images, labels or another model: a failed response says so, and what was answered stands."""
    first = service.request("r-1", 200)
    (calm,) = service.serve(first)
    objects = dict(service.store.objects)
    other = upload(service.store, "r-2", batch_of(10))
    said = {"batch_uri": other.batch_uri, "checksum": other.checksum} if "checksum" in changes else changes
    request = msgspec.structs.replace(msgspec.json.decode(first.message.body, type=AnalysisRequest), **said)
    refused = delivery_of(request, attempt=attempt)
    response = service.serve(refused)[-1]
    assert response.error is not None
    assert response.error.code == "request_conflict"
    assert refused.ends == ["ack"]
    del service.store.objects[other.batch_uri]
    assert service.store.objects == objects
    assert service.serve(FakeDelivery(first.message, attempt=2))[-1] == calm


def test_of_two_requests_under_one_id_at_once_one_is_answered(service: Service) -> None:
    """Both were classified before either was stored: the second one's response is refused, not the first one's told."""
    first = service.request("r-1", 200)
    other = upload(service.store, "r-2", batch_of(10))
    request = msgspec.structs.replace(
        msgspec.json.decode(first.message.body, type=AnalysisRequest),
        batch_uri=other.batch_uri,
        checksum=other.checksum,
    )
    responses = service.serve(first, delivery_of(request))
    assert sorted(response.status for response in responses) == ["failed", "succeeded"]
    (failed,) = [response for response in responses if response.error]
    assert failed.error is not None
    assert failed.error.code == "request_conflict"


def test_an_answer_from_before_fingerprints_stands(service: Service) -> None:
    """It says nothing about its request, and is taken for the answer as it always was."""
    first = service.request("r-1", 200)
    (calm,) = service.serve(first)
    old = msgspec.structs.replace(calm, request_fingerprint=None)
    service.store.objects[response_uri(service.store.root, "r-1")] = encode_body(old)
    assert service.serve(FakeDelivery(first.message, attempt=2))[-1] == old


def test_a_response_stored_meanwhile_is_the_one_published(service: Service) -> None:
    """The response that stands in the store is what every duplicate says."""
    delivery = service.request("r-1", 255)
    uri = response_uri(service.store.root, "r-1")
    other = AnalysisResponse(request_id="r-1", status="succeeded", image_count=1, worker="other", attempt=1)
    classify = service.classifier.classify

    def meanwhile(images: Images) -> Probabilities:
        service.store.objects[uri] = encode_body(other)
        return classify(images)

    service.classifier.classify = meanwhile  # type: ignore[method-assign]
    assert service.serve(delivery) == [other]


@pytest.mark.parametrize("failures", [1, 2])
def test_an_unpublished_response_is_given_back(service: Service, failures: int) -> None:
    """No ack without a confirmed publish; the next attempt answers from what is stored."""
    first = service.request("r-1", 1)
    service.broker.failures = 1
    assert service.serve(first) == []
    assert first.ends == ["nack"]
    assert first.delay_s is not None
    assert first.delay_s > 0
    second = FakeDelivery(first.message, attempt=failures + 1)
    (response,) = service.serve(second)
    assert (response.attempt, second.ends) == (1, ["ack"])
    assert service.classifier.sizes == [1]


def test_a_half_published_outcome_is_given_back(service: Service) -> None:
    """A dead letter and its failed response are one outcome: both, or again."""
    good = service.request("r-1", 1).message
    message = Message(body=b'{"request_id": "r-1"}', attributes=good.attributes)
    delivery = FakeDelivery(message)
    service.broker.failures = 1
    service.serve(delivery)
    assert delivery.ends == ["nack"]
    again = FakeDelivery(message, attempt=2)
    service.serve(again)
    assert again.ends == ["ack"]
    assert len(service.broker.dead_letters()) == 1


def test_a_silent_store_is_tried_again_then_buried(service: Service) -> None:
    """Retried with a delay; with the last attempt the message goes to the dead letters, as it was, with the reason."""
    message = service.request("r-1", 1).message
    for attempt in range(1, MAX_ATTEMPTS):
        delivery = FakeDelivery(message, attempt=attempt)
        service.store.failures = 1
        service.serve(delivery)
        assert delivery.ends == ["nack"]
        assert delivery.delay_s is not None
        assert delivery.delay_s >= 0.5
    last = FakeDelivery(message, attempt=MAX_ATTEMPTS)
    service.store.failures = 1
    assert service.serve(last) == []
    assert last.ends == ["ack"]
    (letter,) = service.broker.dead_letters()
    assert letter.body == message.body
    assert message.attributes.items() <= letter.attributes.items()
    assert letter.attributes["dead-letter-code"] == "store_unavailable"
    assert letter.attributes["dead-letter-reason"] == "The store did not answer."
    assert letter.attributes["dead-letter-attempts"] == str(MAX_ATTEMPTS)


@pytest.mark.parametrize("after", [1, 2])
def test_a_store_that_fails_while_answering_costs_no_answer(service: Service, after: int) -> None:
    """Whether the predictions or the response could not be written: the next attempt completes it."""
    delivery = service.request("r-1", 255)
    create, calls = service.store.create, []

    def failing(uri: str, data: bytes) -> bool:
        calls.append(uri)
        if len(calls) == after:
            raise StoreUnavailable("The store did not answer.")
        return create(uri, data)

    service.store.create = failing  # type: ignore[method-assign]
    assert service.serve(delivery) == []
    assert delivery.ends == ["nack"]
    again = FakeDelivery(delivery.message, attempt=2)
    (response,) = service.serve(again)
    assert (response.attempt, again.ends) == (2, ["ack"])


@pytest.mark.parametrize("error", [RuntimeUnavailable("No answer."), RuntimeError("odd shape"), MemoryError()])
def test_a_classifier_error_is_tried_again_then_buried(service: Service, error: Exception) -> None:
    """A request whose images were not classified is retried, in the end buried; none is answered with nonsense."""
    deliveries = [service.request(f"r-{number}", number, attempt=attempt) for number, attempt in ((1, 1), (2, 3))]
    service.classifier.errors = [error] * 3
    assert service.serve(*deliveries) == []
    assert [delivery.ends for delivery in deliveries] == [["nack"], ["ack"]]
    (letter,) = service.broker.dead_letters()
    assert letter.attributes["dead-letter-code"] in {"runtime_unavailable", "internal_error"}


def test_one_requests_images_do_not_fail_their_micro_batch(service: Service) -> None:
    """When a micro-batch of several requests fails, each is classified alone: only the one to blame is retried."""
    deliveries = [service.request(f"r-{number}", level) for number, level in enumerate((1, 66, 2))]
    classify = service.classifier.classify

    def fail_on_66(images: Images) -> Probabilities:
        if (images == 66).any():
            raise RuntimeError("odd")
        return classify(images)

    service.classifier.classify = fail_on_66  # type: ignore[method-assign]
    responses = service.serve(*deliveries)
    assert {response.request_id for response in responses} == {"r-0", "r-2"}
    assert [delivery.ends for delivery in deliveries] == [["ack"], ["nack"], ["ack"]]


def test_too_few_predictions_are_an_error(service: Service) -> None:
    """Rows are never assigned to images by guess."""
    delivery = service.request("r-1", 1, 2, 3)
    service.classifier.classify = lambda images: np.zeros((len(images) - 1, 2), np.float32)  # type: ignore[method-assign]
    assert service.serve(delivery) == []
    assert delivery.ends == ["nack"]
    assert predictions_uri(service.store.root, "r-1") not in service.store.objects


def test_an_error_in_one_part_gives_back_the_whole_request(service: Service) -> None:
    """A request cut into parts has one outcome, whichever part failed."""
    delivery = service.request("r-1", *range(10))
    service.classifier.errors = [RuntimeError("odd")]
    assert service.serve(delivery) == []
    assert delivery.ends == ["nack"]
    (response,) = service.serve(FakeDelivery(delivery.message, attempt=2))
    assert response.image_count == 10


def test_bad_messages_do_not_hurt_their_neighbours(service: Service) -> None:
    """Among good requests, each bad one ends in its own way and the good ones are answered."""
    good = [service.request(f"good-{number}", number) for number in range(5)]
    no_json = FakeDelivery(Message(body=b"\x00", attributes=good[0].message.attributes))
    no_model = delivery_of(upload(service.store, "no-model", batch_of(1), model="other"))
    no_object = delivery_of(upload(service.store, "no-object", batch_of(1), batch_uri="memory://store/none"))
    deliveries = [good[0], no_json, good[1], no_model, good[2], no_object, *good[3:]]
    outcomes = {response.request_id: response for response in service.serve(*deliveries)}
    assert all(delivery.ends == ["ack"] for delivery in deliveries)
    assert [outcomes[f"good-{number}"].status for number in range(5)] == ["succeeded"] * 5
    assert {name: outcomes[name].error.code for name in ("no-model", "no-object")} == {  # type: ignore[union-attr]
        "no-model": "unknown_model",
        "no-object": "payload_not_found",
    }
    assert [letter.body for letter in service.broker.dead_letters()] == [b"\x00"]


def test_a_malformed_request_with_an_id_is_answered_too(service: Service) -> None:
    """The dead letter is for the operator, the failed response for the client."""
    attributes = service.request("r-1", 1).message.attributes | {"ce-type": "fashion.analysis.requested.v9"}
    (response,) = service.serve(FakeDelivery(Message(body=b'{"request_id": "r-1"}', attributes=attributes)))
    assert (response.request_id, response.status) == ("r-1", "failed")
    assert response.error is not None
    assert response.error.code == "malformed_message"
    assert "v9" in response.error.message
    (letter,) = service.broker.dead_letters()
    assert letter.attributes["dead-letter-code"] == "malformed_message"
    assert letter.attributes["ce-type"] == "fashion.analysis.requested.v9"


def test_a_failed_response_is_not_stored(service: Service) -> None:
    """Asked again, the request may succeed: its batch may be there by then."""
    request = upload(service.store, "r-1", batch_of(1))
    data = service.store.objects.pop(request.batch_uri)
    (failed,) = service.serve(delivery_of(request))
    service.store.objects[request.batch_uri] = data
    _, succeeded = service.serve(delivery_of(request))
    assert (failed.status, succeeded.status) == ("failed", "succeeded")


def test_draining_finishes_what_is_held(service: Service) -> None:
    """After close the worker answers everything it was given, then ends."""
    deliveries = [service.request(f"r-{number}", number) for number in range(20)]
    classifying, go_on = threading.Event(), threading.Event()
    classify: Callable[[Images], Probabilities] = service.classifier.classify

    def slowly(images: Images) -> Probabilities:
        classifying.set()
        assert go_on.wait(30)
        return classify(images)

    service.classifier.classify = slowly  # type: ignore[method-assign]
    subscription = FakeSubscription(deliveries, closed=False)
    running = threading.Thread(target=service.worker(subscription).run)
    running.start()
    assert classifying.wait(30)
    subscription.close()
    assert running.is_alive()
    go_on.set()
    running.join(30)
    assert not running.is_alive()
    assert [delivery.ends for delivery in deliveries] == [["ack"]] * 20
    assert len(service.broker.responses()) == 20


def test_a_worker_without_deliveries_ends(service: Service) -> None:
    """Drained before anything came."""
    assert service.serve() == []


def test_images_are_released_when_they_are_classified(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    """What waits to be stored and published holds no pixels."""
    answer, held = Results.answer, []

    def looked_at(results: Results, work: Work) -> AnalysisResponse:
        held.append(work.images)
        return answer(results, work)

    monkeypatch.setattr(Results, "answer", looked_at)
    service.serve(service.request("r-1", *range(10)), service.request("r-2", 1))
    assert held == [None, None]
