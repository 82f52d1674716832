"""The scaler reads a backlog and moves the number of workers; both are stand-ins."""

from __future__ import annotations

import logging
from collections.abc import Callable

import pytest

from handoff.contracts.errors import BrokerUnavailable, SettingsInvalid
from handoff.contracts.protocols import UNKNOWN_BACKLOG, Backlog
from handoff.contracts.topology import SubscriptionSpec, Topology
from handoff.settings import ScalingSettings, Settings, WorkerSettings
from ml_server.assembly import scaling_rules
from ml_server.scaler import Scaler, running
from ml_server.scaling import ScalingPolicy, ScalingRules

RULES = ScalingRules(
    min_workers=1, max_workers=8, backlog_per_worker=10, oldest_unacked_age_s=30.0, scale_down_after_s=0.0
)


class CountedWorkers:
    """Takes every number it is told, and is drained after so many looks."""

    def __init__(self, *, looks: int) -> None:
        self.worker_count = 1
        self.counts: list[int] = []
        self.pauses: list[float | None] = []
        self._looks = looks

    def scale_to(self, worker_count: int) -> bool:
        """Take the number, unless drained."""
        if len(self.pauses) >= self._looks:
            return False
        self.worker_count = worker_count
        self.counts.append(worker_count)
        return True

    def wait_for_drain(self, timeout_s: float | None = None) -> bool:
        """Count a look."""
        self.pauses.append(timeout_s)
        return len(self.pauses) >= self._looks


class TellingBroker:
    """Tells one backlog after the other; an error among them is raised."""

    def __init__(self, *told: Backlog | Exception) -> None:
        self._told = list(told)
        self.asked: list[str] = []
        self.closed = 0

    def backlog(self, subscription: SubscriptionSpec) -> Backlog:
        """Tell the next one."""
        self.asked.append(subscription.name)
        told = self._told.pop(0)
        if isinstance(told, Exception):
            raise told
        return told

    def close(self) -> None:
        """Count it."""
        self.closed += 1


def waiting(count: int, *, age_s: float | None = None) -> Backlog:
    """A backlog."""
    return Backlog(count=count, oldest_unacked_age_s=age_s)


def scaled(*told: Backlog | Exception, connect: Callable[[], TellingBroker] | None = None) -> CountedWorkers:
    """Workers after as many looks as there are answers."""
    broker, workers = TellingBroker(*told), CountedWorkers(looks=len(told))
    scaler_with(workers, connect or (lambda: broker)).run()
    assert broker.closed == int(connect is None)
    return workers


def scaler_with(workers: CountedWorkers, connect: Callable[[], TellingBroker]) -> Scaler:
    """A scaler of these workers."""
    return Scaler(
        workers,
        policy=ScalingPolicy(RULES),
        connect=connect,  # type: ignore[arg-type] - a broker that only tells its backlog
        subscription=Topology().requests,
        period_s=0.5,
    )


@pytest.fixture(autouse=True)
def every_line(caplog: pytest.LogCaptureFixture) -> None:
    """Log as a worker does."""
    caplog.set_level(logging.INFO)


def test_a_change_is_one_line(caplog: pytest.LogCaptureFixture) -> None:
    """From how many to how many, and on what sign; no line where nothing changes."""
    workers = scaled(waiting(0), waiting(35, age_s=3.14), waiting(38), waiting(38))
    assert workers.counts == [2, 4]
    assert workers.pauses == [0.5] * 4
    assert caplog.messages == [
        "workers=1→2 backlog=35 oldest_unacked_age_s=3.1",
        "workers=2→4 backlog=38 oldest_unacked_age_s=-",
    ]


def test_a_broker_that_does_not_answer_keeps_the_number(caplog: pytest.LogCaptureFixture) -> None:
    """That is said once, whatever the error says each time, and that it is over, too."""
    workers = scaled(
        waiting(20),
        BrokerUnavailable("The broker did not answer within 1 s."),
        BrokerUnavailable("The broker did not answer within 2 s."),
        waiting(20),
        waiting(40),
    )
    assert workers.counts == [2, 4]
    assert caplog.messages[1:3] == [
        "the number of workers stays at 2: The backlog cannot be read: The broker did not answer within 1 s.",
        "the backlog is known again",
    ]
    assert len(caplog.messages) == 4


def test_a_broker_that_cannot_tell_keeps_the_number(caplog: pytest.LogCaptureFixture) -> None:
    """As the Pub/Sub emulator; one line says why nothing happens."""
    assert scaled(UNKNOWN_BACKLOG, UNKNOWN_BACKLOG, UNKNOWN_BACKLOG).counts == []
    assert caplog.messages == [
        "the number of workers stays at 1: The broker does not say how large the backlog is.",
    ]


def test_the_broker_is_connected_when_it_can_be() -> None:
    """One that is not there at first is tried again; once there, it is kept and closed in the end."""
    broker, failures = TellingBroker(waiting(20), waiting(20)), [SettingsInvalid("No."), BrokerUnavailable("Not yet.")]

    def connect() -> TellingBroker:
        if failures:
            raise failures.pop(0)
        return broker

    workers = CountedWorkers(looks=4)
    scaler_with(workers, connect).run()
    assert workers.counts == [2]
    assert broker.asked == [Topology().requests_subscription] * 2
    assert broker.closed == 1


def test_nothing_is_logged_once_workers_drain(caplog: pytest.LogCaptureFixture) -> None:
    """A drain that begins while the backlog is read leaves the number as it is."""
    workers = CountedWorkers(looks=0)
    scaler_with(workers, lambda: TellingBroker(waiting(100))).run()
    assert (workers.counts, caplog.messages) == ([], [])


def test_scaling_ends_with_the_drain() -> None:
    """It runs beside the workers, and leaving them waits for it."""
    broker, workers = TellingBroker(waiting(20)), CountedWorkers(looks=1)
    with running(scaler_with(workers, lambda: broker)):
        pass
    assert broker.closed == 1


def test_the_settings_leave_figures_to_the_machine_and_the_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    """0 workers at most is one a core, 0 requests a worker is what it holds; the minimum goes before the cores."""
    monkeypatch.setattr("os.sched_getaffinity", lambda _: {0, 1, 2})
    rules = scaling_rules(Settings(worker=WorkerSettings(max_in_flight=7)))
    assert (rules.min_workers, rules.max_workers, rules.backlog_per_worker) == (1, 3, 7)
    rules = scaling_rules(Settings(scaling=ScalingSettings(min_workers=5)))
    assert (rules.min_workers, rules.max_workers, rules.backlog_per_worker) == (5, 5, 64)
    rules = scaling_rules(Settings(scaling=ScalingSettings(max_workers=9, backlog_per_worker=12)))
    assert (rules.min_workers, rules.max_workers, rules.backlog_per_worker) == (1, 9, 12)
