"""A Pub/Sub subscriber against scripted pulls: what no healthy service does."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from types import SimpleNamespace

import grpc
import pytest
from google.protobuf.empty_pb2 import Empty
from google.pubsub_v1.types import PubsubMessage, PullRequest, PullResponse, ReceivedMessage

from handoff.brokers.pubsub.subscription import PulledSubscription
from handoff.contracts.errors import BrokerUnavailable, SettingsInvalid
from handoff.contracts.protocols import Limits


class RpcFailure(grpc.RpcError):  # type: ignore[misc]
    """A failed call, as gRPC raises it."""

    def __init__(self, code: grpc.StatusCode) -> None:
        super().__init__()
        self.code = lambda: code
        self.details = lambda: "scripted"
        self.trailing_metadata = lambda: ()
        self.errors = ()


class ScriptedService:
    """A subscriber client whose pulls go as written."""

    def __init__(self, *outcomes: PullResponse | Exception) -> None:
        self._outcomes = iter(outcomes)
        self.asked: list[int] = []
        self.acked: list[str] = []
        self.transport = SimpleNamespace(pull=SimpleNamespace(future=self._pull))

    def acknowledge(self, *, ack_ids: list[str], **_: object) -> Empty:
        """Keep what was acked."""
        self.acked += ack_ids
        return Empty()

    def modify_ack_deadline(self, **_: object) -> Empty:
        """Leases are no matter here."""
        return Empty()

    def _pull(self, request: PullRequest, **_: object) -> SimpleNamespace:
        self.asked.append(request.max_messages)
        outcome = next(self._outcomes)

        def result() -> PullResponse:
            if isinstance(outcome, Exception):
                raise outcome
            return outcome

        return SimpleNamespace(result=result, cancel=lambda: None)


def response(*texts: str) -> PullResponse:
    """What a pull brings."""
    return PullResponse(
        received_messages=[
            ReceivedMessage(ack_id=f"ack-{text}", message=PubsubMessage(data=text.encode())) for text in texts
        ]
    )


@pytest.fixture
def subscribe() -> Iterator[Callable[..., PulledSubscription]]:
    """Subscribe to a scripted service; finished at the end."""
    opened: list[PulledSubscription] = []

    def start(service: ScriptedService, create: Callable[[], None] | None = None) -> PulledSubscription:
        subscription = PulledSubscription(
            service,  # type: ignore[arg-type]
            path="projects/tests/subscriptions/requests",
            limits=Limits(max_in_flight=8),
            ack_deadline_s=10,
            create=create,
        )
        subscription.start()
        opened.append(subscription)
        return subscription

    yield start
    for subscription in opened:
        subscription.finish()


Start = Callable[..., PulledSubscription]


def test_a_pull_survives_hiccups(subscribe: Start) -> None:
    """An unavailable service, a pull that timed out and an empty one are all waited out."""
    service = ScriptedService(
        RpcFailure(grpc.StatusCode.UNAVAILABLE),
        RpcFailure(grpc.StatusCode.DEADLINE_EXCEEDED),
        response(),
        response("a"),
    )
    assert next(iter(subscribe(service))).message.body == b"a"


def test_only_as_much_is_asked_for_as_there_is_room(subscribe: Start) -> None:
    """One at first, while the messages' size is unknown; then whatever fits beside what is held."""
    service = ScriptedService(response("a"), response("b", "c"), response("d"))
    deliveries = iter(subscribe(service))
    held = [next(deliveries) for _ in range(4)]
    assert [delivery.message.body for delivery in held] == [b"a", b"b", b"c", b"d"]
    assert service.asked == [1, 7, 5]


def test_a_subscription_that_has_gone_is_a_matter_of_settings(subscribe: Start) -> None:
    """Where it was never seen, no retry brings it."""
    with pytest.raises(SettingsInvalid, match="fashion init"):
        next(iter(subscribe(ScriptedService(RpcFailure(grpc.StatusCode.NOT_FOUND)))))


def test_a_lasting_subscription_that_vanishes_is_waited_for(
    subscribe: Start, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """An operator declares it again; what is published from then on is delivered."""
    monkeypatch.setattr("handoff.brokers.outage.random.uniform", lambda *_: 0.0)
    gone = RpcFailure(grpc.StatusCode.NOT_FOUND)
    deliveries = iter(subscribe(ScriptedService(response("a"), gone, gone, response("b"))))
    assert [next(deliveries).message.body for _ in range(2)] == [b"a", b"b"]
    assert "fashion init" in caplog.text


def test_a_temporary_subscription_that_vanishes_is_made_anew(
    subscribe: Start, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """By its owner, as soon as its topic is there; the log says that something may be missing."""
    monkeypatch.setattr("handoff.brokers.outage.random.uniform", lambda *_: 0.0)
    tries = iter([SettingsInvalid("No such topic."), None])

    def create() -> None:
        if error := next(tries):
            raise error

    gone = RpcFailure(grpc.StatusCode.NOT_FOUND)
    deliveries = iter(subscribe(ScriptedService(response("a"), gone, gone, response("b")), create))
    assert [next(deliveries).message.body for _ in range(2)] == [b"a", b"b"]
    assert next(tries, "made") == "made"
    assert "cannot be made anew yet: No such topic." in caplog.text
    assert "had gone and was made anew" in caplog.text


def test_a_long_outage_is_told(subscribe: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    """After its time the subscriber stops hoping."""
    monkeypatch.setattr("handoff.brokers.pubsub.subscription.OUTAGE_S", 0.0)
    with pytest.raises(BrokerUnavailable):
        next(iter(subscribe(ScriptedService(RpcFailure(grpc.StatusCode.UNAVAILABLE)))))


def test_every_ack_is_sent_before_finish_returns(subscribe: Start) -> None:
    """A drained worker leaves no ack behind."""
    service = ScriptedService(response("a"), response("b"))
    subscription = subscribe(service)
    deliveries = iter(subscription)
    for _ in range(2):
        next(deliveries).ack()
    subscription.finish()
    assert sorted(service.acked) == ["ack-a", "ack-b"]
