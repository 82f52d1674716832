"""Each row of the table of bad input, against a store in memory; and what good input becomes."""

from __future__ import annotations

import gzip
import hashlib
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import numpy as np
import pytest

from handoff.contracts.envelope import MAX_BODY_BYTES
from handoff.contracts.errors import (
    DeadlineExceeded,
    FashionError,
    InvalidBatch,
    MalformedMessage,
    PayloadCorrupt,
    PayloadForbidden,
    PayloadNotFound,
    PayloadTooLarge,
    StoreUnavailable,
    UnknownModel,
)
from handoff.contracts.messages import MAX_INLINE_BYTES, AnalysisResponse, encode_body
from handoff.contracts.objects import response_uri
from handoff.contracts.protocols import Message
from handoff.stores.responses import read_response
from ml_server.answering_model import LocalModel
from ml_server.intake import Intake
from ml_server.outcomes import Reply
from ml_server.work import Work
from tests.fakes import ARTIFACT, MANIFEST, NOW, FakeDelivery, FakeStore, batch_of, delivery_of, upload

HEADER = "image_id,label,pixel_0,pixel_1,pixel_2,pixel_3\n"


@pytest.fixture
def store() -> FakeStore:
    """An empty store."""
    return FakeStore()


@pytest.fixture
def intake(store: FakeStore) -> Intake:
    """An intake with small bounds."""
    return Intake(store, model=LocalModel(ARTIFACT), manifest=MANIFEST, max_batch_bytes=2000, max_batch_images=8)


def take(intake: Intake, delivery: FakeDelivery) -> Work:
    """Take a delivery in that was not answered before."""
    work = Work(delivery)
    assert intake.take_in(work) is None
    return work


def refusal(intake: Intake, delivery: FakeDelivery, kind: type[FashionError]) -> str:
    """The sentence with which a delivery is refused; its work holds no images then."""
    work = Work(delivery)
    with pytest.raises(kind) as refused:
        intake.take_in(work)
    assert work.images is None
    assert "\n" not in str(refused.value)
    return str(refused.value)


def of_text(store: FakeStore, text: str | bytes, **changes: Any) -> FakeDelivery:  # noqa: ANN401
    """A delivery whose batch is this text."""
    data = text.encode() if isinstance(text, str) else text
    request = upload(store, "r-1", batch_of(1), checksum="sha256:" + hashlib.sha256(data).hexdigest(), **changes)
    store.objects[request.batch_uri] = data
    return delivery_of(request)


def test_a_good_request_becomes_images(intake: Intake, store: FakeStore) -> None:
    """Pixels, ids and true labels, by name or number, are taken over; the stages' times are booked."""
    request = upload(store, "r-1", batch_of(5, 250, 7, labels=["dark", "1", ""]))
    work = take(intake, delivery_of(request))
    assert work.images is not None
    assert work.images[:, 0, 0, 0].tolist() == [5, 250, 7]
    assert work.image_ids == ["image-0", "image-1", "image-2"]
    assert work.true_label_ids is not None
    assert work.true_label_ids.tolist() == [0, 1, -1]
    assert set(work.timings_ms) == {"queued", "fetch", "decode"}
    assert work.received is not None
    assert work.received.requested_at == NOW


def test_a_request_without_labels_has_none(intake: Intake, store: FakeStore) -> None:
    """Nothing is counted as right or wrong then."""
    assert take(intake, delivery_of(upload(store, "r-1", batch_of(5)))).true_label_ids is None


def test_the_requests_labels_go_before_the_batchs(intake: Intake, store: FakeStore) -> None:
    """A batch in npy brings none of its own, so a request may name them."""
    request = upload(store, "r-1", batch_of(5, 6, labels=["0", "0"]), labels=["1", "bright"])
    work = take(intake, delivery_of(request))
    assert work.true_label_ids is not None
    assert work.true_label_ids.tolist() == [1, 1]


@pytest.mark.parametrize("uri", ["file:///etc/passwd", "gs://other/x", "memory://store/../x", "memory://stores/x", "x"])
def test_a_batch_outside_the_store_is_forbidden(intake: Intake, store: FakeStore, uri: str) -> None:
    """Other schemes, other places and traversal alike, before anything is read."""
    refusal(intake, delivery_of(upload(store, "r-1", batch_of(1), batch_uri=uri)), PayloadForbidden)


def test_a_missing_object_is_not_found(intake: Intake, store: FakeStore) -> None:
    """The address is named."""
    uri = f"{store.root}/requests/none/images.csv"
    assert uri in refusal(intake, delivery_of(upload(store, "r-1", batch_of(1), batch_uri=uri)), PayloadNotFound)


def test_another_checksum_is_corrupt(intake: Intake, store: FakeStore) -> None:
    """Both digests are named."""
    announced = "sha256:" + 64 * "0"
    sentence = refusal(intake, delivery_of(upload(store, "r-1", batch_of(1), checksum=announced)), PayloadCorrupt)
    assert announced in sentence


def test_a_broken_gzip_file_is_corrupt(intake: Intake, store: FakeStore) -> None:
    """Cut off in the middle, though the checksum holds."""
    data = gzip.compress(HEADER.encode() + b"a,0,1,2,3,4\n")[:-9]
    refusal(intake, of_text(store, data, format="csv.gz"), PayloadCorrupt)


def test_an_object_over_the_bound_is_too_large(intake: Intake, store: FakeStore) -> None:
    """The store says so before the bytes are taken."""
    assert "2000" in refusal(intake, of_text(store, "x" * 2001), PayloadTooLarge)


def test_an_object_that_unpacks_over_the_bound_is_too_large(intake: Intake, store: FakeStore) -> None:
    """A small file may unpack to a large one."""
    bomb = gzip.compress(b"0" * 1_000_000)
    assert len(bomb) < 2000
    refusal(intake, of_text(store, bomb, format="csv.gz"), PayloadTooLarge)


def test_too_many_images_are_refused_before_they_are_read(intake: Intake, store: FakeStore) -> None:
    """The announced count alone will do."""
    request = upload(store, "r-1", batch_of(1), image_count=9)
    del store.objects[request.batch_uri]
    assert "at most 8" in refusal(intake, delivery_of(request), PayloadTooLarge)


def test_more_images_than_allowed_are_too_large(intake: Intake, store: FakeStore) -> None:
    """Whatever was announced, a batch is not decoded beyond the bound."""
    rows = "".join(f"i{number},0,1,2,3,4\n" for number in range(9))
    assert "more than 8 images" in refusal(intake, of_text(store, HEADER + rows, image_count=8), PayloadTooLarge)


def test_another_count_than_announced_is_invalid(intake: Intake, store: FakeStore) -> None:
    """Both counts are named."""
    sentence = refusal(intake, delivery_of(upload(store, "r-1", batch_of(1, 2), image_count=3)), InvalidBatch)
    assert "holds 2 images" in sentence
    assert "announced 3" in sentence


@pytest.mark.parametrize(
    ("rows", "places"),
    [
        ("a,0,1,2,3\n", ("row 1", "pixel_3")),
        ("a,0,1,2,3,4,5\n", ("row 1",)),
        ("a,0,1,2,3,4\nb,0,1,2\n", ("row 2", "pixel_2")),
        ("a,0,1,two,3,4\n", ("row 1", "pixel_1", "two")),
        ("a,0,1,nan,3,4\n", ("row 1", "pixel_1", "nan")),
        ("a,0,1,2.5,3,4\n", ("row 1", "pixel_1")),
        ("a,0,1,2,3,4\nb,0,-1,2,3,4\n", ("row 2", "pixel_0", "-1")),
        ("a,0,1,2,3,256\n", ("row 1", "pixel_3", "256")),
        ("a,0,1,2,3,\n", ("row 1", "pixel_3")),
        ("", ("no images",)),
        ("a,0,1,2,3,4\na,0,1,2,3,4\n", ("row 2", "image_id")),
        ("a,purple,1,2,3,4\n", ("ow 1", "label", "purple")),
    ],
)
def test_a_bad_batch_is_invalid_at_row_and_column(
    intake: Intake, store: FakeStore, rows: str, places: tuple[str, ...]
) -> None:
    """Ragged rows, text, NaN, fractions, figures out of range, nothing at all, unknown labels."""
    sentence = refusal(intake, of_text(store, HEADER + rows), InvalidBatch)
    assert [place for place in places if place not in sentence] == []


def test_images_of_another_size_are_invalid(intake: Intake, store: FakeStore) -> None:
    """The sentence says what the model takes."""
    assert "2x2x1" in refusal(intake, of_text(store, "pixel_0,pixel_1\n1,2\n"), InvalidBatch)


@pytest.mark.parametrize("model", ["fashion", "fashion:7", None])
def test_the_model_that_is_served_may_be_asked_for(intake: Intake, store: FakeStore, model: str | None) -> None:
    """By name, by name and version, or not at all."""
    take(intake, delivery_of(upload(store, "r-1", batch_of(1), model=model)))


@pytest.mark.parametrize("model", ["fashion:8", "mnist", ""])
def test_another_model_is_unknown(intake: Intake, store: FakeStore, model: str) -> None:
    """The sentence says which one there is."""
    request = upload(store, "r-1", batch_of(1), model=model)
    assert "fashion:7 is" in refusal(intake, delivery_of(request), UnknownModel)


def test_past_its_deadline_nothing_is_read(intake: Intake, store: FakeStore) -> None:
    """A deadline still to come changes nothing; one that passed refuses before the batch is fetched."""
    soon, late = (datetime.now(UTC) + timedelta(hours=hours) for hours in (1, -1))
    take(intake, delivery_of(upload(store, "r-1", batch_of(1), deadline=soon)))
    request = upload(store, "r-2", batch_of(1), deadline=late)
    del store.objects[request.batch_uri]
    refusal(intake, delivery_of(request), DeadlineExceeded)


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b'{"request_id": "r-9"}', b"\xff\xfe"])
def test_what_is_no_request_is_malformed(intake: Intake, body: bytes) -> None:
    """Before the store is asked anything."""
    good = delivery_of(upload(FakeStore(), "r-9", batch_of(1))).message
    refusal(intake, FakeDelivery(Message(body=body, attributes=good.attributes)), MalformedMessage)


@pytest.mark.parametrize("attempt", [1, 2])
def test_a_silent_store_is_no_refusal(intake: Intake, store: FakeStore, attempt: int) -> None:
    """Neither for the batch, nor for the look at what was answered before."""
    delivery = delivery_of(upload(store, "r-1", batch_of(1)), attempt=attempt)
    store.failures = 1
    refusal(intake, delivery, StoreUnavailable)
    take(intake, delivery)


@pytest.mark.parametrize(("attempt", "reads"), [(1, 1), (2, 2)])
def test_only_a_redelivered_request_is_looked_up(intake: Intake, store: FakeStore, attempt: int, reads: int) -> None:
    """A look costs as much as the batch itself, and a first delivery has hardly ever been answered."""
    take(intake, delivery_of(upload(store, "r-1", batch_of(1)), attempt=attempt))
    assert len(store.reads) == reads


@pytest.mark.parametrize("attempt", [1, 4])
def test_a_request_that_was_answered_gets_its_answer_again(intake: Intake, store: FakeStore, attempt: int) -> None:
    """As it was stored, though its batch is gone and its deadline passed since, redelivered or published again."""
    response = AnalysisResponse(request_id="r-1", status="succeeded", image_count=1, worker="other", attempt=3)
    store.create(response_uri(store.root, "r-1"), encode_body(response))
    request = upload(store, "r-1", batch_of(1), deadline=NOW, model="gone")
    del store.objects[request.batch_uri]
    work = Work(delivery_of(request, attempt=attempt))
    assert intake.take_in(work) == Reply(response)
    assert work.images is None


def test_a_stored_response_may_come_from_a_later_version(store: FakeStore) -> None:
    """Fields unknown here are ignored."""
    response = AnalysisResponse(request_id="r-1", status="succeeded", image_count=1, worker="w", attempt=1)
    stored = msgspec.json.encode(msgspec.to_builtins(response) | {"field_of_tomorrow": 1})
    store.create(response_uri(store.root, "r-1"), stored)
    assert read_response(store, "r-1") == response
    assert read_response(store, "r-2") is None


@pytest.mark.parametrize(
    "stored",
    [
        b"",
        b"\xff",
        b"{}",
        b"[" * 100_000,
        encode_body(AnalysisResponse(request_id="r-2", status="succeeded", image_count=1, worker="w", attempt=1)),
        encode_body(AnalysisResponse(request_id="r-1", status="failed", image_count=1, worker="w", attempt=1)),
    ],
    ids=lambda stored: ascii(stored[:30]),
)
def test_what_is_no_stored_response_is_corrupt(intake: Intake, store: FakeStore, stored: bytes) -> None:
    """Whoever may write into the store can put anything there: a refusal, never a redelivery loop."""
    store.objects[response_uri(store.root, "r-1")] = stored
    refusal(intake, delivery_of(upload(store, "r-1", batch_of(1)), attempt=2), PayloadCorrupt)


def test_a_stored_response_is_a_small_message(store: FakeStore) -> None:
    """What no broker would take is not read."""
    store.objects[response_uri(store.root, "r-1")] = b" " * (MAX_BODY_BYTES + 1)
    with pytest.raises(PayloadTooLarge):
        read_response(store, "r-1")


@pytest.mark.parametrize("what", ["model", "label"])
def test_a_strangers_text_is_quoted_in_short(intake: Intake, store: FakeStore, what: str) -> None:
    """A refusal stays a small message whatever the request holds."""
    long = "x" * (2 * MAX_INLINE_BYTES)
    changes = {"model": long} if what == "model" else {"labels": [long]}
    kind = UnknownModel if what == "model" else InvalidBatch
    assert len(refusal(intake, delivery_of(upload(store, "r-1", batch_of(1), **changes)), kind)) < 200


def test_images_can_be_released(intake: Intake, store: FakeStore) -> None:
    """The decoded pixels belong to the work alone."""
    work = take(intake, delivery_of(upload(store, "r-1", batch_of(1, 2))))
    assert isinstance(work.images, np.ndarray)
    assert work.add_probabilities(0, np.zeros((2, 2), np.float32))
    assert work.images is None
