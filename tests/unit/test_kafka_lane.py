"""The thread that fetches: whatever ends it, whoever waits for a message hears of it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator

import pytest
from confluent_kafka import KafkaException

from handoff.brokers.kafka.delivery import Holdings
from handoff.brokers.kafka.lane import LaneThread
from handoff.contracts.errors import BrokerUnavailable, SettingsInvalid
from handoff.contracts.protocols import Limits
from tests.kafka_fakes import SILENCE, wait_until


@pytest.fixture
def holdings() -> Holdings:
    """What the lane fills."""
    return Holdings(Limits())


Start = Callable[[Callable[[], None]], LaneThread]


@pytest.fixture
def start(holdings: Holdings, monkeypatch: pytest.MonkeyPatch) -> Iterator[Start]:
    """Start a lane that serves so; an outage of half a second is too long for it."""
    monkeypatch.setattr("handoff.brokers.kafka.lane.OUTAGE_S", 0.5)
    monkeypatch.setattr("handoff.brokers.outage.random.uniform", lambda *_: 0.01)
    started: list[LaneThread] = []

    def begin(serve: Callable[[], None]) -> LaneThread:
        started.append(LaneThread(serve, name="lane", subscription="read", holdings=holdings))
        started[-1].start()
        return started[-1]

    yield begin
    for lane in started:
        lane.close()
        lane.join()


def test_an_error_of_ours_ends_the_iteration(start: Start, holdings: Holdings) -> None:
    """As connecting with a property that the library does not take; waiting helps nobody."""

    def serve() -> None:
        raise SettingsInvalid("Kafka refuses.")

    start(serve).wait_joined(20)
    with pytest.raises(SettingsInvalid, match="Kafka refuses"):
        holdings.next()


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_mistake_of_ours_ends_it_too(start: Start, holdings: Holdings) -> None:
    """A thread that ends by what nobody thought of would leave its worker waiting for ever."""

    def serve() -> None:
        raise ZeroDivisionError

    start(serve).wait_joined(20)
    with pytest.raises(BrokerUnavailable, match="Cannot read read"):
        holdings.next()


def test_a_lasting_outage_ends_it(start: Start, holdings: Holdings) -> None:
    """After its time, with what the library said."""

    def serve() -> None:
        raise KafkaException(SILENCE)

    start(serve)
    with pytest.raises(BrokerUnavailable, match="Cannot read read; Kafka does not answer: no answer"):
        holdings.next()


def test_failures_with_answers_between_them_are_no_outage(start: Start, holdings: Holdings) -> None:
    """However long they go on."""
    lanes, served = list[LaneThread](), list[int]()

    def serve() -> None:
        served.append(1)
        wait_until(lambda: lanes)
        lanes[0].answered()
        raise KafkaException(SILENCE)

    lanes.append(start(serve))
    wait_until(lambda: len(served) > 70)  # each waits for 10 ms: longer than an outage may last
    assert holdings.failure is None


def test_close_ends_a_wait(start: Start, holdings: Holdings, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody waits ten seconds for the next try, and nothing is told of it."""
    monkeypatch.setattr("handoff.brokers.outage.random.uniform", lambda *_: 60.0)
    tries: list[int] = []

    def serve() -> None:
        tries.append(1)
        raise KafkaException(SILENCE)

    lane = start(serve)
    wait_until(lambda: tries)
    lane.close()
    lane.join()
    assert (tries, holdings.failure) == ([1], None)


def test_one_that_cannot_end_is_left_behind(
    start: Start, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A commit waits for minutes for a cluster that does not answer; whoever closes does not."""
    monkeypatch.setattr("handoff.brokers.kafka.lane.LEAVE_WITHIN_S", 0.1)
    answered = threading.Event()
    lane = start(lambda: answered.wait(20) and None)
    lane.close()
    lane.join()
    assert "a reader of read is left behind" in caplog.text
    answered.set()
