"""The Kafka broker itself."""

from __future__ import annotations

import threading
from concurrent.futures import Future
from functools import partial

from confluent_kafka.admin import AdminClient
from msgspec.structs import replace

from handoff.brokers.kafka.address import Address
from handoff.brokers.kafka.backlogs import Backlogs
from handoff.brokers.kafka.clients import Clients
from handoff.brokers.kafka.declaration import Declaration, group_of, retry_topic_of
from handoff.brokers.kafka.delivery import Holdings
from handoff.brokers.kafka.group_lane import GroupLane
from handoff.brokers.kafka.handover import Handover
from handoff.brokers.kafka.lane import LaneThread
from handoff.brokers.kafka.membership import Membership
from handoff.brokers.kafka.parking import Parking
from handoff.brokers.kafka.publisher import Publisher
from handoff.brokers.kafka.retries import Retries
from handoff.brokers.kafka.share_lane import ShareLane
from handoff.brokers.kafka.subscription import KafkaSubscription
from handoff.brokers.kafka.temporary import begin_at_end, forget_group
from handoff.brokers.kafka.topics import Topics
from handoff.contracts.errors import SettingsInvalid
from handoff.contracts.protocols import UNKNOWN_BACKLOG, Backlog, Limits, Message
from handoff.contracts.topology import SubscriptionSpec, Topology

# Each waits until the last record of its poll is settled; the other works meanwhile.
SHARE_LANES = 2


class KafkaBroker:
    """Topics and groups of one cluster."""

    def __init__(
        self, address: Address, *, clients: Clients, admin: AdminClient, topics: Topics, publisher: Publisher
    ) -> None:
        self._address = address
        self._clients = clients
        self._admin = admin
        self._topics = topics
        self._publisher = publisher
        self._subscriptions: list[KafkaSubscription] = []
        self._backlogs = Backlogs(clients)
        self._lock = threading.Lock()
        self._is_closed = False

    def publish(self, topic: str, message: Message) -> Future[str]:
        """Publish a message; the future holds its partition and offset once every replica that counts has it."""
        return self._publisher.publish(topic, message)

    def subscribe(self, subscription: SubscriptionSpec, limits: Limits) -> KafkaSubscription:
        """Join a subscription's workers."""
        self._demand(subscription)
        holdings = Holdings(limits)
        parking = retries = discard = None
        if subscription.temporary:
            begin_at_end(self._clients, subscription)
            discard = partial(forget_group, self._admin, subscription.name)
        else:
            retry_topic = retry_topic_of(subscription)
            parking = Parking(self._publisher, topic=retry_topic, ack_deadline_s=subscription.ack_deadline_s)
            waiting = replace(subscription, name=retry_topic, topic=retry_topic)
            retries = Retries(
                Membership(self._clients, spec=waiting, tells_end=True),
                retry_topic=retry_topic,
                topic=subscription.topic,
                publisher=self._publisher,
                holdings=holdings,
            )
        joined = KafkaSubscription(holdings, parking=parking, retries=retries, discard=discard)
        handover = Handover(subscription, holdings=holdings, publisher=self._publisher, parking=parking)
        with self._lock:
            self._subscriptions.append(joined)
        joined.start(self._lanes(subscription, holdings, handover, joined))
        return joined

    def declare(self, topology: Topology) -> list[str]:
        """Create the topics that are missing, and set what their groups need."""
        return Declaration(self._address, admin=self._admin, topics=self._topics).declare(topology)

    def backlog(self, subscription: SubscriptionSpec) -> Backlog:
        """Say how much waits; None for a share group, of which the client library cannot ask."""
        self._demand(subscription)
        if group_of(subscription, self._address.mode) != subscription.name:
            return UNKNOWN_BACKLOG
        return self._backlogs.read(subscription, retry_topic=retry_topic_of(subscription))

    def close(self) -> None:
        """Give back what is held, commit every ack, have every publication confirmed, hang up."""
        with self._lock:
            if self._is_closed:
                return
            self._is_closed = True
        for subscription in self._subscriptions:
            subscription.leave()  # together, for in a silence of the cluster each takes its time
        for subscription in self._subscriptions:
            subscription.finish()
        self._publisher.close()
        self._backlogs.close()

    def _lanes(
        self, spec: SubscriptionSpec, holdings: Holdings, handover: Handover, joined: KafkaSubscription
    ) -> list[LaneThread]:
        group = group_of(spec, self._address.mode)
        if group != spec.name:
            return [
                ShareLane(
                    spec,
                    connect=partial(self._clients.share_consumer, group),
                    holdings=holdings,
                    handover=handover,
                    settle=joined.settle,
                ).thread
                for _ in range(SHARE_LANES)
            ]
        membership = Membership(self._clients, spec=spec)
        lane = GroupLane(spec, membership=membership, holdings=holdings, handover=handover, settle=joined.settle)
        return [lane.thread]

    def _demand(self, spec: SubscriptionSpec) -> None:
        wanted = [spec.topic] if spec.temporary else [spec.topic, retry_topic_of(spec)]
        if not all(map(self._topics.has, wanted)):
            missing = f"topic {spec.topic}" if spec.temporary else f"subscription {spec.name}"
            raise SettingsInvalid(f"There is no {missing} on this Kafka cluster; run `fashion init`.")
