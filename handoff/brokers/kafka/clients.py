"""Configurations of librdkafka's clients: what they share, and what each kind of them needs."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from typing import Any, TypeVar

from confluent_kafka import Consumer, KafkaError, Producer, ShareConsumer
from confluent_kafka.admin import AdminClient

from handoff.brokers.kafka.address import Address
from handoff.brokers.kafka.calls import ANSWER_WITHIN_S, REFUSED, UNREACHABLE, translated
from handoff.contracts.errors import SettingsInvalid

_log = logging.getLogger(__name__)

Client = TypeVar("Client")

# Brokers refuse less for the classic protocol (`group.min.session.timeout.ms`).
LEAST_CLASSIC_SESSION_S = 6.0
# And librdkafka more than the time between two polls that it allows (`max.poll.interval.ms`, 5 min).
MOST_CLASSIC_SESSION_S = 300.0
# Bounds a client's memory: what is fetched ahead of a consumer, and what waits to be sent.
_PREFETCHED_KBYTES = 16 * 1024
_WAITING_KBYTES = 64 * 1024
# What a topic takes unconfigured (`max.message.bytes`), and room for what is written on a message that it took: as a
# dead letter, and again on its retry topic. librdkafka's own bound is lower than the first.
MESSAGE_BYTES = 1_048_588
NOTES_BYTES = 64 * 1024
# Of syslog's levels, librdkafka's own.
_CRITICAL = 2
# Records of one poll of a share consumer, which are its own until the last of them is settled: few, so that a worker
# leaves something to its peers.
SHARE_POLL_RECORDS = 16


class Clients:
    """Makes the clients of one process for one cluster."""

    def __init__(self, address: Address) -> None:
        self._address = address
        self._refusal: KafkaError | None = None
        self._silence: KafkaError | None = None

    def trouble(self) -> KafkaError:
        """Why a broker hung up or is not reached, as far as that was heard: what it is asked only runs out of time."""
        # Of a listener that hangs up on who speaks without TLS or a password, librdkafka tells nothing.
        unknown = f"{self._address.servers} says nothing in time, as where it wants TLS or a password (docs/kafka.md)"
        return self._refusal or self._silence or KafkaError(KafkaError._TRANSPORT, unknown)  # noqa: SLF001

    def producer(self) -> Producer:
        """Confirms a record when every replica that counts has it, once and in order."""
        # A share group hands out whole producer batches, so there a batch is one record.
        alone = {"batch.num.messages": 1} if self._address.mode == "share-group" else {}
        return self._made(
            Producer,
            {
                "acks": "all",
                "enable.idempotence": True,
                "linger.ms": 0,
                "message.timeout.ms": int(ANSWER_WITHIN_S * 1000),
                "queue.buffering.max.kbytes": _WAITING_KBYTES,
                # Without a key, every record on its own: the sticky partitioner leaves partitions, and workers, dry.
                "sticky.partitioning.linger.ms": 0,
                **alone,
            },
        )

    def admin(self) -> AdminClient:
        """Looks at topics and groups, and makes them."""
        return self._made(AdminClient, {})

    def consumer(self, group: str, *, ack_deadline_s: float, classic: bool, tells_end: bool = False) -> Consumer:
        """A member of a consumer group, by the protocol of KIP-848 or by the classic one."""
        session_ms = math.ceil(min(max(ack_deadline_s, LEAST_CLASSIC_SESSION_S), MOST_CLASSIC_SESSION_S) * 1000)
        protocol: dict[str, object] = {"group.protocol": "consumer"}
        if classic:
            protocol = {
                "group.protocol": "classic",
                "partition.assignment.strategy": "cooperative-sticky",
                "session.timeout.ms": session_ms,
                "heartbeat.interval.ms": session_ms // 3,
            }
        return self._made(
            Consumer,
            {
                **protocol,
                "group.id": group,
                "auto.offset.reset": "earliest",
                "enable.auto.commit": False,
                "enable.partition.eof": tells_end,
                "queued.max.messages.kbytes": _PREFETCHED_KBYTES,
            },
        )

    def share_consumer(self, group: str) -> ShareConsumer:
        """A member of a share group that says of each record what became of it."""
        return self._made(
            ShareConsumer,
            {
                "group.id": group,
                "share.acknowledgement.mode": "explicit",
                "max.poll.records": SHARE_POLL_RECORDS,
            },
        )

    def _made(self, kind: Callable[[dict[str, Any]], Client], configuration: dict[str, object]) -> Client:
        what = f"connect to {self._address.servers}"
        given = {
            "bootstrap.servers": self._address.servers,
            "message.max.bytes": MESSAGE_BYTES + 2 * NOTES_BYTES,
            "socket.timeout.ms": int(ANSWER_WITHIN_S * 1000),
            # What matters of its errors comes as exceptions; it would repeat them several times a second.
            "log_level": _CRITICAL,
            **self._address.properties,
            **configuration,
            "logger": _log,
            "error_cb": self._hear,
        }
        with translated(what):
            try:
                return kind(given)
            # So the library refuses some properties, a share consumer's above all.
            except (TypeError, ValueError) as problem:
                raise SettingsInvalid(f"Cannot {what}; Kafka's client refuses: {problem}") from problem

    def _hear(self, error: KafkaError) -> None:
        if error.code() in REFUSED:
            self._refusal = error
        elif error.code() in UNREACHABLE:
            self._silence = error
