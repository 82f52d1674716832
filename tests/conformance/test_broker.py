"""What every broker must do with messages that are published, delivered and acked."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import wait

import pytest
from msgspec.structs import replace

from handoff.contracts.errors import SettingsInvalid
from handoff.contracts.protocols import Broker, Limits, Message
from handoff.contracts.topology import Topology
from tests.conformance.consumer import Consumer, bodies


def publish(broker: Broker, topic: str, *messages: Message) -> None:
    """Publish and wait until the broker has them all."""
    for confirmed in [broker.publish(topic, message) for message in messages]:
        assert confirmed.result(timeout=30)


def numbered(count: int) -> list[Message]:
    """Messages that can be told apart."""
    return [Message(body=b"%04d" % number) for number in range(count)]


def test_a_message_is_delivered_as_it_was_published(broker: Broker, topology: Topology) -> None:
    """Body and attributes are unchanged; the first delivery is attempt 1."""
    consumer = Consumer(broker.subscribe(topology.requests, Limits()))
    attributes = {"ce-type": "fashion.analysis.requested.v1", "client_id": "c-1", "note": "grün 画像", "empty": ""}
    publish(broker, topology.requests_topic, Message(body=bytes(range(256)), attributes=attributes, key="ключ"))
    (delivery,) = consumer.take()
    assert delivery.message.body == bytes(range(256))
    assert dict(delivery.message.attributes) == attributes
    assert delivery.message.key in {"ключ", None}
    assert delivery.attempt == 1
    delivery.ack()


def test_a_message_without_attributes_is_delivered_without(broker: Broker, topology: Topology) -> None:
    """Nothing is added that a receiver could mistake for the sender's."""
    consumer = Consumer(broker.subscribe(topology.requests, Limits()))
    publish(broker, topology.requests_topic, Message(body=b"bare"))
    assert dict(consumer.take()[0].message.attributes) == {}


def test_a_megabyte_is_delivered(broker: Broker, topology: Topology) -> None:
    """A body far over what this service sends still passes."""
    body = bytes(1_000_000)
    consumer = Consumer(broker.subscribe(topology.requests, Limits()))
    publish(broker, topology.requests_topic, Message(body=body))
    assert consumer.take()[0].message.body == body


def test_what_is_published_before_anyone_subscribes_is_kept(broker: Broker, topology: Topology) -> None:
    """A declared subscription collects from the first message on."""
    publish(broker, topology.requests_topic, *numbered(5))
    consumer = Consumer(broker.subscribe(topology.requests, Limits()))
    assert bodies(consumer.take(5)) == [b"%04d" % number for number in range(5)]


def test_a_topics_subscriptions_do_not_share(broker: Broker, topology: Topology) -> None:
    """A message on one topic reaches that topic's subscription and no other."""
    requests = Consumer(broker.subscribe(topology.requests, Limits()))
    responses = Consumer(broker.subscribe(topology.responses, Limits()))
    publish(broker, topology.requests_topic, Message(body=b"request"))
    publish(broker, topology.responses_topic, Message(body=b"response"))
    assert bodies(requests.take()) == [b"request"]
    assert bodies(responses.take()) == [b"response"]


def test_an_unknown_topic_is_named_by_the_future(broker: Broker) -> None:
    """Publishing to what was never declared says what to do."""
    error = broker.publish("no-such-topic", Message(body=b"x")).exception(timeout=30)
    assert isinstance(error, SettingsInvalid)
    assert "fashion init" in str(error)


def test_an_unknown_subscription_is_named_at_once(broker: Broker, topology: Topology) -> None:
    """Subscribing to what was never declared says what to do."""
    with pytest.raises(SettingsInvalid, match="fashion init"):
        broker.subscribe(replace(topology.requests, name="no-such-subscription"), Limits())


def test_declaring_again_does_and_says_nothing(
    broker: Broker, connect_broker: Callable[[], Broker], topology: Topology
) -> None:
    """`fashion init` may be repeated, from anywhere, without a loss."""
    publish(broker, topology.requests_topic, Message(body=b"kept"))
    assert broker.declare(topology) == []
    assert connect_broker().declare(topology) == []
    assert bodies(Consumer(broker.subscribe(topology.requests, Limits())).take()) == [b"kept"]


def test_a_thousand_messages_come_once_each(broker: Broker, topology: Topology) -> None:
    """At a rate no request of this service reaches, none is lost and none comes twice."""
    consumer = Consumer(broker.subscribe(topology.requests, Limits(max_in_flight=100)))
    publish(broker, topology.requests_topic, *numbered(1000))
    received = []
    for _ in range(1000):
        (delivery,) = consumer.take()
        received.append(delivery)
        delivery.ack()
    assert bodies(received) == [b"%04d" % number for number in range(1000)]


def test_two_subscribers_compete(broker: Broker, connect_broker: Callable[[], Broker], topology: Topology) -> None:
    """Each message goes to one of them, and neither sees all."""
    consumers = [
        Consumer(each.subscribe(topology.requests, Limits(max_in_flight=5))) for each in (broker, connect_broker())
    ]
    publish(broker, topology.requests_topic, *numbered(50))
    received: list[list[bytes]] = [[], []]
    while sum(map(len, received)) < 50:
        for consumer, mine in zip(consumers, received, strict=True):
            for delivery in consumer.take_up_to(1, within_s=0.2):
                mine.append(delivery.message.body)
                delivery.ack()
    assert sorted(received[0] + received[1]) == [b"%04d" % number for number in range(50)]
    assert min(map(len, received)) > 0


def test_no_more_is_held_than_the_limit(
    broker: Broker, connect_broker: Callable[[], Broker], topology: Topology
) -> None:
    """A subscriber that acks nothing gets its share and leaves the rest to its peer."""
    publish(broker, topology.requests_topic, *numbered(20))
    slow = Consumer(broker.subscribe(topology.requests, Limits(max_in_flight=3)))
    held = slow.take(3)
    peer = Consumer(connect_broker().subscribe(topology.requests, Limits(max_in_flight=64)))
    others = peer.take(17)
    assert slow.take_up_to(1, within_s=0.05) == []
    assert bodies(held + others) == [b"%04d" % number for number in range(20)]


def test_images_are_counted_as_well_as_messages(
    broker: Broker, connect_broker: Callable[[], Broker], topology: Topology
) -> None:
    """Ten images' worth of room holds two messages of four images, not three."""
    batches = [replace(message, attributes={"ce-imagecount": "4"}) for message in numbered(6)]
    publish(broker, topology.requests_topic, *batches)
    small = Consumer(broker.subscribe(topology.requests, Limits(max_images=10)))
    held = small.take(2)
    peer = Consumer(connect_broker().subscribe(topology.requests, Limits()))
    assert bodies(held + peer.take(4)) == [b"%04d" % number for number in range(6)]
    assert small.take_up_to(1, within_s=0.05) == []


def test_an_ack_makes_room(broker: Broker, topology: Topology) -> None:
    """One message at a time, each on the ack of the one before."""
    publish(broker, topology.requests_topic, *numbered(5))
    consumer = Consumer(broker.subscribe(topology.requests, Limits(max_in_flight=1)))
    for _ in range(5):
        consumer.take()[0].ack()


def test_a_nacked_message_comes_again_at_once(broker: Broker, topology: Topology) -> None:
    """Long before its lease would have ended, with the next attempt's number."""
    publish(broker, topology.requests_topic, Message(body=b"again"))
    consumer = Consumer(broker.subscribe(topology.requests, Limits()))
    (first,) = consumer.take()
    first.nack()
    (second,) = consumer.take(within_s=15)
    assert (first.attempt, second.attempt) == (1, 2)
    assert second.message == first.message


def test_a_nacked_message_can_go_to_another(
    broker: Broker, connect_broker: Callable[[], Broker], topology: Topology
) -> None:
    """Giving back is to anyone."""
    publish(broker, topology.requests_topic, Message(body=b"over to you"))
    first = Consumer(broker.subscribe(topology.requests, Limits()))
    (delivery,) = first.take()
    first.subscription.close()
    assert first.ends()
    delivery.nack()
    other = Consumer(connect_broker().subscribe(topology.requests, Limits()))
    assert bodies(other.take(within_s=15)) == [b"over to you"]


def test_settling_twice_does_nothing(broker: Broker, topology: Topology) -> None:
    """The first of ack and nack counts, from whichever thread."""
    consumer = Consumer(broker.subscribe(topology.requests, Limits(max_in_flight=1)))
    publish(broker, topology.requests_topic, Message(body=b"once"))
    (delivery,) = consumer.take()
    delivery.ack()
    other_thread = threading.Thread(target=delivery.nack)
    other_thread.start()
    other_thread.join()
    delivery.ack()
    publish(broker, topology.requests_topic, Message(body=b"next"))
    assert bodies(consumer.take()) == [b"next"]


def test_close_ends_a_waiting_iteration(broker: Broker, topology: Topology) -> None:
    """Another thread's close wakes a subscriber that waits for a first message; repeating it is harmless."""
    consumer = Consumer(broker.subscribe(topology.requests, Limits()))
    assert consumer.take_up_to(1, within_s=0.2) == []
    consumer.subscription.close()
    consumer.subscription.close()
    assert consumer.ends(within_s=15)


def test_close_within_the_iteration_ends_it(broker: Broker, topology: Topology) -> None:
    """As a signal handler would, in the iterating thread itself."""
    publish(broker, topology.requests_topic, *numbered(3))
    subscription = broker.subscribe(topology.requests, Limits())
    for delivery in subscription:
        delivery.ack()
        subscription.close()
    assert list(subscription) == []


def test_close_gives_back_what_was_not_yielded(
    broker: Broker, connect_broker: Callable[[], Broker], topology: Topology
) -> None:
    """A peer gets it long before a lease would have ended; what was yielded stays, and can still be acked."""
    publish(broker, topology.requests_topic, *numbered(8))
    subscription = broker.subscribe(topology.requests, Limits(max_in_flight=8))
    deliveries = iter(subscription)
    yielded = [next(deliveries), next(deliveries)]
    subscription.close()
    peer = Consumer(connect_broker().subscribe(topology.requests, Limits()))
    rest = peer.take(6, within_s=20)
    assert bodies(yielded + rest) == [b"%04d" % number for number in range(8)]
    for delivery in yielded:
        delivery.ack()


def test_a_closing_broker_gives_back_what_it_holds(
    broker: Broker, connect_broker: Callable[[], Broker], topology: Topology
) -> None:
    """A worker that stops keeps nobody waiting, and a late ack of its harms nobody."""
    publish(broker, topology.requests_topic, Message(body=b"given back"))
    leaving = connect_broker()
    consumer = Consumer(leaving.subscribe(topology.requests, Limits()))
    (delivery,) = consumer.take()
    leaving.close()
    leaving.close()
    assert consumer.ends()
    delivery.ack()
    delivery.nack()
    staying = Consumer(broker.subscribe(topology.requests, Limits()))
    assert bodies(staying.take(within_s=20)) == [b"given back"]


def test_a_closing_broker_has_published_everything(
    broker: Broker, connect_broker: Callable[[], Broker], topology: Topology
) -> None:
    """Nobody has to await the futures for the messages to be sent."""
    leaving = connect_broker()
    confirmed = [leaving.publish(topology.requests_topic, message) for message in numbered(200)]
    leaving.close()
    assert not wait(confirmed, timeout=0).not_done
    consumer = Consumer(broker.subscribe(topology.requests, Limits(max_in_flight=300)))
    assert len(set(bodies(consumer.take(200)))) == 200


def test_a_temporary_subscription_sees_only_its_clients_messages(broker: Broker, topology: Topology) -> None:
    """Two clients share a response topic; each gets its own and the shared subscription gets all."""
    names = ["client-a", "client-b"]
    clients = [Consumer(broker.subscribe(topology.responses_for(name), Limits(max_in_flight=4))) for name in names]
    messages = [
        Message(body=b"%s-%d" % (name.encode(), number), attributes={"client_id": name})
        for number in range(10)
        for name in names
    ]
    publish(broker, topology.responses_topic, *messages, Message(body=b"nobody's"))
    for name, client in zip(names, clients, strict=True):
        received = []
        for _ in range(10):
            received += client.take()
            received[-1].ack()
        assert bodies(received) == [b"%s-%d" % (name.encode(), number) for number in range(10)]
        assert client.take_up_to(1, within_s=0.05) == []
    shared = Consumer(broker.subscribe(topology.responses, Limits()))
    assert len(shared.take(21)) == 21


def test_a_temporary_subscription_goes_with_its_client(broker: Broker, topology: Topology) -> None:
    """After close there is nothing left to subscribe to."""
    spec = topology.responses_for("client-c")
    subscription = broker.subscribe(spec, Limits())
    subscription.close()
    assert list(subscription) == []
    with pytest.raises(SettingsInvalid):
        broker.subscribe(replace(spec, temporary=False), Limits())


def test_a_client_that_comes_back_finds_what_came_meanwhile(
    broker: Broker, connect_broker: Callable[[], Broker], topology: Topology
) -> None:
    """One that was killed could not close: its next process joins the same subscription."""
    spec = topology.responses_for("client-d")
    connect_broker().subscribe(spec, Limits())
    publish(broker, topology.responses_topic, Message(body=b"x", attributes={"client_id": "client-d"}))
    (delivery,) = Consumer(connect_broker().subscribe(spec, Limits())).take()
    assert delivery.message.body == b"x"
    delivery.ack()


def test_the_backlog_counts_what_is_not_acked(broker: Broker, topology: Topology) -> None:
    """Held or waiting, where the broker can say at all."""
    publish(broker, topology.requests_topic, *numbered(3))
    backlog = broker.backlog(topology.requests)
    assert backlog.count in {3, None}
    assert backlog.oldest_unacked_age_s is None or backlog.oldest_unacked_age_s >= 0
