"""The remote runtime against a server with versions, labels and faults of its own."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from msgspec.structs import replace

from classifiers import serving_patience, serving_payloads, tf_serving
from classifiers.loading import connect_classifiers
from classifiers.protocol import RemoteClassifier, RemoteServer
from classifiers.tf_serving import ServingClassifier, connect
from handoff.contracts.errors import ArtifactInvalid, RuntimeFailed, RuntimeUnavailable
from tests.fakes import MANIFEST, BrightnessClassifier, images_of
from tests.scripted_serving import (
    Answer,
    Drip,
    DripHead,
    Fault,
    Hang,
    HangUp,
    ScriptedServing,
    scripted_serving,
    signature,
)

IMAGES = images_of(0, 100, 200, 255)
EXPECTED = BrightnessClassifier().classify(IMAGES)

Connect = Callable[..., ServingClassifier]


def wait_until(true: Callable[[], bool]) -> None:
    """Look again and again until something is so."""
    deadline = time.monotonic() + 10
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.005)


@pytest.fixture
def serving() -> Iterator[ScriptedServing]:
    """A server of version 3."""
    with scripted_serving() as serving:
        yield serving


@pytest.fixture
def one(serving: ScriptedServing) -> Connect:
    """Connect a classifier; `pin` is what the URL has after the model's name."""

    def begin(pin: str = "", *, timeout_s: float = 5.0, patience_s: float = 20.0) -> ServingClassifier:
        server = RemoteServer(serving.url + pin, timeout_s=timeout_s, patience_s=patience_s)
        (classifier,) = connect(MANIFEST, server, threads=1)
        serving.calls.clear()
        return classifier

    return begin


def test_images_are_classified_by_the_version_that_is_served(serving: ScriptedServing, one: Connect) -> None:
    """Called by its number, so that it is known which one has answered."""
    classifier = one()
    assert classifier.classify(IMAGES) == pytest.approx(EXPECTED, abs=1e-6)
    assert classifier.version == "3"
    assert serving.paths == ["/v1/models/fashion/versions/3:predict"]


def test_it_is_a_remote_classifier(one: Connect) -> None:
    """The worker tells it by its protocol; one that runs here is none."""
    assert isinstance(one(), RemoteClassifier)
    assert not isinstance(BrightnessClassifier(), RemoteClassifier)


def test_no_images_are_no_call(serving: ScriptedServing, one: Connect) -> None:
    """They have no probabilities, of all labels."""
    assert one().classify(IMAGES[:0]).shape == (0, 2)
    assert serving.calls == []


def test_many_images_go_in_several_calls(
    serving: ScriptedServing, one: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each within its bound, and the answers in order."""
    monkeypatch.setattr(serving_payloads, "MOST_IMAGES", 3)
    assert one().classify(IMAGES) == pytest.approx(EXPECTED, abs=1e-6)
    assert serving.predicted == [3, 1]


def test_warming_up_sends_every_size(serving: ScriptedServing, one: Connect) -> None:
    """The server traces for each of them before the first request."""
    one().warm_up([1, 2, 4])
    assert serving.predicted == [1, 2, 4]


def test_a_connection_is_kept(serving: ScriptedServing, one: Connect) -> None:
    """One for all calls of a thread; an error does not end it."""
    classifier = one()
    for _ in range(5):
        classifier.classify(IMAGES)
    serving.faults.append(Answer(503, b'{"error": "busy"}'))
    classifier.classify(IMAGES)
    assert len({call.connection for call in serving.calls}) == 1


def test_threads_share_a_server(serving: ScriptedServing) -> None:
    """Each has a classifier of its own, and a connection."""
    classifiers = connect_classifiers(MANIFEST, RemoteServer(serving.url), threads=4)
    with ThreadPoolExecutor(4) as threads:
        answers = list(threads.map(lambda each: [each.classify(IMAGES) for _ in range(5)], classifiers))
    assert all(np.abs(answer - EXPECTED).max() < 1e-6 for some in answers for answer in some)
    assert len({call.connection for call in serving.calls}) <= 5


def test_credentials_are_sent(serving: ScriptedServing) -> None:
    """A proxy before the server may ask for them."""
    connect(MANIFEST, RemoteServer(serving.url.replace("//", "//me:p%40ss@")), threads=1)
    assert {call.authorization for call in serving.calls} == {"Basic bWU6cEBzcw=="}


# ------------------------------------------------------------------------------------------------- versions and labels


def test_a_pinned_version_is_the_one_that_is_called(serving: ScriptedServing, one: Connect) -> None:
    """Newer ones change nothing."""
    serving.versions = {2: "AVAILABLE", 3: "AVAILABLE"}
    classifier = one("/versions/2")
    classifier.classify(IMAGES)
    assert (classifier.version, serving.paths) == ("2", ["/v1/models/fashion/versions/2:predict"])


def test_a_label_stands_for_a_version(serving: ScriptedServing, one: Connect, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is looked up again and again, for it may be given to another one while both are served."""
    monkeypatch.setattr(tf_serving, "_KNOWN_FOR_S", 0.0)
    serving.versions, serving.labels = {2: "AVAILABLE", 3: "AVAILABLE"}, {"stable": 2}
    classifier = one("/labels/stable")
    classifier.classify(IMAGES)
    assert classifier.version == "2"
    serving.labels["stable"] = 3
    classifier.classify(IMAGES)
    assert classifier.version == "3"


def test_a_new_version_is_followed(serving: ScriptedServing, one: Connect) -> None:
    """The old one is gone: the call is made again, with the new one, which is held to the manifest first."""
    classifier = one()
    serving.versions = {4: "AVAILABLE"}
    assert classifier.classify(IMAGES) == pytest.approx(EXPECTED, abs=1e-6)
    assert classifier.version == "4"
    assert serving.paths == [
        "/v1/models/fashion/versions/3:predict",
        "/v1/models/fashion",
        "/v1/models/fashion/versions/4/metadata",
        "/v1/models/fashion/versions/4:predict",
    ]


def test_one_answer_is_of_one_version(serving: ScriptedServing, one: Connect, monkeypatch: pytest.MonkeyPatch) -> None:
    """A version that changes between two calls for the same images: all of them are classified again."""
    monkeypatch.setattr(serving_payloads, "MOST_IMAGES", 2)
    classifier = one()
    answer = serving.answer

    def change(method: str, path: str, body: bytes) -> Answer:
        said = answer(method, path, body)
        if path.endswith("3:predict"):
            serving.versions = {4: "AVAILABLE"}
        return said

    monkeypatch.setattr(serving, "answer", change)
    classifier.classify(IMAGES)
    assert [path[-9:] for path in serving.paths if path.endswith("predict")] == 2 * ["3:predict"] + 2 * ["4:predict"]
    assert classifier.version == "4"


def test_a_new_version_that_is_another_model_is_waited_out(serving: ScriptedServing, one: Connect) -> None:
    """Whoever deployed it will take it back; until then nothing is classified by it."""
    classifier = one(patience_s=0.2)
    serving.versions, serving.metadata = {4: "AVAILABLE"}, lambda _: signature([-1, 9, 9, 3], [-1, 2])
    with pytest.raises(RuntimeUnavailable, match=r"version 4, takes 9x9x3 an image, not 2x2x1, unlike the manifest of"):
        classifier.classify(IMAGES)
    assert serving.predicted == [4]  # of version 3, which was gone
    serving.metadata = lambda _: signature([-1, 2, 2, 1], [-1, 2])
    assert len(classifier.classify(IMAGES)) == 4


def test_a_version_that_became_another_model_is_waited_out(serving: ScriptedServing, one: Connect) -> None:
    """One wrong answer is enough to look again: a backlog is no dead letter for a mistake in a roll-out."""
    classifier = one(patience_s=0.2)
    serving.label_count, serving.metadata = 3, lambda _: signature([-1, 2, 2, 1], [-1, 3])
    with pytest.raises(RuntimeFailed, match="answered with 3 numbers an image"):
        classifier.classify(IMAGES)
    with pytest.raises(RuntimeUnavailable, match=r"version 3, gives 3 an image, not 2, unlike the manifest of"):
        classifier.classify(IMAGES)
    assert serving.predicted == [4]
    serving.label_count, serving.metadata = 2, lambda _: signature([-1, 2, 2, 1], [-1, 2])
    assert len(classifier.classify(IMAGES)) == 4


def test_a_server_that_tells_no_versions_is_called_by_its_url(
    serving: ScriptedServing, one: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As KServe: ready or not, no metadata, no routes to versions."""
    answer = serving.answer

    def as_kserve(method: str, path: str, body: bytes) -> Answer:
        if "versions" in path or "metadata" in path:
            return Answer(404, b'{"detail": "Not Found"}')
        return answer(method, path, body) if method == "POST" else Answer(200, b'{"name": "fashion", "ready": true}')

    monkeypatch.setattr(serving, "answer", as_kserve)
    classifier = one()
    assert classifier.classify(IMAGES) == pytest.approx(EXPECTED, abs=1e-6)
    assert (classifier.version, serving.paths) == (None, ["/v1/models/fashion:predict"])


# --------------------------------------------------------------------------------------------------------- at the start


def test_a_start_without_a_server_ends_in_a_sentence() -> None:
    """After a bounded wait; it says where nothing answers."""
    server = RemoteServer("http://127.0.0.1:9/v1/models/fashion", patience_s=0.1)
    with pytest.raises(RuntimeUnavailable) as refused:
        connect(MANIFEST, server, threads=1)
    assert str(refused.value) == (
        "Nothing answers at http://127.0.0.1:9/v1/models/fashion (Connection refused);"
        " is TensorFlow Serving running there?"
    )


def test_a_host_that_nobody_knows_is_named() -> None:
    """With the system's reason, in one pair of brackets."""
    server = RemoteServer("http://nobody.invalid:9/v1/models/fashion", patience_s=0)
    with pytest.raises(RuntimeUnavailable, match=r"Nothing answers at .*/fashion \([^()]+\); is TensorFlow"):
        connect(MANIFEST, server, threads=1)


def test_a_server_that_starts_late_is_waited_for(serving: ScriptedServing) -> None:
    """Workers and server are started together, as often as not."""
    serving.versions = {3: "LOADING"}
    with ThreadPoolExecutor(1) as threads:
        connected = threads.submit(connect, MANIFEST, RemoteServer(serving.url), threads=1)
        wait_until(lambda: len(serving.calls) >= 3)
        serving.versions = {3: "AVAILABLE"}
        assert len(connected.result(10)) == 1


def test_another_model_is_refused_at_the_start(serving: ScriptedServing) -> None:
    """With what it is, what the manifest says, and what to do."""
    serving.metadata = lambda _: signature([-1, 28, 28, 1], [-1, 2])
    with pytest.raises(ArtifactInvalid) as refused:
        connect(MANIFEST, RemoteServer(serving.url), threads=1)
    assert str(refused.value) == (
        f"The model at {serving.url}, version 3, takes 28x28x1 an image, not 2x2x1, unlike the manifest of fashion 7;"
        " name the artifact of what is served (--model)."
    )


def test_a_server_without_the_model_is_named_with_its_reason(serving: ScriptedServing) -> None:
    """Its own words, and no more than a line of them."""
    url = serving.url.replace("fashion", "other")
    with pytest.raises(RuntimeUnavailable, match=r"answered 404 \(Servable not found for request: Latest\(other\)\)"):
        connect(MANIFEST, RemoteServer(url, patience_s=0), threads=1)


# --------------------------------------------------------------------------------------------------------------- faults


@pytest.mark.parametrize("status", [401, 403, 404, 407, 408, 429, 502, 503, 504])
def test_an_answer_that_means_not_now_is_waited_out(serving: ScriptedServing, one: Connect, status: int) -> None:
    """Whatever the server or a proxy before it is busy with, it passes."""
    classifier = one()
    serving.faults.extend([Answer(status, b'{"error": "busy"}'), Answer(status, b"<html>\nbusy</html>")])
    assert classifier.classify(IMAGES) == pytest.approx(EXPECTED, abs=1e-6)
    assert serving.predicted == [4, 4, 4]


ENDLESS_HEAD, ENDLESS_PATIENCE = DripHead(b"x"), DripHead(b"HTTP/1.1 100 Continue\r\n\r\n")


@pytest.mark.parametrize("fault", [HangUp(), Hang(), Drip(), ENDLESS_HEAD, ENDLESS_PATIENCE])
def test_silence_is_waited_out(serving: ScriptedServing, one: Connect, fault: Fault) -> None:
    """A connection that breaks, an answer that does not come, one that never ends: the next try is a new one."""
    classifier = one(timeout_s=0.3)
    serving.faults.append(fault)
    assert classifier.classify(IMAGES) == pytest.approx(EXPECTED, abs=1e-6)


@pytest.mark.parametrize(
    ("fault", "told"),
    [
        (HangUp(), "hung up before it had answered"),
        (Hang(), "did not answer within 0.2 s"),
        (Drip(), "did not answer within 0.2 s"),
        (ENDLESS_HEAD, "did not answer within 0.2 s"),
        (ENDLESS_PATIENCE, "did not answer within 0.2 s"),
        (Answer(503, b'{"error": "the queue\\nis full"}'), r"answered 503 \(the queue is full\)"),
        (Answer(429, b""), r"answered 429 \(without a reason\)"),
    ],
)
def test_what_lasts_too_long_is_given_up(serving: ScriptedServing, one: Connect, fault: Fault, told: str) -> None:
    """With the last reason, and with no more than a try or two for who has no patience."""
    classifier = one(timeout_s=0.2, patience_s=0)
    serving.faults.append(fault)
    with pytest.raises(RuntimeUnavailable, match=told) as given_up:
        classifier.classify(IMAGES)
    assert serving.url in str(given_up.value)
    assert len(classifier.classify(IMAGES)) == 4


@pytest.mark.parametrize(
    ("fault", "told"),
    [
        (Answer(400, b'{"error": "JSON Value: 7 is not of expected type: string"}'), r"400 \(JSON Value: 7 is not of"),
        (Answer(400, b'{ "error": "it\\\'s wrong" }'), "it"),  # TensorFlow Serving escapes as C does
        (Answer(413, b"<html>too large</html>"), r"answered 413 \(<html>too large</html>\)"),
        (Answer(500, b'{"error": "' + 5_000 * b"x" + b'"}'), "answered 500"),
        (Answer(302, b""), "answered 302"),
        (Answer(200, b""), "no list of numbers"),
        (Answer(200, b'{"predictions": [[0.5, 0.5]]}'), "answered for 1 images; it was sent 4"),
        (Answer(200, 1_000_000 * b" "), "more than 66,048 bytes"),
    ],
)
def test_a_wrong_answer_is_not_waited_out(serving: ScriptedServing, one: Connect, fault: Fault, told: str) -> None:
    """It would come again; the server's own reason is quoted, on one line and shortened."""
    classifier = one()
    serving.faults.append(fault)
    with pytest.raises(RuntimeFailed, match=told) as failed:
        classifier.classify(IMAGES)
    assert serving.predicted == [4]
    assert serving.url in str(failed.value)
    assert len(str(failed.value)) < 500
    assert str(failed.value).isprintable()
    assert len(classifier.classify(IMAGES)) == 4


def test_a_server_that_restarts_is_found_again(
    serving: ScriptedServing, one: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While it is away the fault can be asked for; its new version is taken."""
    monkeypatch.setattr(serving_patience, "_TELL_AFTER_S", 0.1)
    classifier = one()
    serving.stop()
    with ThreadPoolExecutor(1) as threads:
        answer = threads.submit(classifier.classify, IMAGES)
        wait_until(lambda: bool(classifier.fault))
        assert classifier.fault.startswith(f"Nothing answers at {serving.url}")
        serving.versions = {5: "AVAILABLE"}
        serving.start()
        assert answer.result(10) == pytest.approx(EXPECTED, abs=1e-6)
    assert (classifier.version, classifier.fault) == ("5", "")


def test_waiting_can_be_ended(serving: ScriptedServing, one: Connect) -> None:
    """A worker that drains gives back what its server does not classify."""
    classifier = one(patience_s=60)
    serving.stop()
    with ThreadPoolExecutor(1) as threads:
        answer = threads.submit(classifier.classify, IMAGES)
        classifier.stop_waiting()
        with pytest.raises(RuntimeUnavailable):
            answer.result(10)


def test_labels_are_counted_where_no_metadata_tell_them(serving: ScriptedServing) -> None:
    """The first answer shows that the model has others."""
    serving.metadata = None
    three = replace(MANIFEST, labels=["dark", "grey", "bright"])
    (classifier,) = connect(three, RemoteServer(serving.url), threads=1)
    with pytest.raises(RuntimeFailed, match="answered with 2 numbers an image; the manifest has 3 labels"):
        classifier.warm_up([1])
