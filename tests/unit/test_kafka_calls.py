"""What an error of Kafka's client library means to a user, in a sentence without passwords."""

from __future__ import annotations

import pytest
from confluent_kafka import KafkaError, KafkaException

from handoff.brokers.kafka.calls import error_of, meaning, translated
from handoff.contracts.errors import BrokerUnavailable, FashionError, MalformedMessage, SettingsInvalid


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        (KafkaError.UNKNOWN_TOPIC_OR_PART, SettingsInvalid),
        (KafkaError._UNKNOWN_TOPIC, SettingsInvalid),
        (KafkaError._UNKNOWN_PARTITION, SettingsInvalid),
        (KafkaError.TOPIC_AUTHORIZATION_FAILED, SettingsInvalid),
        (KafkaError.GROUP_AUTHORIZATION_FAILED, SettingsInvalid),
        (KafkaError.CLUSTER_AUTHORIZATION_FAILED, SettingsInvalid),
        (KafkaError.SASL_AUTHENTICATION_FAILED, SettingsInvalid),
        (KafkaError._AUTHENTICATION, SettingsInvalid),
        (KafkaError._SSL, SettingsInvalid),
        (KafkaError._INVALID_ARG, SettingsInvalid),
        (KafkaError.INVALID_REPLICATION_FACTOR, SettingsInvalid),
        (KafkaError.POLICY_VIOLATION, SettingsInvalid),
        (KafkaError.MSG_SIZE_TOO_LARGE, MalformedMessage),
        (KafkaError.RECORD_LIST_TOO_LARGE, MalformedMessage),
        (KafkaError._TRANSPORT, BrokerUnavailable),
        (KafkaError._ALL_BROKERS_DOWN, BrokerUnavailable),
        (KafkaError._TIMED_OUT, BrokerUnavailable),
        (KafkaError._MSG_TIMED_OUT, BrokerUnavailable),
        (KafkaError._FATAL, BrokerUnavailable),
        (KafkaError.COORDINATOR_NOT_AVAILABLE, BrokerUnavailable),
        (KafkaError.NOT_ENOUGH_REPLICAS, BrokerUnavailable),
    ],
)
def test_a_code_is_one_of_ours(code: int, kind: type[FashionError]) -> None:
    """Missing or not allowed, too large, or worth another attempt; the sentence says what could not be done."""
    found = meaning(KafkaError(code), "read requests")
    assert type(found) is kind
    assert "Cannot read requests" in str(found)
    assert found.retryable is (kind is BrokerUnavailable)


def test_a_missing_topic_names_the_command_that_makes_it() -> None:
    """Which is what a user can do about it."""
    assert "fashion init" in str(meaning(KafkaError(KafkaError.UNKNOWN_TOPIC_OR_PART), "publish to requests"))


@pytest.mark.parametrize(
    "said",
    [
        "sasl.password=Sesam-open refused",
        "sasl_ssl://fashion:Sesam-open@a:9092/1: Connect to ipv4#10.0.0.1 failed",
        'Invalid jaas config: PlainLoginModule required password="Sesam-open";',
        "OIDC: grant_type=client_credentials&client_secret=x&secret=Sesam-open",
        "Authorization: Bearer Sesam-open was rejected",
        "ssl.key.password: 'Sesam-open' does not open the key",
    ],
)
@pytest.mark.parametrize("code", [KafkaError._AUTHENTICATION, KafkaError._TRANSPORT, KafkaError.MSG_SIZE_TOO_LARGE])
def test_a_password_in_what_the_library_says_is_masked(said: str, code: int) -> None:
    """Whatever the error is, its sentence goes to logs."""
    assert "Sesam" not in str(meaning(KafkaError(code, said), "connect"))


def test_what_a_broker_says_stays_on_one_line() -> None:
    """Its words go to logs and terminals."""
    sentence = str(meaning(KafkaError(KafkaError._TRANSPORT, "gone\nINFO all is well\x1b[2J"), "connect"))
    assert "\n" not in sentence
    assert "\x1b" not in sentence


@pytest.mark.parametrize(
    ("code", "said", "told"),
    [
        (
            KafkaError._TRANSPORT,
            "a:9/bootstrap: Connect to ipv4#1.2.3.4:9 failed: Connection refused (after 0ms in state CONNECT)",
            "a:9: Connect to ipv4#1.2.3.4:9 failed: Connection refused",
        ),
        (
            KafkaError._RESOLVE,
            "a:9/bootstrap: Failed to resolve 'a:9': Name or service not known (after 1ms in state CONNECT, 5 more)",
            "a:9: Failed to resolve 'a:9': Name or service not known",
        ),
    ],
)
def test_who_cannot_be_reached_is_named(code: int, said: str, told: str) -> None:
    """With the address, the reason and what to look at; without what is for those who debug the library."""
    assert str(meaning(KafkaError(code, said), "look up requests")) == (
        f"Cannot look up requests; Kafka does not answer: {told}; is it running there, and is the broker's URL right?"
    )


def test_a_call_that_fails_raises_ours() -> None:
    """From the library's own, which tells where it came from."""
    sentence = "Cannot look up requests; Kafka does not answer"
    with pytest.raises(BrokerUnavailable, match=sentence) as raised, translated("look up requests"):
        raise KafkaException(KafkaError(KafkaError._TIMED_OUT, "Failed to get metadata"))
    assert isinstance(raised.value.__cause__, KafkaException)


def test_an_exception_without_a_code_has_one_all_the_same() -> None:
    """Some of the library's carry a text, or nothing."""
    for problem in (KafkaException("text"), KafkaException()):
        assert error_of(problem).code() == KafkaError._FAIL


def test_other_exceptions_pass() -> None:
    """A mistake of ours is not the broker's."""
    with pytest.raises(ZeroDivisionError), translated("divide"):
        raise ZeroDivisionError
