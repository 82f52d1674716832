"""Acks and nacks of one Pub/Sub subscription, sent together from one thread, off the busy ones."""

from __future__ import annotations

import logging
import math
import threading
from collections import defaultdict
from collections.abc import Sequence

from google.cloud.pubsub_v1 import SubscriberClient

from handoff.brokers.pubsub.calls import ACK_IDS_PER_CALL, ATTEMPT_S, CALL_RETRY, translated
from handoff.contracts.errors import FashionError

# Acks wait this long for company: nobody waits for them, and every call costs the worker and the service the same.
LINGER_S = 0.02
# The longest a lease may be set to: https://cloud.google.com/pubsub/docs/reference/rpc/google.pubsub.v1
MAX_LEASE_S = 600

_log = logging.getLogger(__name__)


class AckOutbox:
    """Sends what came within a few milliseconds, or while the last call was under way, in one call."""

    def __init__(self, client: SubscriberClient, subscription: str) -> None:
        self._client = client
        self._subscription = subscription
        self._changed = threading.Condition()
        self._acked: list[str] = []
        self._nacked: dict[int, list[str]] = defaultdict(list)
        self._closed = False
        self._thread = threading.Thread(target=self._run, name="pubsub-acks", daemon=True)

    def start(self) -> None:
        """Begin to send."""
        self._thread.start()

    def stop(self) -> None:
        """Send everything put in so far, then end."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        self._thread.join()

    def ack(self, ack_id: str) -> None:
        """Have this delivery acked soon."""
        with self._changed:
            self._acked.append(ack_id)
            self._changed.notify()

    def nack(self, ack_id: str, delay_s: float) -> None:
        """Have this delivery's lease end after `delay_s`, rounded up to the whole seconds that Pub/Sub knows."""
        with self._changed:
            self._nacked[min(math.ceil(max(delay_s, 0.0)), MAX_LEASE_S)].append(ack_id)
            self._changed.notify()

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

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._acked or self._nacked or self._closed)
                self._changed.wait_for(lambda: self._closed or self._nacked, LINGER_S)
                acked, self._acked = self._acked, []
                nacked, self._nacked = self._nacked, defaultdict(list)
            if not acked and not nacked:
                return
            try:
                self._acknowledge(acked)
                for delay_s, ids in nacked.items():
                    self.lease(ids, delay_s)
            except FashionError as error:
                _log.warning("some of %d deliveries will come again: %s", len(acked) + len(nacked), error)

    def _acknowledge(self, ack_ids: Sequence[str]) -> None:
        for ids in _portions(ack_ids):
            with translated(f"ack on {self._subscription}"):
                self._client.acknowledge(
                    subscription=self._subscription, ack_ids=ids, retry=CALL_RETRY, timeout=ATTEMPT_S
                )


def _portions(ack_ids: Sequence[str]) -> list[Sequence[str]]:
    return [ack_ids[start : start + ACK_IDS_PER_CALL] for start in range(0, len(ack_ids), ACK_IDS_PER_CALL)]
