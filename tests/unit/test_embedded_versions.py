"""Queue files of older versions: taken over as they are, while programs of those versions may still be at work."""

from __future__ import annotations

import sqlite3
import time
from contextlib import closing
from pathlib import Path

import pytest

from handoff.brokers.embedded import connect, schema, statements, upkeep
from handoff.brokers.embedded.database import make_schema
from handoff.contracts.protocols import Limits, Message
from handoff.contracts.topology import Topology
from tests.old_queue_files import make_old_file, publish

TOPOLOGY = Topology(retention_s=100.0)
REQUESTS = TOPOLOGY.requests
TOPIC = REQUESTS.topic


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where the queue file lies."""
    return tmp_path / "queue.db"


@pytest.fixture(params=[1, 2])
def version(request: pytest.FixtureRequest) -> int:
    """Which older version a test is about."""
    return int(request.param)


def test_an_older_file_is_taken_over(path: Path, version: int) -> None:
    """Messages, leases and subscriptions stay; what waits is counted, what is new joins it."""
    make_old_file(path, TOPOLOGY, version=version, messages=3)
    with closing(connect(f"embedded://{path}", TOPOLOGY)) as broker:
        assert broker.declare(TOPOLOGY) == []
        assert broker.backlog(REQUESTS).count == 3
        broker.publish(TOPIC, Message(body=b"3")).result(30)
        deliveries = iter(broker.subscribe(REQUESTS, Limits()))
        taken = [next(deliveries) for _ in range(3)]
        assert [delivery.message.body for delivery in taken] == [b"1", b"2", b"3"]
        taken[0].ack()
        broker.publish(TOPIC, Message(body=b"4")).result(30)
        assert broker.backlog(REQUESTS).count == 4
    with closing(sqlite3.connect(path)) as found:
        assert found.execute("PRAGMA user_version").fetchone() == (schema.VERSION,)
        assert found.execute("PRAGMA integrity_check").fetchone() == ("ok",)


def test_a_migrated_file_is_made_like_a_new_one(path: Path, version: int, tmp_path: Path) -> None:
    """The same tables, indices and triggers, to the letter."""
    make_old_file(path, TOPOLOGY, version=version, messages=1)
    found = []
    for each in (path, tmp_path / "new.db"):
        make_schema(each)
        with closing(sqlite3.connect(each)) as connection:
            rows = connection.execute("SELECT type, name, sql FROM sqlite_master").fetchall()
            found.append({row[:2]: "".join(str(row[2]).replace('"', "").split()) for row in rows})
    assert found[0] == found[1]


def test_a_migration_that_is_cut_short_leaves_the_old_file(
    path: Path, version: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is one transaction: the next program finds the old file and begins anew."""
    make_old_file(path, TOPOLOGY, version=version, messages=2)
    with monkeypatch.context() as patched:
        patched.setattr(schema, "FROM_2", "SELECT no_such_function()")
        with pytest.raises(Exception, match="no such function"):
            connect(f"embedded://{path}", TOPOLOGY)
    with closing(sqlite3.connect(path)) as found:
        assert found.execute("PRAGMA user_version").fetchone() == (version,)
        assert found.execute("SELECT count(*) FROM subscription").fetchone() == (3,)
    with closing(connect(f"embedded://{path}", TOPOLOGY)) as broker:
        assert broker.backlog(REQUESTS).count == 2


def test_an_older_program_that_goes_on_is_counted_and_understood(path: Path, version: int) -> None:
    """It had the file open during the migration: what it published is due, what it holds stays with it for its time."""
    make_old_file(path, TOPOLOGY, version=version, messages=2)
    with closing(sqlite3.connect(path, isolation_level=None)) as old:
        identity = statements.subscription_id(old, REQUESTS.name)
        with closing(connect(f"embedded://{path}", TOPOLOGY)) as broker:
            publish(old, TOPIC, b"x")
            assert broker.backlog(REQUESTS).count == 3
            deliveries = iter(broker.subscribe(REQUESTS, Limits()))
            assert [next(deliveries).message.body for _ in range(2)] == [b"1", b"x"]
            statements.ack(old, identity, 1, lease="l")
            assert broker.backlog(REQUESTS).count == 2


def test_an_older_program_finds_its_way_in_what_a_newer_one_writes(path: Path) -> None:
    """New leases lie ahead for it, and what is due is due, for the file's time began as the calendar's."""
    make_old_file(path, TOPOLOGY, version=2, messages=0)
    with closing(connect(f"embedded://{path}", TOPOLOGY)) as broker:
        for body in (b"held", b"waiting"):
            broker.publish(TOPIC, Message(body=body)).result(30)
        next(iter(broker.subscribe(REQUESTS, Limits(max_in_flight=1))))
        with closing(sqlite3.connect(path, isolation_level=None)) as old:
            rows = old.execute("SELECT due_at, lease FROM delivery ORDER BY message_id").fetchall()
            now = time.time()
            assert rows[0][0] == pytest.approx(now + REQUESTS.ack_deadline_s, abs=20)
            assert rows[1][0] == pytest.approx(now, abs=20)
            assert upkeep.keep_up(old, now=now) <= upkeep.PERIOD_S
