"""A client's own subscription: a consumer group without members, of which one reader keeps its place."""

from __future__ import annotations

import logging

from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import AdminClient

from handoff.brokers.kafka.calls import ANSWER_WITHIN_S, UNKNOWN_TOPIC, error_of, patiently, translated
from handoff.brokers.kafka.clients import Clients
from handoff.brokers.kafka.offsets import committed_places, places_of
from handoff.contracts.topology import SubscriptionSpec

_log = logging.getLogger(__name__)


def begin_at_end(clients: Clients, spec: SubscriptionSpec) -> None:
    """Have a reader see everything published from now on, or from where the same client's last process was.

    Raises: BrokerUnavailable; SettingsInvalid: not allowed
    """
    consumer = clients.consumer(spec.name, ack_deadline_s=spec.ack_deadline_s, classic=True)
    try:
        with translated(f"subscribe to {spec.name}"):
            places = patiently(lambda: places_of(consumer, spec.topic), passing=UNKNOWN_TOPIC)
            committed = committed_places(consumer, places, timeout_s=ANSWER_WITHIN_S)
            if any(each.offset >= 0 for each in committed):
                return  # a partition added since holds nothing from before, and is read from its beginning
            for each in committed:
                _, each.offset = consumer.get_watermark_offsets(each, timeout=ANSWER_WITHIN_S)
            patiently(lambda: consumer.commit(offsets=committed, asynchronous=False))
    finally:
        consumer.close()


def forget_group(admin: AdminClient, group: str) -> None:
    """Remove what a temporary subscription leaves; where that fails, the cluster forgets it in a week."""
    try:
        admin.delete_consumer_groups([group], request_timeout=ANSWER_WITHIN_S)[group].result()
    except KafkaException as problem:
        if error_of(problem).code() != KafkaError.GROUP_ID_NOT_FOUND:
            _log.info("the group %s is left to expire: %s", group, error_of(problem).str())
