"""Publishing to Kafka: every future ends, whatever the client library, the cluster or a close in between does."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from types import SimpleNamespace

import pytest
from confluent_kafka import KafkaError, KafkaException

from handoff.brokers.kafka.publisher import Publisher, Report
from handoff.brokers.kafka.topics import Topics
from handoff.contracts.errors import BrokerUnavailable, FashionError, MalformedMessage, SettingsInvalid
from handoff.contracts.protocols import Message
from tests.kafka_fakes import SILENCE, wait_until

WITHIN_S = 20.0


class FakeProducer:
    """Takes so many messages, and reports them from `poll` and `flush` once it may."""

    def __init__(self) -> None:
        self.room = 1_000
        self.errors: deque[KafkaError] = deque()
        self.refusal: KafkaError | None = None
        self.taken: list[tuple[str, bytes, bytes | None, list[tuple[str, bytes]]]] = []
        self.may_report = True
        self.flushed = 0
        self.before_produce: Callable[[], None] = lambda: None
        self.buffer_errors = 0
        self._reports: deque[Report] = deque()
        self._lock = threading.Lock()

    def produce(
        self, topic: str, value: bytes, key: bytes | None, *, headers: list[tuple[str, bytes]], on_delivery: Report
    ) -> None:
        """Take a message, to be sent."""
        self.before_produce()
        if self.refusal:
            raise KafkaException(self.refusal)
        with self._lock:
            if len(self._reports) >= self.room:
                self.buffer_errors += 1
                raise BufferError("Local: Queue full")
            self.taken.append((topic, value, key, headers))
            self._reports.append(on_delivery)

    def poll(self, timeout: float) -> None:
        """Call back for what was sent."""
        threading.Event().wait(min(timeout, 0.005))
        while self.may_report and self._reports:
            error = self.errors.popleft() if self.errors else None
            with self._lock:
                report = self._reports.popleft()
            report(error, SimpleNamespace(partition=lambda: 3, offset=lambda: 14))  # type: ignore[arg-type]

    def flush(self, timeout: float) -> None:
        """Call back for all."""
        self.flushed += 1
        self.may_report = True
        self.poll(timeout)


class FakeTopics:
    """Knows one topic; being asked for another may take long."""

    def __init__(self) -> None:
        self.error: FashionError | None = None

    def has(self, name: str) -> bool:
        """Whether it is that one."""
        if self.error:
            raise self.error
        return name == "requests"


@pytest.fixture
def producer() -> FakeProducer:
    """The client library."""
    return FakeProducer()


@pytest.fixture
def topics() -> FakeTopics:
    """What the cluster has."""
    return FakeTopics()


@pytest.fixture
def publisher(producer: FakeProducer, topics: FakeTopics) -> Iterator[Publisher]:
    """A publisher at work."""
    publisher = Publisher(producer, topics=topics)  # type: ignore[arg-type]
    publisher.start()
    yield publisher
    publisher.close()


MESSAGE = Message(body=b"x", attributes={"ce-id": "1"}, key="k")


def error_of(sent: Future[str]) -> BaseException | None:
    """What a future was ended with."""
    return sent.exception(WITHIN_S)


def test_a_future_holds_where_the_message_is(publisher: Publisher, producer: FakeProducer) -> None:
    """Once it is reported, and not before; what the adapter notes goes with it."""
    producer.may_report = False
    sent = publisher.publish("requests", MESSAGE, notes={"fashion-attempts": 2})
    assert not sent.done()
    assert producer.taken == [("requests", b"x", b"k", [("ce_id", b"1"), ("fashion-attempts", b"2")])]
    producer.may_report = True
    assert sent.result(WITHIN_S) == "3:14"


def test_a_message_that_was_not_sent_ends_its_future(publisher: Publisher, producer: FakeProducer) -> None:
    """By what the library reports, or raises."""
    producer.errors.extend([KafkaError(KafkaError._MSG_TIMED_OUT), KafkaError(KafkaError.TOPIC_AUTHORIZATION_FAILED)])
    assert isinstance(error_of(publisher.publish("requests", MESSAGE)), BrokerUnavailable)
    assert isinstance(error_of(publisher.publish("requests", MESSAGE)), SettingsInvalid)
    producer.refusal = KafkaError(KafkaError.MSG_SIZE_TOO_LARGE)
    assert isinstance(error_of(publisher.publish("requests", MESSAGE)), MalformedMessage)


def test_what_cannot_be_looked_up_ends_its_future(publisher: Publisher, topics: FakeTopics) -> None:
    """Nothing is raised, and nothing is made by publishing to it."""
    unknown = error_of(publisher.publish("no-such-topic", MESSAGE))
    assert isinstance(unknown, SettingsInvalid)
    assert "fashion init" in str(unknown)
    topics.error = BrokerUnavailable("no answer")
    assert isinstance(error_of(publisher.publish("requests", MESSAGE)), BrokerUnavailable)


def test_who_publishes_waits_for_room(publisher: Publisher, producer: FakeProducer) -> None:
    """As long as reports free it."""
    producer.room, producer.may_report = 1, False
    first = publisher.publish("requests", MESSAGE)
    with ThreadPoolExecutor(1) as threads:
        second = threads.submit(publisher.publish, "requests", MESSAGE)
        wait_until(lambda: producer.buffer_errors)
        assert not second.done()
        producer.may_report = True
        assert second.result(WITHIN_S).result(WITHIN_S) == first.result(WITHIN_S) == "3:14"


def test_a_callback_may_publish(publisher: Publisher, producer: FakeProducer) -> None:
    """In the thread that brings reports, which must not wait for itself where there is no room."""
    answers: list[Future[str]] = []

    def answer(_: Future[str]) -> None:
        answers.append(publisher.publish("requests", MESSAGE))

    publisher.publish("requests", MESSAGE).add_done_callback(answer)
    wait_until(lambda: answers)
    assert answers.pop().result(WITHIN_S) == "3:14"
    producer.may_report = False
    publisher.publish("requests", MESSAGE).add_done_callback(answer)
    producer.room = 0
    producer.may_report = True
    wait_until(lambda: answers)
    assert "too much waits" in str(error_of(answers[0]))


def test_a_callback_that_fails_stops_nothing(
    publisher: Publisher, producer: FakeProducer, caplog: pytest.LogCaptureFixture
) -> None:
    """The next future ends all the same; the log tells of the mistake."""
    producer.may_report = False
    publisher.publish("requests", MESSAGE).add_done_callback(lambda _: 1 / 0)  # type: ignore[arg-type,return-value]
    second = publisher.publish("requests", MESSAGE)
    producer.may_report = True
    assert second.result(WITHIN_S) == "3:14"
    assert "ZeroDivisionError" in caplog.text


class TestClose:
    """Everything is confirmed or given up, and nothing is taken any more."""

    def test_what_was_published_is_confirmed(self, publisher: Publisher, producer: FakeProducer) -> None:
        """By a flush."""
        producer.may_report = False
        sent = [publisher.publish("requests", MESSAGE) for _ in range(5)]
        publisher.close()
        assert all(each.done() for each in sent)
        assert producer.flushed == 1

    def test_what_comes_after_it_is_refused(self, publisher: Publisher, producer: FakeProducer) -> None:
        """A late ack of a worker that is gone."""
        publisher.close()
        assert "the connection is closed" in str(error_of(publisher.publish("requests", MESSAGE)))
        assert producer.taken == []

    def test_what_comes_in_between_is_confirmed_too(self, publisher: Publisher, producer: FakeProducer) -> None:
        """Taken after the flush, with nobody left who brings its report."""
        producer.before_produce = publisher.close
        assert publisher.publish("requests", MESSAGE).result(WITHIN_S) == "3:14"

    def test_a_callback_that_publishes_in_between_flushes_nothing(
        self, publisher: Publisher, producer: FakeProducer
    ) -> None:
        """Within a callback the library is aborted by it; the close itself flushes when the callback is over."""
        closing: list[threading.Thread] = []

        def close_meanwhile() -> None:
            thread = threading.Thread(target=publisher.close)
            thread.start()
            closing.append(thread)  # which is joined as soon as it stands there
            wait_until(publisher._closed.is_set)
            producer.before_produce = lambda: None

        answers: list[Future[str]] = []

        def answer(_: Future[str]) -> None:
            producer.before_produce = close_meanwhile
            answers.append(publisher.publish("requests", MESSAGE))
            assert producer.flushed == 0

        publisher.publish("requests", MESSAGE).add_done_callback(answer)
        wait_until(lambda: closing)
        closing[0].join(WITHIN_S)
        assert answers[0].result(WITHIN_S) == "3:14"
        assert producer.flushed == 1

    def test_who_waits_for_room_waits_no_longer(self, publisher: Publisher, producer: FakeProducer) -> None:
        """Nor does it turn in a circle until its time is over."""
        producer.room = 0
        with ThreadPoolExecutor(1) as threads:
            waiting = threads.submit(publisher.publish, "requests", MESSAGE)
            wait_until(lambda: producer.buffer_errors)
            publisher.close()
            assert isinstance(error_of(waiting.result(5)), BrokerUnavailable)


class TestTopics:
    """What was found once is known."""

    def test_a_known_topic_is_known_while_another_is_asked_for(self) -> None:
        """Who publishes to it does not wait for a cluster that is silent about the other."""
        asking, answered = threading.Event(), threading.Event()

        def describe(wanted: object, *, request_timeout: float) -> dict[str, SimpleNamespace]:
            del wanted
            if asking.is_set():
                asking.clear()
                assert answered.wait(request_timeout)
                return {}
            return {"known": SimpleNamespace(result=lambda: None)}

        topics = Topics(SimpleNamespace(describe_topics=describe), trouble=lambda: SILENCE)  # type: ignore[arg-type]
        assert topics.has("known")
        asking.set()
        with ThreadPoolExecutor(2) as threads:
            unknown = threads.submit(topics.has, "unknown")
            wait_until(lambda: not asking.is_set())
            assert threads.submit(topics.has, "known").result(5)
            answered.set()
            assert not unknown.result(WITHIN_S)
