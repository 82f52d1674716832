"""Acks and nacks of one Pub/Sub subscription."""

from __future__ import annotations

import logging
import math
from collections import defaultdict
from collections.abc import Sequence
from typing import NamedTuple

from google.cloud.pubsub_v1 import SubscriberClient

from handoff.brokers.pubsub.calls import ACK_IDS_PER_CALL, ATTEMPT_S, CALL_RETRY, translated
from handoff.brokers.pubsub.outbox import Outbox
from handoff.contracts.errors import FashionError

# Acks wait this long for company: nobody waits for them, and every call costs the worker and the service the same.
LINGER_S = 0.02
# The longest a lease may be set to: https://cloud.google.com/pubsub/docs/reference/rpc/google.pubsub.v1
MAX_LEASE_S = 600

_log = logging.getLogger(__name__)


class _Settled(NamedTuple):
    """The end of a delivery: an ack, or a nack whose lease is to end after so many seconds."""

    ack_id: str
    nack_delay_s: int | None


class AckOutbox:
    """Sends what came within a few milliseconds, or while the last call was under way, in one call."""

    def __init__(self, client: SubscriberClient, subscription: str) -> None:
        self._client = client
        self._subscription = subscription
        self._outbox = Outbox(self._send, name="pubsub-acks", linger_s=LINGER_S)

    def start(self) -> None:
        """Begin to send."""
        self._outbox.start()

    def stop(self) -> None:
        """Send everything put in so far, then end."""
        self._outbox.stop()

    def ack(self, ack_id: str) -> None:
        """Have this delivery acked soon."""
        self._outbox.put(_Settled(ack_id, None))

    def nack(self, ack_id: str, delay_s: float) -> None:
        """Have this delivery's lease end after `delay_s`, rounded up to the whole seconds that Pub/Sub knows."""
        self._outbox.put(_Settled(ack_id, min(math.ceil(max(delay_s, 0.0)), MAX_LEASE_S)), urgent=True)

    def lease(self, ack_ids: Sequence[str], seconds: int) -> None:
        """Let these leases run out `seconds` from now; 0 gives the messages back at once.

        Raises: BrokerUnavailable, SettingsInvalid
        """
        for ids in _portions(ack_ids):
            with translated(f"set leases on {self._subscription}"):
                self._client.modify_ack_deadline(
                    subscription=self._subscription,
                    ack_ids=ids,
                    ack_deadline_seconds=seconds,
                    retry=CALL_RETRY,
                    timeout=ATTEMPT_S,
                )

    def _send(self, settled: Sequence[_Settled]) -> None:
        ends: dict[int | None, list[str]] = defaultdict(list)
        for ack_id, delay_s in settled:
            ends[delay_s].append(ack_id)
        try:
            self._acknowledge(ends.pop(None, []))
            for delay_s, ids in ends.items():
                self.lease(ids, delay_s or 0)
        except FashionError as error:
            _log.warning("some of %d deliveries will come again: %s", len(settled), error)

    def _acknowledge(self, ack_ids: Sequence[str]) -> None:
        for ids in _portions(ack_ids):
            with translated(f"ack on {self._subscription}"):
                self._client.acknowledge(
                    subscription=self._subscription, ack_ids=ids, retry=CALL_RETRY, timeout=ATTEMPT_S
                )


def _portions(ack_ids: Sequence[str]) -> list[Sequence[str]]:
    return [ack_ids[start : start + ACK_IDS_PER_CALL] for start in range(0, len(ack_ids), ACK_IDS_PER_CALL)]
