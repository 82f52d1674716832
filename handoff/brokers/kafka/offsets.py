"""Ledgers, as they are committed to a consumer group."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager

from confluent_kafka import Consumer, KafkaException, TopicPartition

from handoff.brokers.kafka.calls import ANSWER_WITHIN_S, patiently
from handoff.brokers.kafka.ledger import Ledger

# An asynchronous commit may fail without a word; so what has not changed is committed again, too.
COMMIT_AGAIN_AFTER_S = 15.0


def places_of(consumer: Consumer, topic: str) -> list[TopicPartition]:
    """The partitions of a topic.

    Raises: KafkaException: no answer, or that of a broker that has not heard of the topic yet
    """
    found = consumer.list_topics(topic, timeout=ANSWER_WITHIN_S).topics[topic]
    if found.error is not None:
        raise KafkaException(found.error)
    return [TopicPartition(topic, number) for number in found.partitions]


def committed_places(
    consumer: Consumer, partitions: Sequence[TopicPartition], *, timeout_s: float
) -> list[TopicPartition]:
    """These partitions with what the group committed of them; a negative offset where it never did.

    Raises: KafkaException: no answer
    """
    committed = patiently(lambda: consumer.committed(list(partitions), timeout=timeout_s))
    for each in committed:
        if each.error is not None:
            raise KafkaException(each.error)
    return committed


def committed_ledgers(
    consumer: Consumer, partitions: Sequence[TopicPartition], *, timeout_s: float
) -> dict[int, Ledger]:
    """What the group committed of these partitions; a group that never did begins with the oldest record.

    Raises: KafkaException: no answer
    """
    ledgers = {}
    for found in committed_places(consumer, partitions, timeout_s=timeout_s):
        offset = found.offset
        if offset < 0:
            offset, _ = consumer.get_watermark_offsets(TopicPartition(found.topic, found.partition), timeout=timeout_s)
        ledgers[found.partition] = Ledger(offset, found.metadata or "")
    return ledgers


def commit_ledgers(
    consumer: Consumer,
    topic: str,
    ledgers: Mapping[int, Ledger],
    *,
    lock: AbstractContextManager[object],
    is_asynchronous: bool = False,
) -> None:
    """Commit those ledgers that changed; the lock that they go by is not held while a broker is waited for.

    Raises: KafkaException: the broker did not take it, and they count as changed
    """
    now, offsets, changed = time.monotonic(), list[TopicPartition](), list[Ledger]()
    with lock:
        for number, ledger in ledgers.items():
            if ledger.is_changed or now - ledger.committed_at > COMMIT_AGAIN_AFTER_S:
                offsets.append(TopicPartition(topic, number, ledger.committed_offset, ledger.metadata()))
                changed.append(ledger)
                ledger.is_changed, ledger.committed_at = False, now
    if not offsets:
        return
    try:
        _commit(consumer, offsets, is_asynchronous=is_asynchronous)
    except KafkaException:
        with lock:
            for ledger in changed:
                ledger.is_changed = True
        raise


def _commit(consumer: Consumer, offsets: list[TopicPartition], *, is_asynchronous: bool) -> None:
    if is_asynchronous:
        consumer.commit(offsets=offsets, asynchronous=True)
        return
    for each in consumer.commit(offsets=offsets, asynchronous=False):
        if each.error is not None:
            raise KafkaException(each.error)
