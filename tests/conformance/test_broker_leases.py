"""What every broker must do with deliveries that are held, lost or given up."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest
from msgspec.structs import replace

from handoff.contracts.protocols import Broker, Limits, Message
from handoff.contracts.topology import Topology
from tests.conformance.consumer import Consumer, bodies

REPOSITORY = Path(__file__).parents[2]

# A worker that takes one delivery, says so, and holds it until it is killed.
HOLDER = """
import sys, threading, msgspec
from handoff.brokers.urls import open_broker
from handoff.contracts.protocols import Limits
from handoff.contracts.topology import Topology
topology = msgspec.json.decode(sys.argv[2], type=Topology)
broker = open_broker(sys.argv[1], topology)
delivery = next(iter(broker.subscribe(topology.requests, Limits(max_in_flight=1))))
print(delivery.attempt, flush=True)
threading.Event().wait()
"""


@pytest.fixture
def topology(topology: Topology, short_deadline_s: float) -> Topology:
    """Leases that end soon."""
    return replace(topology, ack_deadline_s=short_deadline_s)


def publish(broker: Broker, topic: str, *texts: bytes) -> None:
    """Publish and wait until the broker has them all."""
    for confirmed in [broker.publish(topic, Message(body=text)) for text in texts]:
        assert confirmed.result(timeout=30)


def test_a_killed_workers_delivery_comes_back(
    broker: Broker, broker_url: str, topology: Topology, short_deadline_s: float
) -> None:
    """A process that dies without a word loses its lease at the ack deadline, and the attempt is counted."""
    publish(broker, topology.requests_topic, b"held by the dead")
    command = [sys.executable, "-c", HOLDER, broker_url, msgspec.json.encode(topology).decode()]
    with subprocess.Popen(command, stdout=subprocess.PIPE, cwd=REPOSITORY) as worker:
        try:
            assert worker.stdout
            assert worker.stdout.readline() == b"1\n"
        finally:
            worker.kill()
    consumer = Consumer(broker.subscribe(topology.requests, Limits()))
    (delivery,) = consumer.take(within_s=3 * short_deadline_s + 10)
    assert delivery.message.body == b"held by the dead"
    assert delivery.attempt == 2


def test_leases_of_the_living_are_kept(
    broker: Broker, connect_broker: Callable[[], Broker], topology: Topology, short_deadline_s: float
) -> None:
    """Two deadlines later what is held went to nobody, also after `close`, and what was acked stays acked."""
    publish(broker, topology.requests_topic, b"acked", b"held", b"held after close")
    leaving = connect_broker()
    acking = Consumer(leaving.subscribe(topology.requests, Limits(max_in_flight=1)))
    acking.take()[0].ack()
    acking.subscription.close()
    assert acking.ends()
    leaving.close()
    holding = Consumer(broker.subscribe(topology.requests, Limits(max_in_flight=2)))
    held = holding.take(2)
    holding.subscription.close()
    assert holding.ends()
    peer = Consumer(connect_broker().subscribe(topology.requests, Limits()))
    assert bodies(peer.take_up_to(1, within_s=2.2 * short_deadline_s)) == []
    for delivery in held:
        delivery.ack()
    publish(broker, topology.requests_topic, b"next")
    assert bodies(peer.take()) == [b"next"]


def test_who_was_long_at_work_gets_more(broker: Broker, topology: Topology, short_deadline_s: float) -> None:
    """A subscriber without room for more than a deadline, whose peers might have had what waits, goes on afterwards."""
    consumer = Consumer(broker.subscribe(topology.requests, Limits(max_in_flight=1)))
    publish(broker, topology.requests_topic, b"long")
    (held,) = consumer.take()
    publish(broker, topology.requests_topic, *(b"%d" % number for number in range(8)))
    assert consumer.take_up_to(1, within_s=1.2 * short_deadline_s) == []
    held.ack()
    after = []
    for _ in range(8):
        after += consumer.take()
        after[-1].ack()
    assert bodies(after) == [b"%d" % number for number in range(8)]


def test_a_nack_may_ask_for_a_delay(broker: Broker, topology: Topology) -> None:
    """What is published after a delayed nack overtakes it; then it comes, attempt counted."""
    consumer = Consumer(broker.subscribe(topology.requests, Limits()))
    publish(broker, topology.requests_topic, b"delayed")
    consumer.take()[0].nack(delay_s=2.0)
    publish(broker, topology.requests_topic, b"overtaking")
    first, second = consumer.take(2)
    assert [first.message.body, second.message.body] == [b"overtaking", b"delayed"]
    assert second.attempt == 2


def test_a_delay_is_no_lease(broker: Broker, connect_broker: Callable[[], Broker], topology: Topology) -> None:
    """Closing the broker that nacked changes nothing: the message still comes, to anyone."""
    publish(broker, topology.requests_topic, b"delayed")
    leaving = connect_broker()
    Consumer(leaving.subscribe(topology.requests, Limits())).take()[0].nack(delay_s=1.0)
    leaving.close()
    consumer = Consumer(broker.subscribe(topology.requests, Limits()))
    assert bodies(consumer.take()) == [b"delayed"]


def test_after_the_last_attempt_a_message_is_a_dead_letter(broker: Broker, topology: Topology) -> None:
    """It is delivered `max_attempts` times, then moved to the dead letters as it was, and never delivered again."""
    dead_letters = Consumer(broker.subscribe(topology.dead_letters, Limits()))
    consumer = Consumer(broker.subscribe(topology.requests, Limits()))
    message = Message(body=b"poison", attributes={"client_id": "c-1"})
    broker.publish(topology.requests_topic, message).result(timeout=30)
    attempts = []
    for _ in range(topology.max_attempts):
        (delivery,) = consumer.take(within_s=45)
        attempts.append(delivery.attempt)
        delivery.nack()
    (letter,) = dead_letters.take(within_s=60)
    assert attempts == [1, 2, 3, 4, 5]
    assert letter.message.body == b"poison"
    assert message.attributes.items() <= letter.message.attributes.items()
    publish(broker, topology.requests_topic, b"harmless")
    assert bodies(consumer.take()) == [b"harmless"]
