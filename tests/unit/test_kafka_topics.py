"""Which topics a cluster has, asked of brokers that hear of new ones a moment after they were made."""

from __future__ import annotations

import time
from concurrent.futures import Future
from typing import cast

import pytest
from confluent_kafka import KafkaError, KafkaException, TopicCollection
from confluent_kafka.admin import AdminClient, TopicDescription

from handoff.brokers.kafka import topics
from handoff.brokers.kafka.topics import Topics


class Admin:
    """Knows a topic from the so many-th question for it on."""

    def __init__(self, known_from: dict[str, int]) -> None:
        self._known_from = known_from
        self.questions = 0

    def describe_topics(self, asked: TopicCollection, *, request_timeout: float) -> dict[str, Future[TopicDescription]]:
        """An answer for each."""
        del request_timeout
        self.questions += 1
        return {name: self._answer(name) for name in asked.topic_names}

    def _answer(self, name: str) -> Future[TopicDescription]:
        answer: Future[TopicDescription] = Future()
        if self.questions >= self._known_from.get(name, 1_000_000):
            answer.set_result(cast("TopicDescription", name))
        else:
            answer.set_exception(KafkaException(KafkaError(KafkaError.UNKNOWN_TOPIC_OR_PART)))
        return answer


def topics_of(admin: Admin) -> Topics:
    """Topics that are looked up by this client."""
    return Topics(cast("AdminClient", admin), refusal=lambda: None)


def test_new_topics_are_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """Until the broker that is asked has heard of the last one."""
    monkeypatch.setattr(topics, "_LOOK_AGAIN_AFTER_S", 0.0)
    admin = Admin({"requests": 1, "responses": 3})
    topics_of(admin).wait_for(["requests", "responses"])
    assert admin.questions == 3


def test_topics_that_never_appear_are_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """They were confirmed all the same; whoever needs them next says what is missing."""
    monkeypatch.setattr(topics, "ANSWER_WITHIN_S", 0.0)
    began = time.monotonic()
    topics_of(Admin({})).wait_for(["requests"])
    assert time.monotonic() - began < 5.0


def test_what_was_found_once_is_not_looked_up_again() -> None:
    """A publisher asks for each message."""
    admin = Admin({"requests": 1})
    found = topics_of(admin)
    assert found.has("requests")
    assert found.has("requests")
    assert admin.questions == 1
    assert not found.has("responses")
