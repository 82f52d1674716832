"""The queue file's time: what a calendar that jumps, and a machine that starts anew, do to leases and ages."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from handoff import boot
from handoff.brokers.embedded import clock as clocks
from handoff.brokers.embedded import connect, statements
from handoff.brokers.embedded.clock import FileClock
from handoff.brokers.embedded.database import make_schema, open_connection
from handoff.contracts.protocols import Limits, Message
from handoff.contracts.topology import DAY_S, Topology

TOPOLOGY = Topology(retention_s=100.0, ack_deadline_s=30.0)
REQUESTS = TOPOLOGY.requests
TOPIC = REQUESTS.topic
YEAR_S = 365 * DAY_S


class Machine:
    """A machine whose calendar and starts a test sets; `awake_s` is its monotonic clock."""

    def __init__(self) -> None:
        self.boot = "boot-1"
        self.awake_s = 5_000.0
        self.date = 1.7e9

    def start_anew(self, *, awake_s: float = 10.0) -> None:
        """As after a power cut: another start, whose clock begins at zero."""
        self.boot, self.awake_s = f"{self.boot}-next", awake_s


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Machine:
    """The machine that the broker believes to run on."""
    machine = Machine()
    monkeypatch.setattr(clocks, "boot_id", lambda: machine.boot)
    monkeypatch.setattr(clocks.time, "monotonic", lambda: machine.awake_s)
    monkeypatch.setattr(clocks.time, "time", lambda: machine.date)
    return machine


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where the queue file lies."""
    return tmp_path / "queue.db"


@pytest.fixture
def connection(path: Path, machine: Machine) -> Iterator[sqlite3.Connection]:
    """A queue file made on that machine, with one request."""
    del machine
    clock = make_schema(path)
    with closing(open_connection(path, flush=False)) as connection:
        for topic in TOPOLOGY.topics:
            statements.declare_topic(connection, topic)
        for spec in TOPOLOGY.subscriptions:
            statements.declare_subscription(connection, spec, now=clock.now())
        statements.publish(connection, TOPIC, Message(body=b"x"), now=clock.now(), date=time.time())
        yield connection


def claimed(connection: sqlite3.Connection, *, now: float) -> list[tuple[bytes, int]]:
    """Take what is due for the ack deadline: bodies and attempts."""
    identity = statements.subscription_id(connection, REQUESTS.name)
    until = now + REQUESTS.ack_deadline_s
    claims = statements.claim(connection, identity, most=9, lease="l", until=until, now=now)
    return [(claim.message.body, claim.attempt) for claim in claims]


@pytest.mark.parametrize("jump_s", [DAY_S, -DAY_S, YEAR_S, -YEAR_S])
def test_a_calendar_that_jumps_moves_no_delivery(path: Path, monkeypatch: pytest.MonkeyPatch, jump_s: float) -> None:
    """What is held stays held, what is given back comes at once, what is published afterwards too: each one time."""
    real_time = time.time
    with (
        closing(connect(f"embedded://{path}", TOPOLOGY)) as broker,
        closing(connect(f"embedded://{path}", TOPOLOGY)) as other,
    ):
        for body in (b"held", b"given back"):
            broker.publish(TOPIC, Message(body=body)).result(30)
        deliveries = iter(broker.subscribe(REQUESTS, Limits()))
        held, given_back = next(deliveries), next(deliveries)
        monkeypatch.setattr(time, "time", lambda: real_time() + jump_s)
        given_back.nack()
        other.publish(TOPIC, Message(body=b"new")).result(30)
        theirs = iter(other.subscribe(REQUESTS, Limits()))
        taken = [next(theirs), next(theirs)]
        assert {each.message.body: each.attempt for each in taken} == {b"given back": 2, b"new": 1}
        for delivery in (held, *taken):
            delivery.ack()
        other.publish(TOPIC, Message(body=b"last")).result(30)
        delivery = next(theirs)
        assert (delivery.message.body, delivery.attempt) == (b"last", 1)


def test_programs_of_one_start_agree_on_the_time(path: Path, connection: sqlite3.Connection, machine: Machine) -> None:
    """Whatever the calendar said when each of them opened the file."""
    del connection
    first = make_schema(path)
    machine.date += YEAR_S
    machine.awake_s += 7
    assert make_schema(path).now() == first.now() == pytest.approx(1.7e9 + 7)


def test_another_start_of_the_machine_makes_everything_due(
    path: Path, connection: sqlite3.Connection, machine: Machine
) -> None:
    """No worker outlives it: what was held comes to the first that asks, and its time goes on, never back."""
    before = make_schema(path).now()
    assert claimed(connection, now=before) == [(b"x", 1)]
    assert claimed(connection, now=before) == []
    machine.start_anew()
    after = make_schema(path)
    assert after.now() >= before + REQUESTS.ack_deadline_s
    assert claimed(connection, now=after.now()) == [(b"x", 2)]
    assert make_schema(path).now() == after.now()
    assert claimed(connection, now=after.now()) == []


@pytest.mark.parametrize("jump_s", [YEAR_S, -YEAR_S])
def test_a_calendar_that_is_wrong_at_a_start_makes_nothing_old(
    path: Path, connection: sqlite3.Connection, machine: Machine, jump_s: float
) -> None:
    """As on a machine without a battery for it: what was published before is neither swept nor left waiting."""
    machine.start_anew()
    machine.date += jump_s
    clock = make_schema(path)
    statements.sweep(connection, now=clock.now())
    assert claimed(connection, now=clock.now()) == [(b"x", 1)]


@pytest.mark.parametrize("jump_s", [YEAR_S, -YEAR_S])
def test_the_age_of_a_message_is_the_files(
    path: Path, connection: sqlite3.Connection, machine: Machine, jump_s: float, caplog: pytest.LogCaptureFixture
) -> None:
    """A jump keeps nothing from its retention and brings nothing there; what goes unread is logged."""
    clock = make_schema(path)
    machine.date += jump_s
    machine.awake_s += 99
    assert statements.over_retention(connection, now=clock.now()) == 0
    assert statements.sweep(connection, now=clock.now()) is False
    machine.awake_s += 2
    assert statements.over_retention(connection, now=clock.now()) == 1
    assert statements.sweep(connection, now=clock.now()) is True
    assert "1 messages over their retention were removed, unread" in caplog.text


def test_a_message_that_is_too_old_to_be_delivered_is_logged(
    path: Path, connection: sqlite3.Connection, machine: Machine, caplog: pytest.LogCaptureFixture
) -> None:
    """Nothing goes without a word, whoever meets it first."""
    clock = make_schema(path)
    machine.awake_s += 101
    assert claimed(connection, now=clock.now()) == []
    assert "1 messages over their retention were removed, unread" in caplog.text


def test_the_backlogs_age_is_the_higher_one(path: Path, connection: sqlite3.Connection, machine: Machine) -> None:
    """By the calendar its objects may be old where it has not waited long, and the other way round."""
    clock = make_schema(path)
    identity = statements.subscription_id(connection, REQUESTS.name)

    def age_s() -> float | None:
        return statements.backlog(connection, identity, now=clock.now(), date=machine.date).oldest_unacked_age_s

    machine.awake_s += 50
    assert age_s() == pytest.approx(50)
    machine.date += DAY_S
    assert age_s() == pytest.approx(DAY_S)
    machine.date -= YEAR_S
    assert age_s() == pytest.approx(50)


def test_a_system_that_names_no_start_is_told_by_its_clock(
    path: Path, connection: sqlite3.Connection, machine: Machine
) -> None:
    """A clock behind the file's schedule has begun anew; one that is not goes on, whatever the calendar says."""
    machine.boot = ""
    connection.execute("UPDATE clock SET boot_id = ''")
    clock = make_schema(path)
    connection.execute("UPDATE upkeep SET due_at = ?", (clock.now() + clocks.UPKEEP_PERIOD_S,))
    machine.date += YEAR_S
    assert make_schema(path).now() == clock.now()
    before = clock.now()
    assert claimed(connection, now=before) == [(b"x", 1)]
    machine.awake_s = 10.0
    assert make_schema(path).now() >= before + REQUESTS.ack_deadline_s


def test_a_program_that_may_not_ask_for_the_start_believes_the_others(
    path: Path, connection: sqlite3.Connection, machine: Machine
) -> None:
    """In a sandbox without it, say: its clock is the same."""
    del connection
    clock = make_schema(path)
    machine.boot = ""
    assert make_schema(path).now() == clock.now()
    machine.boot = "boot-1"
    assert make_schema(path).now() == clock.now()


def test_the_files_time_is_the_machines_from_then_on(machine: Machine) -> None:
    """Seconds are seconds, whatever the calendar does."""
    clock = FileClock(started_at=1_000.0)
    before = clock.now()
    machine.awake_s += 3
    machine.date -= YEAR_S
    assert clock.now() - before == 3


def test_a_system_without_boot_ids_gives_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Empty, and no error; the first line where there is one."""
    monkeypatch.setattr(boot, "_BOOT_ID", tmp_path / "boot_id")
    assert boot.boot_id() == ""
    (tmp_path / "boot_id").write_text("1b4e28ba\n")
    assert boot.boot_id() == "1b4e28ba"
