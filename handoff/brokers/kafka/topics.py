"""Which topics a cluster has: asked, never made by asking."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Sequence

from confluent_kafka import KafkaError, KafkaException, TopicCollection
from confluent_kafka.admin import AdminClient, TopicDescription

from handoff.brokers.kafka.calls import ANSWER_WITHIN_S, error_of, meaning, translated
from handoff.contracts.errors import BrokerUnavailable

_LOOK_AGAIN_AFTER_S = 0.05


class Topics:
    """Looks topics up; what was found once is not looked up again by `has`."""

    def __init__(self, admin: AdminClient, *, trouble: Callable[[], KafkaError]) -> None:
        """`trouble` says why brokers hung up on this process or are not reached, as far as that is known."""
        self._admin = admin
        self._trouble = trouble
        self._known: set[str] = set()
        self._lock = threading.Lock()
        self._silence: BrokerUnavailable | None = None
        self._silent_at = -math.inf

    def has(self, name: str) -> bool:
        """Whether there is such a topic, or was when it was last asked for.

        Raises: BrokerUnavailable; SettingsInvalid: not allowed to look
        """
        if name in self._known:  # without the lock, under which another topic may be asked for, for long
            return True
        asked_at = time.monotonic()
        with self._lock:
            if self._silence is not None and self._silent_at >= asked_at:
                raise BrokerUnavailable(str(self._silence)) from self._silence  # waited for it, as long as anybody has
            try:
                found = name in self.describe([name])
            except BrokerUnavailable as silence:
                self._silence, self._silent_at = silence, time.monotonic()
                raise
            if found:
                self._known.add(name)
            return found

    def wait_for(self, names: Sequence[str]) -> None:
        """Wait for topics that were just made: the controller confirms them before every broker has heard of them.

        Raises: BrokerUnavailable; SettingsInvalid: not allowed to look
        """
        give_up_at = time.monotonic() + ANSWER_WITHIN_S
        while len(self.describe(names)) < len(names) and time.monotonic() < give_up_at:
            time.sleep(_LOOK_AGAIN_AFTER_S)

    def describe(self, names: Sequence[str]) -> dict[str, TopicDescription]:
        """Those of these topics that are there.

        Raises: BrokerUnavailable; SettingsInvalid: not allowed to look
        """
        what = f"look up {', '.join(names)}"
        try:
            return self._describe(names, what)
        except BrokerUnavailable as unanswered:
            self._admin.poll(0.0)  # brings the news of the connection
            raise meaning(self._trouble(), what) from unanswered

    def _describe(self, names: Sequence[str], what: str) -> dict[str, TopicDescription]:
        found = {}
        with translated(what):
            asked = self._admin.describe_topics(TopicCollection(list(names)), request_timeout=ANSWER_WITHIN_S)
            for name, answer in asked.items():
                try:
                    found[name] = answer.result()
                except KafkaException as problem:
                    if error_of(problem).code() != KafkaError.UNKNOWN_TOPIC_OR_PART:
                        raise
        return found
