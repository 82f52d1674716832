"""Which topics a cluster has, asked of brokers that hear of new ones a moment after they were made."""

from __future__ import annotations

import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor
from typing import cast

import pytest
from confluent_kafka import KafkaError, KafkaException, TopicCollection
from confluent_kafka.admin import AdminClient, TopicDescription

from handoff.brokers.kafka import topics
from handoff.brokers.kafka.topics import Topics
from handoff.contracts.errors import BrokerUnavailable
from tests.kafka_fakes import SILENCE


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
    return Topics(cast("AdminClient", admin), trouble=lambda: SILENCE)


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


class SilentAdmin:
    """Answers nobody; each question takes as long as the test lets it."""

    def __init__(self) -> None:
        self.questions = 0
        self.asked, self.given_up = threading.Event(), threading.Event()

    def describe_topics(self, topics: TopicCollection, **_: object) -> dict[str, Future[TopicDescription]]:
        """Run out of time, when told to."""
        del topics
        self.questions += 1
        self.asked.set()
        assert self.given_up.wait(10)
        answer: Future[TopicDescription] = Future()
        answer.set_exception(KafkaException(KafkaError(KafkaError._TIMED_OUT)))
        return {"requests": answer}

    def poll(self, _: float) -> int:
        """No news."""
        return 0


class CountedLock:
    """A lock that tells how many have come to it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.reached = threading.Semaphore(0)

    def __enter__(self) -> None:
        self.reached.release()
        self._lock.acquire()

    def __exit__(self, *_: object) -> None:
        self._lock.release()


def test_who_waited_for_a_silent_cluster_does_not_ask_it_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """A console's publications look the topic up together: they take one time-out, not one each."""
    admin = SilentAdmin()
    known, lock = Topics(cast("AdminClient", admin), trouble=lambda: SILENCE), CountedLock()
    monkeypatch.setattr(known, "_lock", lock)
    with ThreadPoolExecutor(4) as threads:
        answers = [threads.submit(known.has, "requests")]
        assert admin.asked.wait(10)
        answers += [threads.submit(known.has, "requests") for _ in range(3)]
        assert all(lock.reached.acquire(timeout=10) for _ in range(4))
        admin.given_up.set()
        for answer in answers:
            with pytest.raises(BrokerUnavailable, match="Cannot look up requests; Kafka does not answer"):
                answer.result(10)
    assert admin.questions == 1
    with pytest.raises(BrokerUnavailable):
        known.has("requests")
    assert admin.questions == 2
