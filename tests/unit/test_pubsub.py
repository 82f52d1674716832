"""The Pub/Sub adapter's parts that no emulator exercises: limits, failures, settings, figures."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from types import SimpleNamespace

import google.api_core.exceptions as api
import google.auth.exceptions as auth
import pytest
import requests
from google.cloud.pubsub_v1 import PublisherClient, SubscriberClient
from google.pubsub_v1.types import Subscription

from handoff.brokers import pubsub
from handoff.brokers.outage import Outage
from handoff.brokers.pubsub.calls import meaning, translated
from handoff.brokers.pubsub.declaration import Declaration
from handoff.brokers.pubsub.monitoring import Monitoring
from handoff.brokers.pubsub.publisher import Publisher
from handoff.contracts.errors import BrokerUnavailable, FashionError, MalformedMessage, SettingsInvalid
from handoff.contracts.protocols import Backlog, Message
from handoff.contracts.topology import DAY_S, SubscriptionSpec, Topology


@pytest.fixture
def publisher(monkeypatch: pytest.MonkeyPatch) -> Iterator[Publisher]:
    """A publisher whose server nobody reaches."""
    monkeypatch.setenv("PUBSUB_EMULATOR_HOST", "127.0.0.1:1")
    publisher = Publisher("tests")
    publisher.start()
    yield publisher
    publisher.close()


@pytest.mark.parametrize(
    "message",
    [
        Message(body=b""),
        Message(body=b"x" * 10_000_001),
        Message(body=b"x", attributes={str(number): "" for number in range(101)}),
        Message(body=b"x", attributes={"": "x"}),
        Message(body=b"x", attributes={"n" * 257: "x"}),
        Message(body=b"x", attributes={"reason": "ü" * 513}),
        Message(body=b"x", attributes={"googclient": "x"}),
    ],
)
def test_a_message_over_a_limit_is_refused_alone(publisher: Publisher, message: Message) -> None:
    """It never reaches the service, which would refuse all that travel with it."""
    assert isinstance(publisher.publish("requests", message).exception(timeout=5), MalformedMessage)


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (api.NotFound("topic"), SettingsInvalid),
        (api.PermissionDenied("role"), SettingsInvalid),
        (api.InvalidArgument("name"), SettingsInvalid),
        (api.Unauthenticated("who"), SettingsInvalid),
        (auth.RefreshError("expired"), SettingsInvalid),
        (auth.TransportError("no network"), BrokerUnavailable),
        (api.ServiceUnavailable("later"), BrokerUnavailable),
        (api.ResourceExhausted("quota"), BrokerUnavailable),
        (api.RetryError("timeout", cause=api.ServiceUnavailable("later")), BrokerUnavailable),
    ],
)
def test_errors_are_told_in_our_words(error: Exception, expected: type[FashionError]) -> None:
    """What settings can mend is told from what time can mend; the SDK's error stays its cause."""
    with pytest.raises(expected, match="Cannot publish") as caught, translated("publish"):
        raise error
    assert caught.value.__cause__ is error
    assert type(meaning(error, "publish")) is expected


def test_an_outage_ends_with_an_answer_or_with_giving_up() -> None:
    """Waits are bounded and start anew after an answer."""
    outage = Outage(give_up_after_s=1000.0)
    waits = [outage.next_wait_s() for _ in range(50)]
    assert all(wait is not None and 0 <= wait <= 10 for wait in waits)
    outage.end()
    first = outage.next_wait_s()
    assert first is not None
    assert first <= 0.2
    assert Outage(give_up_after_s=0.0).next_wait_s() is None


def described(spec: SubscriptionSpec) -> Subscription:
    """A subscription in the service's words; the clients' classes know how names are written."""
    return Declaration("tests", publisher=PublisherClient, subscriber=SubscriberClient).described(spec)


def test_figures_are_brought_within_what_the_service_allows() -> None:
    """A deadline of a second or three attempts would be refused."""
    low = described(
        SubscriptionSpec(name="sub", topic="topic", ack_deadline_s=1, max_attempts=3, dead_letter_topic="dl")
    )
    assert (low.ack_deadline_seconds, low.dead_letter_policy.max_delivery_attempts) == (10, 5)
    high = described(SubscriptionSpec(name="sub", topic="topic", ack_deadline_s=9999, retention_s=99 * DAY_S))
    assert (high.ack_deadline_seconds, high.message_retention_duration) == (600, timedelta(days=31))


def test_a_clients_own_subscription_is_filtered_and_expires() -> None:
    """After a crash it goes by itself, and the service sends it nothing that is not its client's."""
    mine = described(Topology().responses_for("c-1"))
    assert mine.filter == 'attributes.client_id = "c-1"'
    assert mine.expiration_policy.ttl == timedelta(days=1)
    assert mine.message_retention_duration <= timedelta(days=1)


class ExistingSubscriptions:
    """A service that has every subscription already, somewhat different."""

    def __init__(self, **differing: object) -> None:
        self._differing = differing
        self.updates: list[list[str]] = []
        self.subscription_path = SubscriberClient.subscription_path

    def get_subscription(self, *, subscription: str, **_: object) -> Subscription:
        """What the service has under that name."""
        (spec,) = [spec for spec in Topology().subscriptions if subscription.endswith(spec.name)]
        found = described(spec)
        for field, value in self._differing.items():
            setattr(found, field, value)
        return found

    def update_subscription(self, *, update_mask: dict[str, list[str]], **_: object) -> None:
        """Keep what was updated."""
        self.updates.append(update_mask["paths"])


def declare(service: ExistingSubscriptions) -> list[str]:
    """Declare a topology whose topics are all there."""

    def exists(**_: object) -> None:
        raise api.AlreadyExists("topic")

    publisher = SimpleNamespace(topic_path=PublisherClient.topic_path, create_topic=exists)
    return Declaration("tests", publisher=publisher, subscriber=service).declare(Topology())  # type: ignore[arg-type]


def test_what_is_looked_at_comes_again_at_once() -> None:
    """Dead letters are given back by each look at them, so their subscription waits before no redelivery."""
    assert "retry_policy" not in described(Topology().dead_letters)
    assert described(Topology().requests).retry_policy.minimum_backoff.total_seconds() == 1


def test_what_differs_is_corrected_and_told() -> None:
    """Only the differing field is sent, for each subscription."""
    service = ExistingSubscriptions(ack_deadline_seconds=77)
    assert "Updated ack_deadline_seconds of subscription read-analysis-requests." in declare(service)
    assert service.updates == [["ack_deadline_seconds"]] * 3


def test_what_is_right_is_left_alone() -> None:
    """Nothing is done and nothing said."""
    service = ExistingSubscriptions()
    assert declare(service) == []
    assert service.updates == []


def test_a_subscription_of_another_topic_cannot_be_corrected() -> None:
    """A person has to decide which of the two was meant."""
    with pytest.raises(SettingsInvalid, match="delete it"):
        declare(ExistingSubscriptions(topic="projects/tests/topics/other"))


class ScriptedMonitoring:
    """An HTTP session with one answer for everything."""

    def __init__(self, status: int, body: bytes) -> None:
        self._status = status
        self._body = body

    def get(self, _url: str, **_: object) -> requests.Response:
        """Give the answer."""
        answer = requests.Response()
        answer.status_code, answer._content = self._status, self._body
        return answer


@pytest.mark.parametrize(
    ("status", "body", "expected"),
    [
        (200, b'{"timeSeries": [{"points": [{"value": {"int64Value": "42"}}, {"value": {"int64Value": "7"}}]}]}', 42),
        (200, b"{}", None),
        (200, b'{"timeSeries": []}', None),
        (403, b"{}", None),
        (503, b"", None),
    ],
)
def test_the_backlog_is_the_newest_point_or_unknown(status: int, body: bytes, expected: int | None) -> None:
    """A figure that may not be read, or is not there yet, is no reason to fail."""
    monitoring = Monitoring("tests", session=ScriptedMonitoring(status, body))
    assert monitoring.backlog("sub") == Backlog(count=expected, oldest_unacked_age_s=expected)


@pytest.mark.parametrize("url", ["pubsub://", "pubsub:///", "pubsub://P", "pubsub://project/topic", "pubsub:project"])
def test_a_url_without_a_project_is_a_matter_of_settings(url: str) -> None:
    """The sentence shows how to write it."""
    with pytest.raises(SettingsInvalid, match="pubsub://PROJECT"):
        pubsub.connect(url, Topology())
