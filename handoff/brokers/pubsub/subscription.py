"""One subscriber of a Pub/Sub subscription: unary pulls that ask for no more than there is room for.

Why not a streaming pull: docs/decisions/0001-unary-pull.md.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import Any

import grpc
from google.api_core.exceptions import DeadlineExceeded, NotFound, from_grpc_error
from google.api_core.gapic_v1.routing_header import to_grpc_metadata
from google.cloud.pubsub_v1 import SubscriberClient
from google.pubsub_v1.types import PullRequest, PullResponse

from handoff.brokers.leases import LeaseKeeper
from handoff.brokers.outage import Outage
from handoff.brokers.pubsub.acks import AckOutbox
from handoff.brokers.pubsub.calls import ACK_IDS_PER_CALL, TRANSIENT, meaning
from handoff.brokers.window import Window
from handoff.contracts.errors import FashionError
from handoff.contracts.protocols import Limits, Message

# How long one pull waits for a message, and so the longest that `close` waits for one under way, and that a connection
# gone silent stays unnoticed. The emulator answers a second earlier.
PULL_S = 3.0
# How long a subscriber outlives an outage, before its supervisor's turn: twice what Google's client retries a pull for.
OUTAGE_S = 120.0
CLIENT_ID_ATTRIBUTE = "client_id"

_log = logging.getLogger(__name__)


class PulledDelivery:
    """A message held under a lease."""

    def __init__(self, message: Message, *, attempt: int, settle: Callable[[float | None], None]) -> None:
        self.message = message
        self.attempt = attempt
        self._settle = settle

    def ack(self) -> None:
        """End the delivery."""
        self._settle(None)

    def nack(self, delay_s: float = 0.0) -> None:
        """Give the message back; Pub/Sub knows whole seconds, and no more than 600."""
        self._settle(delay_s)


class PulledSubscription:
    """Deliveries of one subscription, pulled by the thread that iterates."""

    def __init__(
        self,
        client: SubscriberClient,
        *,
        path: str,
        limits: Limits,
        ack_deadline_s: int,
        only_client_id: str | None = None,
        create: Callable[[], None] | None = None,
        discard: Callable[[], None] | None = None,
    ) -> None:
        """Of a temporary subscription, `create` makes it anew should it vanish, and `discard` removes it.

        Nobody else sees such a one, so nothing is given back to it.
        """
        self._client = client
        self._path = path
        self._only_client_id = only_client_id
        self._create = create
        self._discard = discard
        self._window = Window(limits)
        self._outbox = AckOutbox(client, path)
        self._leases: LeaseKeeper[str] = LeaseKeeper(
            lambda ids: self._outbox.lease(ids, ack_deadline_s), ack_deadline_s=ack_deadline_s
        )
        self._outage = Outage(give_up_after_s=OUTAGE_S)
        self._answered = False
        # Re-entrant: a signal handler may close the subscription in the very thread that iterates.
        self._lock = threading.RLock()
        self._closed = threading.Event()
        self._call: Any = None
        self._pulling = threading.Lock()
        self._pulled: deque[PulledDelivery] = deque()

    def start(self) -> None:
        """Begin to keep leases and to send acks."""
        self._outbox.start()
        self._leases.start()

    def finish(self) -> None:
        """Close, give back what is still held, and return when the service knows."""
        self.close()
        with self._pulling:  # what the last pull brings is given back, too
            pass
        for ack_id in self._leases.stop():
            self._outbox.nack(ack_id, 0.0)
        self._outbox.stop()

    def __iter__(self) -> Iterator[PulledDelivery]:
        """Yield deliveries until `close`.

        Raises: BrokerUnavailable: no answer for two minutes; SettingsInvalid: there is no such subscription, or it has
            been gone for as long
        """
        while True:
            delivery = self._next_pulled()
            if delivery:
                yield delivery
                continue
            room = self._window.wait_for_room()
            if not room:
                return
            with self._pulling:
                self._take(self._pull(min(room, ACK_IDS_PER_CALL)))

    def close(self) -> None:
        """Stop pulling and give back what was not yielded; what was yielded stays held.

        A pull under way is left to end by itself: what a cancelled one was about to bring would be nobody's until its
        ack deadline. Only a temporary subscription, which nobody else reads, is left at once.
        """
        with self._lock:
            first = not self._closed.is_set()
            self._closed.set()
            self._window.close()
            if self._call and self._discard:
                self._call.cancel()
            while self._pulled:
                self._pulled.popleft().nack()
        if first and self._discard:
            self._leases.stop()
            self._outbox.stop()
            self._discard()

    def _next_pulled(self) -> PulledDelivery | None:
        with self._lock:
            return self._pulled.popleft() if self._pulled else None

    def _pull(self, room: int) -> Iterable[Any]:
        """Ask once; nothing when nothing came, when `close` interrupts, or when it is worth asking again."""
        try:
            with self._lock:
                if self._closed.is_set():
                    return ()
                # The transport's own method: the client's blocks, this one can be cancelled from another thread.
                self._call = self._client.transport.pull.future(
                    PullRequest(subscription=self._path, max_messages=room),
                    timeout=PULL_S,
                    metadata=[to_grpc_metadata({"subscription": self._path})],
                )
            response = self._call.result()
        except grpc.FutureCancelledError:
            return ()
        except grpc.RpcError as error:
            self._wait_out(error)
            return ()
        self._outage.end()
        self._answered = True
        received: Iterable[Any] = PullResponse.pb(response).received_messages
        return received

    def _wait_out(self, error: grpc.RpcError) -> None:
        problem = from_grpc_error(error)
        if isinstance(problem, DeadlineExceeded) or self._closed.is_set():
            return
        gone = isinstance(problem, NotFound) and self._answered
        wait_s = self._outage.next_wait_s() if gone or isinstance(problem, TRANSIENT) else None
        if wait_s is None:
            raise meaning(problem, f"pull from {self._path}") from error
        _log.info("pull from %s failed, again in %.1f s: %s", self._path, wait_s, problem.message)
        if gone:
            self._restore()
        self._closed.wait(wait_s)

    def _restore(self) -> None:
        """Make a temporary subscription anew that has vanished; a lasting one is its operator's to declare again.

        That happens when someone deletes it, and when an emulator restarts, which keeps nothing.
        """
        if self._create is None:
            _log.warning("%s has gone; run `fashion init` to have it again", self._path)
            return
        try:
            self._create()
        except FashionError as error:
            _log.warning("%s has gone, and cannot be made anew yet: %s", self._path, error)
        else:
            _log.warning("%s had gone and was made anew; what was published meanwhile is not in it", self._path)

    def _take(self, received: Iterable[Any]) -> None:
        for each in received:
            ack_id = each.ack_id
            attributes = dict(each.message.attributes)
            if self._only_client_id not in {None, attributes.get(CLIENT_ID_ATTRIBUTE)}:
                self._outbox.ack(ack_id)  # the emulator ignores the subscription's filter
                continue
            message = Message(body=each.message.data, attributes=attributes)
            with self._lock:
                if self._closed.is_set():
                    self._outbox.nack(ack_id, 0.0)
                    continue
                self._window.take(message)
                self._leases.hold(ack_id)
                self._pulled.append(self._delivery(ack_id, message, each.delivery_attempt))

    def _delivery(self, ack_id: str, message: Message, attempt: int) -> PulledDelivery:
        # Only subscriptions with a dead-letter policy count attempts; the others say 0.
        return PulledDelivery(message, attempt=max(1, attempt), settle=partial(self._settle, ack_id, message))

    def _settle(self, ack_id: str, message: Message, delay_s: float | None) -> None:
        """Ack, or nack after `delay_s`; nothing when that was done before."""
        if not self._leases.release(ack_id):
            return
        if delay_s is None:
            self._outbox.ack(ack_id)
        else:
            self._outbox.nack(ack_id, delay_s)
        self._window.give_back(message)
