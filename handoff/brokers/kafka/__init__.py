"""The Apache Kafka broker: `kafka://HOST:9092[,…][?mode=share-group][&…]`, with confluent-kafka.

Two modes. As a *consumer group*, the default, partitions are shared out among workers: at most as many work as the
requests' topic has partitions. As a *share group* (KIP-932, Kafka 4.2 and later) any number does, and each record is
acknowledged by itself. Topics and what groups need are made by `fashion init`, not on connecting.
"""

from __future__ import annotations

from handoff.brokers.kafka.address import parse_address
from handoff.brokers.kafka.broker import KafkaBroker
from handoff.brokers.kafka.clients import Clients
from handoff.brokers.kafka.publisher import Publisher
from handoff.brokers.kafka.topics import Topics
from handoff.contracts.topology import Topology

__all__ = ["KafkaBroker", "connect"]


def connect(url: str, topology: Topology) -> KafkaBroker:  # noqa: ARG001 - `fashion init` declares it
    """Make the clients of one process: after a fork, never before it.

    Raises: SettingsInvalid: not such a URL, or a property that Kafka's client does not take
    """
    address = parse_address(url)
    clients = Clients(address)
    admin = clients.admin()
    topics = Topics(admin, trouble=clients.trouble)
    publisher = Publisher(clients.producer(), topics=topics)
    publisher.start()
    return KafkaBroker(address, clients=clients, admin=admin, topics=topics, publisher=publisher)
