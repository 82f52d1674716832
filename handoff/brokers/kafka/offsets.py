"""Ledgers, as they are committed to a consumer group."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from confluent_kafka import Consumer, KafkaException, TopicPartition

from handoff.brokers.kafka.ledger import Ledger


def committed_ledgers(
    consumer: Consumer, partitions: Sequence[TopicPartition], *, timeout_s: float
) -> dict[int, Ledger]:
    """What the group committed of these partitions; a group that never did begins with the oldest record.

    Raises: KafkaException: no answer
    """
    ledgers = {}
    for found in consumer.committed(list(partitions), timeout=timeout_s):
        if found.error is not None:
            raise KafkaException(found.error)
        offset = found.offset
        if offset < 0:
            offset, _ = consumer.get_watermark_offsets(TopicPartition(found.topic, found.partition), timeout=timeout_s)
        ledgers[found.partition] = Ledger(offset, found.metadata or "")
    return ledgers


def commit_ledgers(
    consumer: Consumer, topic: str, ledgers: Mapping[int, Ledger], *, is_asynchronous: bool = False
) -> None:
    """Commit those ledgers that changed.

    Raises: KafkaException: the broker did not take it, and they count as changed
    """
    changed = {number: ledger for number, ledger in ledgers.items() if ledger.is_changed}
    if not changed:
        return
    offsets = [
        TopicPartition(topic, number, ledger.committed_offset, ledger.metadata()) for number, ledger in changed.items()
    ]
    for ledger in changed.values():
        ledger.is_changed = False
    try:
        _commit(consumer, offsets, is_asynchronous=is_asynchronous)
    except KafkaException:
        for ledger in changed.values():
            ledger.is_changed = True
        raise


def _commit(consumer: Consumer, offsets: list[TopicPartition], *, is_asynchronous: bool) -> None:
    if is_asynchronous:
        consumer.commit(offsets=offsets, asynchronous=True)
        return
    for each in consumer.commit(offsets=offsets, asynchronous=False):
        if each.error is not None:
            raise KafkaException(each.error)
