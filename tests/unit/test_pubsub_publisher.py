"""What a Pub/Sub publisher sends in one call, against a service that answers as written."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence

import google.api_core.exceptions as api
import google.pubsub_v1
import pytest
from google.pubsub_v1.types import PublishRequest, PublishResponse

from handoff.brokers.pubsub.outbox import Outbox
from handoff.brokers.pubsub.publisher import Publisher
from handoff.contracts.errors import BrokerUnavailable, SettingsInvalid
from handoff.contracts.protocols import Message

WAIT_S = 30.0


class ScriptedService:
    """Answers every call with ids, or with an error, once it may."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, list[bytes]]] = []
        self.error: Exception | None = None
        self.called = threading.Semaphore(0)
        self.may_answer = threading.Event()
        self.may_answer.set()

    def publish(self, _client: object, request: PublishRequest, **_: object) -> PublishResponse:
        """What the generated client's method does."""
        bodies = [message.data for message in request.messages]
        self.calls.append((request.topic.rpartition("/")[2], bodies))
        self.called.release()
        assert self.may_answer.wait(WAIT_S)
        if self.error:
            raise self.error
        return PublishResponse(message_ids=[body[:8].decode() for body in bodies])


@pytest.fixture
def service(monkeypatch: pytest.MonkeyPatch) -> ScriptedService:
    """A service in place of the generated client's call."""
    service = ScriptedService()
    monkeypatch.setenv("PUBSUB_EMULATOR_HOST", "127.0.0.1:1")
    monkeypatch.setattr(google.pubsub_v1.PublisherClient, "publish", service.publish)
    return service


@pytest.fixture
def publisher(service: ScriptedService) -> Iterator[Publisher]:
    """A publisher that sends to it."""
    publisher = Publisher("tests")
    publisher.start()
    yield publisher
    service.may_answer.set()
    publisher.close()


def publish_while_busy(service: ScriptedService, publisher: Publisher, *wanted: tuple[str, bytes]) -> list[str]:
    """Publish a first message, the others while its call is under way; the ids of the others."""
    service.may_answer.clear()
    first = publisher.publish("requests", Message(body=b"first"))
    assert service.called.acquire(timeout=WAIT_S)
    futures = [publisher.publish(topic, Message(body=body)) for topic, body in wanted]
    service.may_answer.set()
    assert first.result(WAIT_S) == "first"
    return [future.result(WAIT_S) for future in futures]


def test_an_idle_publisher_sends_at_once(service: ScriptedService, publisher: Publisher) -> None:
    """Alone, for there is nothing to wait for."""
    assert publisher.publish("requests", Message(body=b"a", attributes={"topic": "t"})).result(WAIT_S) == "a"
    assert service.calls == [("requests", [b"a"])]


def test_what_comes_during_a_call_goes_together(service: ScriptedService, publisher: Publisher) -> None:
    """In its order, a call a topic, each message with the id that the service gave to it."""
    wanted = [("requests", b"a"), ("outputs", b"b"), ("requests", b"c")]
    assert publish_while_busy(service, publisher, *wanted) == ["a", "b", "c"]
    assert service.calls[1:] == [("requests", [b"a", b"c"]), ("outputs", [b"b"])]


@pytest.mark.parametrize(
    ("bodies", "portions"),
    [([b"x"] * 1001, [1000, 1]), ([b"x" * 600_000] * 3, [1, 1, 1]), ([b"x" * 400_000] * 3, [2, 1])],
)
def test_a_call_keeps_within_limits(
    service: ScriptedService, publisher: Publisher, bodies: Sequence[bytes], portions: list[int]
) -> None:
    """A thousand messages, a megabyte."""
    publish_while_busy(service, publisher, *[("requests", body) for body in bodies])
    assert [len(sent) for _, sent in service.calls[1:]] == portions


@pytest.mark.parametrize(
    ("error", "kind"),
    [(api.NotFound("gone"), SettingsInvalid), (api.ServiceUnavailable("down"), BrokerUnavailable)],
)
def test_a_failed_call_fails_what_it_carried(
    service: ScriptedService, publisher: Publisher, error: Exception, kind: type[Exception]
) -> None:
    """In our words, with the topic's name; the next call goes out all the same."""
    service.error = error
    with pytest.raises(kind, match="publish to requests"):
        publisher.publish("requests", Message(body=b"a")).result(WAIT_S)
    service.error = None
    assert publisher.publish("requests", Message(body=b"b")).result(WAIT_S) == "b"


def test_what_waits_behind_an_outage_shares_it(service: ScriptedService, publisher: Publisher) -> None:
    """No other call is made for it: closing in an outage takes a call or two, however much waits."""
    service.may_answer.clear()
    bodies = [b"first", *[b"x" * 600_000] * 5]
    service.error = api.ServiceUnavailable("down")
    futures = [publisher.publish("requests", Message(body=bodies[0]))]
    assert service.called.acquire(timeout=WAIT_S)
    futures += [
        publisher.publish(topic, Message(body=body)) for topic in ("requests", "outputs") for body in bodies[1:]
    ]
    service.may_answer.set()
    assert {type(future.exception(WAIT_S)) for future in futures} == {BrokerUnavailable}
    assert len(service.calls) == 2
    service.error = None
    assert publisher.publish("requests", Message(body=b"b")).result(WAIT_S) == "b"


def test_a_missing_topic_is_its_own_messages_fault(service: ScriptedService, publisher: Publisher) -> None:
    """Every call is made; only an outage is shared."""
    service.may_answer.clear()
    service.error = api.NotFound("gone")
    futures = [publisher.publish("requests", Message(body=b"first"))]
    assert service.called.acquire(timeout=WAIT_S)
    futures += [publisher.publish(topic, Message(body=b"x")) for topic in ("requests", "outputs")]
    service.may_answer.set()
    assert {type(future.exception(WAIT_S)) for future in futures} == {SettingsInvalid}
    assert [topic for topic, _ in service.calls] == ["requests", "requests", "outputs"]


def test_an_answer_without_all_ids_confirms_nothing(
    service: ScriptedService, publisher: Publisher, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And the publisher goes on."""
    with monkeypatch.context() as answering:
        answering.setattr(google.pubsub_v1.PublisherClient, "publish", lambda *_, **__: PublishResponse())
        assert isinstance(publisher.publish("requests", Message(body=b"a")).exception(WAIT_S), BrokerUnavailable)
    assert publisher.publish("requests", Message(body=b"b")).result(WAIT_S) == "b"
    assert len(service.calls) == 1


def test_close_sends_what_waits(service: ScriptedService, publisher: Publisher) -> None:
    """And takes nothing more."""
    futures = [publisher.publish("requests", Message(body=b"%d" % number)) for number in range(50)]
    publisher.close()
    assert [future.result(0) for future in futures] == [str(number) for number in range(50)]
    assert sum(len(sent) for _, sent in service.calls) == 50
    assert isinstance(publisher.publish("requests", Message(body=b"late")).exception(0), BrokerUnavailable)


@pytest.fixture
def opened() -> Iterator[Callable[[Outbox[str]], Outbox[str]]]:
    """Start an outbox; it is stopped at the end."""
    started: list[Outbox[str]] = []

    def start(outbox: Outbox[str]) -> Outbox[str]:
        outbox.start()
        started.append(outbox)
        return outbox

    yield start
    for outbox in started:
        outbox.stop()


Start = Callable[[Outbox[str]], Outbox[str]]


def test_an_outbox_lingers_until_something_is_urgent(opened: Start) -> None:
    """What waited goes with it."""
    sent: list[list[str]] = []
    arrived = threading.Event()

    def send(items: list[str]) -> None:
        sent.append(items)
        arrived.set()

    outbox = opened(Outbox(send, name="test", linger_s=WAIT_S))
    outbox.put("a")
    outbox.put("b", urgent=True)
    assert arrived.wait(WAIT_S / 2)
    assert sent == [["a", "b"]]


def test_a_full_outbox_makes_its_user_wait(opened: Start) -> None:
    """Until what it holds is on its way."""
    may_send, sending = threading.Event(), threading.Event()

    def send(_items: list[str]) -> None:
        sending.set()
        assert may_send.wait(WAIT_S)

    outbox = opened(Outbox(send, name="test", max_waiting=10))
    outbox.put("under way", size=1)
    assert sending.wait(WAIT_S)
    outbox.put("waits", size=11)
    done = threading.Event()
    user = threading.Thread(target=lambda: (outbox.put("too much"), done.set()))
    user.start()
    assert not done.wait(0.05)
    may_send.set()
    assert done.wait(WAIT_S)
    user.join()


def test_a_stopped_outbox_takes_nothing() -> None:
    """And says so."""
    outbox: Outbox[str] = Outbox(lambda _items: None, name="test")
    outbox.start()
    assert outbox.put("a")
    outbox.stop()
    assert not outbox.put("b")
