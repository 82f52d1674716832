"""The client: what it uploads and publishes, and how each response finds its submission."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator

import numpy as np
import pytest

from fashion_client.client import Client
from fashion_client.receiving import Seen, once_each
from handoff.contracts.batches import decode_batch
from handoff.contracts.envelope import parse_request, response_message
from handoff.contracts.errors import (
    AnalysisFailed,
    BrokerUnavailable,
    FashionError,
    InvalidBatch,
    PayloadCorrupt,
    RequestConflict,
    ResponseTimeout,
    SettingsInvalid,
    StoreUnavailable,
)
from handoff.contracts.messages import AnalysisResponse, FailureReason, encode_body
from handoff.contracts.objects import predictions_uri, response_uri
from handoff.contracts.predictions import encode_predictions
from handoff.contracts.protocols import Message
from handoff.contracts.topology import Topology
from tests.answering import Incoming
from tests.fakes import MANIFEST, NOW, FakeBroker, FakeDelivery, FakeStore, FakeSubscription, batch_of, images_of


class Setting:
    """A client whose broker and store are in memory."""

    def __init__(self) -> None:
        self.store, self.incoming = FakeStore(), Incoming()
        self.broker = FakeBroker(self.incoming)
        self.client = Client(self.broker, store=self.store, topology=Topology(), client_id="me")


@pytest.fixture
def setting() -> Iterator[Setting]:
    """A client at work."""
    setting = Setting()
    yield setting
    setting.client.close()


def response_to(request_id: str, *, failed: bool = False) -> AnalysisResponse:
    """A response."""
    return AnalysisResponse(
        request_id=request_id,
        status="failed" if failed else "succeeded",
        image_count=1,
        worker="w",
        attempt=1,
        predictions_uri=predictions_uri(FakeStore.root, request_id),
        error=FailureReason("unknown_model", "Not served.") if failed else None,
    )


def delivered(response: AnalysisResponse) -> FakeDelivery:
    """A delivery of a response."""
    return FakeDelivery(response_message(response, client_id="me", traceparent=None, source="/workers/w", now=NOW))


@pytest.mark.parametrize("format", ["csv", "csv.gz", "npy"])
def test_a_submission_is_uploaded_then_published(setting: Setting, format: str) -> None:
    """The request names an object that is there, with its checksum, and goes out under the client's name."""
    images = images_of(3, 200)
    submission = setting.client.submit(images, labels=[0, "bright"], image_ids=["a", "b"], format=format)  # type: ignore[arg-type]
    ((topic, message),) = setting.broker.published
    received = parse_request(message)
    data = setting.store.objects[received.request.batch_uri]
    assert topic == Topology().requests_topic
    assert (received.client_id, received.request.request_id) == ("me", submission.request_id)
    assert received.traceparent is not None
    assert received.request.checksum == "sha256:" + hashlib.sha256(data).hexdigest()
    assert (received.request.format, received.request.image_count) == (format, 2)
    batch = decode_batch(data, format=received.request.format, image_shape=(2, 2, 1), max_images=9, max_bytes=10_000)
    assert np.array_equal(batch.images, images)
    assert (received.request.labels or batch.labels) == ["0", "bright"]


def test_images_may_come_without_a_channel_axis(setting: Setting) -> None:
    """Gray images are usually (N, H, W)."""
    setting.client.submit(images_of(1, 2)[..., 0])
    assert b"pixel_0,pixel_1,pixel_2,pixel_3\n1,1,1,1\n2,2,2,2\n" in setting.store.objects.values()


@pytest.mark.parametrize(
    "images", [np.zeros((1, 2, 2), np.float32), np.zeros((4,), np.uint8), np.zeros((0, 2, 2), np.uint8)]
)
def test_what_is_no_images_is_refused(setting: Setting, images: np.ndarray) -> None:
    """Scaled floats, flat arrays, nothing: before anything is uploaded."""
    with pytest.raises(InvalidBatch, match=r"must be uint8 \(N, H, W\)"):
        setting.client.submit(images)
    assert setting.store.objects == {}


@pytest.mark.parametrize("request_id", ["a/b", "../x", "-x", "x" * 129, "ü"])
def test_an_unusable_request_id_is_refused(setting: Setting, request_id: str) -> None:
    """It is a folder's name."""
    with pytest.raises(SettingsInvalid, match="1 to 128 letters"):
        setting.client.submit(images_of(1), request_id=request_id)


def test_nothing_is_published_that_was_not_stored(setting: Setting) -> None:
    """Object first, message second."""
    setting.store.failures = 1
    with pytest.raises(StoreUnavailable):
        setting.client.submit(images_of(1))
    assert setting.broker.published == []


def test_a_publish_that_fails_is_said(setting: Setting) -> None:
    """The caller knows that nothing will come."""
    setting.broker.failures = 1
    with pytest.raises(BrokerUnavailable):
        setting.client.submit(images_of(1))


def test_the_same_request_is_uploaded_once(setting: Setting) -> None:
    """The second one finds its batch there, and both get the one response."""
    first, second = (setting.client.submit(images_of(1), request_id="r") for _ in range(2))
    assert len(setting.store.objects) == 1
    setting.incoming.deliver(delivered(response_to("r")))
    assert first.response(30) == second.response(30)
    sent = [parse_request(message) for _, message in setting.broker.published]
    assert [each.republished for each in sent] == [False, True]


@pytest.mark.parametrize("levels", [(2,), (1, 2, 3)])
def test_an_id_that_was_used_for_another_batch_is_refused(setting: Setting, levels: tuple[int, ...]) -> None:
    """Other images of the same size, or more of them: nothing is overwritten and nothing published."""
    setting.client.submit(images_of(1), request_id="r")
    before = dict(setting.store.objects)
    with pytest.raises(RequestConflict, match="request id r was used for another batch"):
        setting.client.submit(images_of(*levels), request_id="r")
    assert setting.store.objects == before
    assert len(setting.broker.published) == 1


def test_the_steps_of_a_submission_can_be_taken_one_by_one(setting: Setting) -> None:
    """Preparing sends nothing, uploading publishes nothing; together they are a submission."""
    prepared = setting.client.prepare(batch_of(1, 2), model="m", request_id="r")
    assert setting.store.objects == {}
    assert [setting.client.upload(prepared) for _ in range(2)] == [True, False]
    assert setting.broker.published == []
    submission = setting.client.publish(prepared.request)
    setting.incoming.deliver(delivered(response_to("r")))
    assert submission.response(30) == response_to("r")
    whole = setting.client.submit(batch_of(1, 2), model="m", request_id="r")
    assert whole.request == prepared.request


def test_a_request_can_be_published_again_without_its_images(setting: Setting) -> None:
    """The batch lies in the store; whoever waits gets the one response, also by callback."""
    submission = setting.client.submit(images_of(1), request_id="r", model="m")
    setting.client.submit_again(submission)
    first, second = (parse_request(message).request for _, message in setting.broker.published)
    assert first == second == submission.request
    assert len(setting.store.creates) == 1
    called = threading.Event()
    submission.add_done_callback(lambda _: called.set())
    setting.incoming.deliver(delivered(response_to("r")))
    assert called.wait(30)
    assert submission.response(30) == response_to("r")


def test_each_response_finds_its_submission(setting: Setting) -> None:
    """Out of order, twice, among others and among what is no response: every delivery is acked."""
    submissions = {name: setting.client.submit(batch_of(1), request_id=name) for name in ("a", "b")}
    coming = [
        FakeDelivery(Message(body=b"noise")),
        delivered(response_to("stranger")),
        delivered(response_to("b")),
        delivered(response_to("b")),
        delivered(response_to("a")),
    ]
    for delivery in coming:
        setting.incoming.deliver(delivery)
    assert {name: each.result(30).request_id for name, each in submissions.items()} == {"a": "a", "b": "b"}
    assert submissions["a"].done()
    setting.client.stop_receiving()
    assert [delivery.ends for delivery in coming] == [["ack"]] * 5


def test_a_failed_response_is_an_error_with_its_code(setting: Setting) -> None:
    """Waiting for the response gives it, waiting for the result raises it."""
    submission = setting.client.submit(images_of(1), request_id="r")
    setting.incoming.deliver(delivered(response_to("r", failed=True)))
    assert submission.response(30).status == "failed"
    with pytest.raises(AnalysisFailed, match=r"Request r failed \(unknown_model\): Not served.") as failed:
        submission.result(30)
    assert failed.value.error_code == "unknown_model"


def test_a_lost_response_is_found_in_the_store(setting: Setting) -> None:
    """When time is up the stored response counts; without one it says what to look at."""
    submission = setting.client.submit(images_of(1), request_id="r")
    with pytest.raises(ResponseTimeout, match=r"within 0 s; is a worker running"):
        submission.response(0)
    setting.store.create(response_uri(setting.store.root, "r"), encode_body(response_to("r")))
    assert submission.response(0) == response_to("r")


def test_predictions_are_read_when_they_are_asked_for(setting: Setting) -> None:
    """As an array of probabilities, or as a table."""
    submission = setting.client.submit(images_of(1), request_id="r")
    data = encode_predictions(["x"], np.array([[0.25, 0.75]], np.float32), MANIFEST.labels)
    setting.store.create(predictions_uri(setting.store.root, "r"), data)
    setting.incoming.deliver(delivered(response_to("r")))
    result = submission.result(30)
    assert result.predictions().labels == ["bright"]
    (row,) = result.table().to_dict("records")
    assert row == {"image_id": "x", "label_id": 1, "label": "bright", "probability": 0.75, "dark": 0.25, "bright": 0.75}
    setting.store.objects[predictions_uri(setting.store.root, "r")] = b"image_id\n"
    with pytest.raises(PayloadCorrupt):
        result.predictions()


@pytest.mark.parametrize("error", [BrokerUnavailable, SettingsInvalid])
def test_a_subscription_that_fails_ends_every_wait(setting: Setting, error: type[FashionError]) -> None:
    """The broker is gone, or the subscription: those that wait are told, and those that would."""
    submission = setting.client.submit(images_of(1))
    setting.incoming.deliver(error("Gone."))
    with pytest.raises(error, match=r"Gone\."):
        submission.response(30)
    with pytest.raises(error):
        setting.client.submit(images_of(1)).response(30)


@pytest.mark.parametrize(("receive", "subscriptions"), [("own", 1), ("stream", 1), ("shared", 1), ("nothing", 0)])
def test_a_client_subscribes_to_what_it_receives(receive: str, subscriptions: int) -> None:
    """Its own subscription is temporary and filtered; a shared one is everybody's; a sender has none."""
    broker = FakeBroker()
    with Client(broker, store=FakeStore(), topology=Topology(), client_id="me", receive=receive) as client:  # type: ignore[arg-type]
        assert len(broker.subscribed) == subscriptions
        for spec in broker.subscribed:
            assert (spec.temporary, spec.only_client_id) == ((True, "me") if receive != "shared" else (False, None))
        if receive in {"own", "nothing"}:
            with pytest.raises(SettingsInvalid, match="shared"):
                client.responses()
    assert broker.closed


def test_each_request_is_shown_once() -> None:
    """A response that comes again is acked and not shown; each is acked only after it was handled."""
    coming = [delivered(response_to(name)) for name in ("a", "b", "a")]
    shown = once_each(FakeSubscription([FakeDelivery(Message(body=b"noise")), *coming]))
    assert next(shown).request_id == "a"
    assert coming[0].ends == []
    assert next(shown).request_id == "b"
    assert coming[0].ends == ["ack"]
    assert list(shown) == []
    assert [delivery.ends for delivery in coming] == [["ack"]] * 3


def test_what_was_shown_is_remembered_up_to_a_bound() -> None:
    """The oldest are forgotten first."""
    seen = Seen(most=2)
    assert [seen.add(name) for name in ("a", "b", "a", "c", "b", "a")] == [True, True, False, True, False, True]
