"""How much of a consumer group's topic waits, and since when."""

from __future__ import annotations

import threading
import time

from confluent_kafka import Consumer, TopicPartition

from handoff.brokers.kafka.calls import ANSWER_WITHIN_S, translated
from handoff.brokers.kafka.clients import Clients
from handoff.brokers.kafka.ledger import Ledger
from handoff.brokers.kafka.offsets import committed_ledgers, places_of
from handoff.contracts.protocols import Backlog
from handoff.contracts.topology import SubscriptionSpec

# The oldest message of each partition is fetched to see its date; what does not come in time counts as young.
_FETCH_WITHIN_S = 1.0


class Backlogs:
    """Reads what groups have committed beside what their topics hold; thread-safe."""

    def __init__(self, clients: Clients) -> None:
        self._clients = clients
        self._consumers: dict[str, Consumer] = {}
        self._dates: dict[tuple[str, int, int], float] = {}
        self._lock = threading.Lock()

    def read(self, spec: SubscriptionSpec, *, retry_topic: str) -> Backlog:
        """Messages not acked, those that wait for another attempt among them; the age is that of the others.

        Raises: BrokerUnavailable; SettingsInvalid: not allowed
        """
        with self._lock, translated(f"read the backlog of {spec.name}"):
            topic_count, oldest = self._read(spec.name, spec.topic)
            retry_count, _ = self._read(retry_topic, retry_topic)
            count = topic_count + retry_count
            age_s = None if not count else 0.0 if oldest is None else max(0.0, time.time() - oldest)
            return Backlog(count=count, oldest_unacked_age_s=age_s)

    def close(self) -> None:
        """Hang up."""
        with self._lock:
            for consumer in self._consumers.values():
                consumer.close()
            self._consumers = {}

    def _read(self, group: str, topic: str) -> tuple[int, float | None]:
        consumer = self._consumer(group)
        ledgers = committed_ledgers(consumer, places_of(consumer, topic), timeout_s=ANSWER_WITHIN_S)
        count, behind = 0, list[TopicPartition]()
        for number, ledger in ledgers.items():
            waiting = _waiting(consumer, TopicPartition(topic, number), ledger)
            count += waiting
            if waiting:
                behind.append(TopicPartition(topic, number, ledger.committed_offset))
        return count, min(self._dates_of(consumer, topic, behind), default=None)

    def _consumer(self, group: str) -> Consumer:
        if group not in self._consumers:
            self._consumers[group] = self._clients.consumer(group, ack_deadline_s=0.0, classic=True)
        return self._consumers[group]

    def _dates_of(self, consumer: Consumer, topic: str, places: list[TopicPartition]) -> list[float]:
        """When these records were published, in seconds since the epoch."""
        wanted = {(topic, each.partition, each.offset) for each in places}
        unknown = [each for each in places if (topic, each.partition, each.offset) not in self._dates]
        self._dates = {place: date for place, date in self._dates.items() if place in wanted or place[0] != topic}
        if unknown:
            consumer.assign(unknown)
            give_up_at = time.monotonic() + _FETCH_WITHIN_S
            left = {each.partition: each.offset for each in unknown}
            while left and time.monotonic() < give_up_at:
                found = consumer.poll(0.1)
                if found is not None and found.error() is None and (number := found.partition()) in left:
                    self._dates[topic, number, left.pop(number)] = found.timestamp()[1] / 1000
            consumer.unassign()
        return [self._dates[place] for place in wanted if place in self._dates]


def _waiting(consumer: Consumer, place: TopicPartition, ledger: Ledger) -> int:
    low, high = consumer.get_watermark_offsets(place, timeout=ANSWER_WITHIN_S)
    if ledger.next_offset > high:  # its topic was made anew
        return high - low
    return max(0, high - max(ledger.next_offset, low)) + ledger.open_count(low)
