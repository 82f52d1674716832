"""What an operator may do with dead letters, on every broker: made of its protocol alone, so a new one has it too."""

from __future__ import annotations

from concurrent.futures import Future

import pytest

from handoff.brokers.dead_letters import dead_letter
from handoff.contracts.errors import SettingsInvalid
from handoff.contracts.protocols import Broker, Limits, Message
from handoff.contracts.topology import Topology
from handoff.dead_letters import chosen, drop, letter_of, read, replay
from tests.conformance.consumer import Consumer
from tests.conftest import ConnectBroker
from tests.fakes import FakeDelivery

ATTRIBUTES = {"ce-type": "fashion.analysis.requested.v1", "client_id": "c-1", "note": "grün 画像", "empty": ""}


def message(number: int) -> Message:
    """A message of its own, of every byte."""
    return Message(body=bytes(range(256)) + b"%04d" % number, attributes=ATTRIBUTES, key=f"key-{number}")


def bury(broker: Broker, topology: Topology, *messages: Message) -> None:
    """Publish dead letters, and wait until the broker has them."""
    letters = [dead_letter(each, code="internal_error", reason="Why.", attempts=5) for each in messages]
    for confirmed in [broker.publish(topology.dead_letters_topic, letter) for letter in letters]:
        confirmed.result(timeout=30)


class Killed(Exception):
    """The operator's process ended here."""


class DyingBroker:
    """A connection whose owner ends when the broker has what was published."""

    def __init__(self, broker: Broker) -> None:
        self._broker = broker
        self.subscribe, self.declare, self.backlog = broker.subscribe, broker.declare, broker.backlog
        self.close = broker.close

    def publish(self, topic: str, message: Message) -> Future[str]:
        """Publish, and end."""
        self._broker.publish(topic, message).result(timeout=30)
        killed: Future[str] = Future()
        killed.set_exception(Killed())
        return killed


def listed(connect_broker: ConnectBroker, topology: Topology) -> dict[str, int]:
    """What a command of its own would list: each letter and its copies."""
    broker = connect_broker()
    try:
        with read(broker, topology.dead_letters) as found:
            told = list(found)
            return {letter.id: len(letter.held) for letter in told}
    finally:
        broker.close()


def ids_of(*messages: Message) -> set[str]:
    """What letters of these messages are called."""
    return {letter_of(FakeDelivery(each)).id for each in messages}


def test_listing_takes_nothing_away(broker: Broker, connect_broker: ConnectBroker, topology: Topology) -> None:
    """Again and again the same letters, long before a lease would have ended."""
    messages = [message(number) for number in range(50)]
    bury(broker, topology, *messages)
    for _ in range(3):
        assert listed(connect_broker, topology) == dict.fromkeys(ids_of(*messages), 1)


def test_many_looks_in_one_connection_see_the_same(broker: Broker, topology: Topology) -> None:
    """What is given back comes at once, however often it was looked at."""
    bury(broker, topology, message(1))
    for _ in range(8):
        with read(broker, topology.dead_letters, limit=1) as found:
            assert [letter.id for letter in found] == list(ids_of(message(1)))


def test_a_replay_is_the_message_again(broker: Broker, connect_broker: ConnectBroker, topology: Topology) -> None:
    """Body and attributes as they were, and one word more; its letter is gone, the other stays."""
    bury(broker, topology, message(1), message(2))
    with read(broker, topology.dead_letters) as found:
        for _ in found:
            pass
        wanted, unknown = chosen(found.letters, ids_of(message(1)))
        assert [each.refusal for each in replay(broker, topology.requests_topic, wanted)] == [None]
    assert unknown == []
    (delivery,) = Consumer(broker.subscribe(topology.requests, Limits())).take()
    assert delivery.message.body == message(1).body
    assert delivery.message.attributes == {**ATTRIBUTES, "republished": "1"}
    assert delivery.message.key in {"key-1", None}
    broker.close()
    assert set(listed(connect_broker, topology)) == ids_of(message(2))


def test_a_replay_that_dies_before_its_ack_loses_nothing(
    broker: Broker, connect_broker: ConnectBroker, topology: Topology
) -> None:
    """The letter is still there; a second replay publishes the same request, and then the letter goes."""
    bury(broker, topology, message(1))
    with read(broker, topology.dead_letters) as found:
        letters = list(found)
        with pytest.raises(Killed):
            list(replay(DyingBroker(broker), topology.requests_topic, letters))
    second = connect_broker()
    with read(second, topology.dead_letters) as found:
        assert [each.refusal for each in replay(second, topology.requests_topic, list(found))] == [None]
    second.close()
    assert listed(connect_broker, topology) == {}
    published = Consumer(broker.subscribe(topology.requests, Limits())).take(2)
    assert {delivery.message.body for delivery in published} == {message(1).body}
    assert {letter_of(delivery).digest for delivery in published} == {letter_of(FakeDelivery(message(1))).digest}


def test_two_copies_are_one_letter(broker: Broker, connect_broker: ConnectBroker, topology: Topology) -> None:
    """However often it was buried: listed once, dropped at once."""
    bury(broker, topology, message(1), message(2), message(1))
    copies = listed(connect_broker, topology)
    assert sorted(copies.values()) == [1, 2]
    dropping = connect_broker()
    with read(dropping, topology.dead_letters) as found:
        for letter in list(found):
            if len(letter.held) > 1:
                drop(letter)
    dropping.close()
    assert set(listed(connect_broker, topology)) == ids_of(message(2))


def test_a_limit_leaves_the_rest_to_others(broker: Broker, topology: Topology) -> None:
    """What was pulled beyond it is given back."""
    bury(broker, topology, *[message(number) for number in range(20)])
    with read(broker, topology.dead_letters, limit=5) as found:
        told = list(found)
        assert (len(told), found.is_cut) == (5, True)
        with read(broker, topology.dead_letters) as others:
            assert len(list(others)) == 15
            assert not others.is_cut


def test_a_message_that_its_broker_gave_up_is_a_letter_like_any(broker: Broker, topology: Topology) -> None:
    """With what nobody acked as it was, why, and how often it was tried."""
    consumer = Consumer(broker.subscribe(topology.requests, Limits()))
    broker.publish(topology.requests_topic, message(1)).result(timeout=30)
    for _ in range(topology.max_attempts):
        consumer.take(within_s=45)[0].nack()
    with read(broker, topology.dead_letters, limit=1, silence_s=60) as found:
        (letter,) = found
    assert (letter.burial.code, letter.burial.attempts) == ("max_attempts", topology.max_attempts)
    assert "never acked" in letter.burial.reason
    assert (letter.message.body, letter.message.attributes) == (message(1).body, ATTRIBUTES)


def test_a_deployment_that_was_not_declared_says_so(connect_broker: ConnectBroker, topology: Topology) -> None:
    """The sentence names the command."""
    other = Topology(dead_letters_subscription=f"never-{topology.dead_letters_subscription}")
    with pytest.raises(SettingsInvalid, match="fashion init"):
        read(connect_broker(), other.dead_letters)
