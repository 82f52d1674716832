"""Which topics a cluster has: asked, never made by asking."""

from __future__ import annotations

import threading
from collections.abc import Sequence

from confluent_kafka import KafkaError, KafkaException, TopicCollection
from confluent_kafka.admin import AdminClient, TopicDescription

from handoff.brokers.kafka.calls import ANSWER_WITHIN_S, error_of, translated


class Topics:
    """Looks topics up; what was found once is not looked up again by `has`."""

    def __init__(self, admin: AdminClient) -> None:
        self._admin = admin
        self._known: set[str] = set()
        self._lock = threading.Lock()

    def has(self, name: str) -> bool:
        """Whether there is such a topic, or was when it was last asked for.

        Raises: BrokerUnavailable; SettingsInvalid: not allowed to look
        """
        with self._lock:
            if name in self._known:
                return True
            found = name in self.describe([name])
            if found:
                self._known.add(name)
            return found

    def describe(self, names: Sequence[str]) -> dict[str, TopicDescription]:
        """Those of these topics that are there.

        Raises: BrokerUnavailable; SettingsInvalid: not allowed to look
        """
        found = {}
        with translated(f"look up {', '.join(names)}"):
            asked = self._admin.describe_topics(TopicCollection(list(names)), request_timeout=ANSWER_WITHIN_S)
            for name, answer in asked.items():
                try:
                    found[name] = answer.result()
                except KafkaException as problem:
                    if error_of(problem).code() != KafkaError.UNKNOWN_TOPIC_OR_PART:
                        raise
        return found
