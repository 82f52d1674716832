"""How a consumer comes to its partitions: as a member of a group, by whichever protocol the cluster has, or alone."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

from handoff.brokers.kafka.calls import error_of
from handoff.brokers.kafka.clients import Clients
from handoff.brokers.kafka.offsets import places_of
from handoff.contracts.topology import SubscriptionSpec

_log = logging.getLogger(__name__)

# A consumer that hears nothing asks so often whether its cluster is there, and waits so long for the answer.
CHECK_PERIOD_S = 15.0
CHECK_WITHIN_S = 5.0

Rebalance = Callable[[Consumer, list[TopicPartition]], None]


class Membership:
    """One consumer's place among those of its subscription; used by one thread.

    The members of a lasting subscription are given partitions. A temporary one has one reader, which takes all.
    """

    def __init__(self, clients: Clients, *, spec: SubscriptionSpec, tells_end: bool = False) -> None:
        """With `tells_end`, polls say when there is nothing more to read."""
        self._clients = clients
        self._tells_end = tells_end
        self._spec = spec
        # A reader that is no member needs no protocol.
        self._is_classic = spec.temporary
        self._is_joined = self._is_paused = False
        self._rebalances: tuple[Rebalance, Rebalance, Rebalance] | None = None
        self._heard_at = 0.0

    @contextmanager
    def joined(
        self, assigned: Rebalance, revoked: Rebalance, lost: Rebalance, *, forget: Callable[[], None]
    ) -> Iterator[Consumer]:
        """Ask for partitions, of which the three are told: in a later poll, or, alone, at once.

        At the end the consumer is closed, which gives up what it has, and then `forget` is called. Where the cluster
        turns out not to have the newer protocol the block just ends, and the next one goes by the classic protocol.

        Raises: KafkaException
        """
        self._rebalances = assigned, revoked, lost
        self._is_paused = self._is_joined = False
        consumer = self._clients.consumer(
            self._spec.name,
            ack_deadline_s=self._spec.ack_deadline_s,
            classic=self._is_classic,
            tells_end=self._tells_end,
        )
        try:
            self.heard()
            self._join(consumer)
            yield consumer
        except KafkaException as problem:
            if not self._falls_back(error_of(problem)):
                raise
        finally:
            try:
                consumer.close()
            finally:
                forget()

    def assign(self, consumer: Consumer, partitions: Sequence[TopicPartition]) -> None:
        """Fetch these partitions too, from their offsets on."""
        if self._spec.temporary:
            consumer.assign(list(partitions))
        else:
            consumer.incremental_assign(list(partitions))
        # As the others, for `resume` knows of all or none; and the library keeps one paused that went and comes back.
        (consumer.pause if self._is_paused else consumer.resume)(list(partitions))

    def resume(self, consumer: Consumer) -> None:
        """Fetch again, after standing by."""
        if not self._is_joined:
            self._join(consumer)
        if self._is_paused:
            consumer.resume(consumer.assignment())
            self._is_paused = False

    def stand_by(self, consumer: Consumer, *, leaving: bool) -> None:
        """Fetch nothing for now; or leave the partitions to the other members, who may have room."""
        if leaving and self._is_joined and not self._spec.temporary:
            _log.info("%s: no delivery has moved, so its partitions go to others for now", self._spec.name)
            consumer.unsubscribe()
            self._is_joined = self._is_paused = False
        if self._is_joined and not self._is_paused:
            consumer.pause(consumer.assignment())
            self._is_paused = True

    def heard(self) -> None:
        """The cluster has answered."""
        self._heard_at = time.monotonic()

    def check(self, consumer: Consumer) -> bool:
        """After a silence, ask whether the cluster is there; whether it was asked.

        Raises: KafkaException: it does not answer
        """
        if time.monotonic() - self._heard_at <= CHECK_PERIOD_S:
            return False
        consumer.list_topics(self._spec.topic, timeout=CHECK_WITHIN_S)
        self.heard()
        return True

    def ask(self, consumer: Consumer) -> None:
        """Ask whether the cluster is there: soon answered, where a commit waits for minutes.

        Not for its topics, as above: within a callback that call leaves the library without the state that the next
        callback of the same poll needs, and the process is aborted (confluent-kafka 2.16).

        Raises: KafkaException: it does not answer
        """
        consumer.get_watermark_offsets(TopicPartition(self._spec.topic, 0), timeout=CHECK_WITHIN_S)

    def _falls_back(self, error: KafkaError) -> bool:
        """Go on with the classic protocol where the cluster turned out to have no other."""
        if self._is_classic or "ConsumerGroupHeartbeat" not in error.str() or "not supported" not in error.str():
            return False
        self._is_classic = True
        return True

    def _join(self, consumer: Consumer) -> None:
        assert self._rebalances is not None  # noqa: S101 - `join` goes before
        assigned, revoked, lost = self._rebalances
        if self._spec.temporary:
            assigned(consumer, places_of(consumer, self._spec.topic))
        else:
            consumer.subscribe([self._spec.topic], on_assign=assigned, on_revoke=revoked, on_lost=lost)
        _log.info("%s is read %s", self._spec.name, self._described())
        self._is_joined = True

    def _described(self) -> str:
        if self._spec.temporary:
            return "by this client alone"
        if self._is_classic:
            return "as a consumer group of the classic protocol, for the cluster has no newer one"
        if self._tells_end:  # a retry topic has one partition, in every mode
            return "as a consumer group (KIP-848)"
        return "as a consumer group (KIP-848): more workers than partitions need mode=share-group in the broker's URL"
