"""How the queue file stays small and quick: its counts, its sweep, the space it gives back."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from handoff.brokers.embedded import connect, schema, statements, upkeep
from handoff.brokers.embedded.database import make_schema, open_connection
from handoff.brokers.embedded.statements import SWEEP_MESSAGES, TEMPORARY_LIFE_S
from handoff.contracts.errors import SettingsInvalid
from handoff.contracts.protocols import Message
from handoff.contracts.topology import SubscriptionSpec, Topology
from tests.old_queue_files import make_old_file

TOPOLOGY = Topology(retention_s=100.0)
REQUESTS = TOPOLOGY.requests
TOPIC = REQUESTS.topic
OWN = TOPOLOGY.responses_for("client-a")
TO_A = Message(body=b"x", attributes={"client_id": "client-a"})


def declared(path: Path) -> sqlite3.Connection:
    """A queue file with the topology, without a broker around it: time is an argument here."""
    make_schema(path)
    connection = open_connection(path, flush=False)
    connection.execute("PRAGMA synchronous = OFF")
    for topic in TOPOLOGY.topics:
        statements.declare_topic(connection, topic)
    for spec in TOPOLOGY.subscriptions:
        statements.declare_subscription(connection, spec, now=0)
    return connection


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where the queue file lies."""
    return tmp_path / "queue.db"


@pytest.fixture
def connection(path: Path) -> Iterator[sqlite3.Connection]:
    """The queue file."""
    with closing(declared(path)) as connection:
        yield connection


def count(connection: sqlite3.Connection, table: str) -> int:
    """Rows in a table."""
    return int(connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0])  # noqa: S608 - a table's name


def fill(connection: sqlite3.Connection, *, messages: int, body: bytes = b"", now: float = 0) -> None:
    """Publish so many requests."""
    connection.execute("BEGIN")
    for _ in range(messages):
        statements.publish(connection, TOPIC, Message(body=body), now=now, date=now)
    connection.execute("COMMIT")


def keep_up_until_done(connection: sqlite3.Connection, *, now: float) -> int:
    """Do piece after piece; how many there were."""
    for piece in range(1, 10_000):
        wait_s = upkeep.keep_up(connection, now=now)
        if wait_s >= upkeep.PERIOD_S:
            return piece
        now += wait_s
    raise AssertionError("the upkeep does not end")


def test_the_sweep_removes_what_is_over_its_retention(connection: sqlite3.Connection) -> None:
    """Message and deliveries go together; what is younger stays."""
    statements.publish(connection, TOPIC, Message(body=b"old"), now=0, date=0)
    statements.publish(connection, TOPIC, Message(body=b"young"), now=50, date=50)
    statements.sweep(connection, now=TOPOLOGY.retention_s)
    assert count(connection, "message") == 2
    statements.sweep(connection, now=TOPOLOGY.retention_s + 1)
    assert [row[0] for row in connection.execute("SELECT body FROM message")] == [b"young"]
    assert count(connection, "delivery") == 1


def test_one_sweep_is_bounded(connection: sqlite3.Connection) -> None:
    """A long backlog goes in several sweeps, so that none holds the file for long."""
    for _ in range(SWEEP_MESSAGES + 5):
        statements.publish(connection, TOPIC, Message(body=b""), now=0, date=0)
    statements.sweep(connection, now=1000)
    assert count(connection, "message") == 5
    statements.sweep(connection, now=1000)
    assert count(connection, "message") == 0


def test_the_sweep_removes_a_crashed_clients_subscription(connection: sqlite3.Connection) -> None:
    """It goes after a day without a sign of life, with all that waited on it; the lasting ones stay."""
    own = TOPOLOGY.responses_for("client-a")
    statements.declare_subscription(connection, own, now=0)
    statements.publish(connection, own.topic, Message(body=b"x", attributes={"client_id": "client-a"}), now=0, date=0)
    statements.sweep(connection, now=99)
    assert count(connection, "delivery") == 2
    statements.keep_temporary(connection, own.name, now=10)
    connection.execute("UPDATE subscription SET retention_s = 1e9")
    statements.sweep(connection, now=TEMPORARY_LIFE_S + 5)
    assert count(connection, "delivery") == 2
    statements.sweep(connection, now=TEMPORARY_LIFE_S + 11)
    assert count(connection, "delivery") == 1
    assert count(connection, "subscription") == len(TOPOLOGY.subscriptions)
    with pytest.raises(SettingsInvalid):
        statements.subscription_id(connection, own.name)


def test_a_client_that_comes_back_has_a_day_again(connection: sqlite3.Connection) -> None:
    """It would lose its responses in mid-run if what it left behind went when the first process's day is over."""
    own = TOPOLOGY.responses_for("client-a")
    assert statements.declare_subscription(connection, own, now=0)
    assert not statements.declare_subscription(connection, own, now=TEMPORARY_LIFE_S - 1)
    statements.sweep(connection, now=TEMPORARY_LIFE_S + 1)
    assert statements.subscription_id(connection, own.name)
    statements.sweep(connection, now=2 * TEMPORARY_LIFE_S)
    with pytest.raises(SettingsInvalid):
        statements.subscription_id(connection, own.name)


def test_a_subscription_over_its_time_goes_in_pieces(connection: sqlite3.Connection) -> None:
    """It takes no more messages at once; a long backlog of its own is removed sweep by sweep, nobody else's."""
    statements.declare_subscription(connection, OWN, now=0)
    for _ in range(2 * SWEEP_MESSAGES + 5):
        statements.publish(connection, OWN.topic, TO_A, now=0, date=0)
    statements.drop_subscription(connection, OWN.name)
    statements.publish(connection, OWN.topic, TO_A, now=0, date=0)
    left = []
    while statements.sweep(connection, now=1):
        left.append(count(connection, "delivery") - 2 * SWEEP_MESSAGES - 6)
    assert left == [SWEEP_MESSAGES + 5, 5, 0]
    identity = statements.subscription_id(connection, TOPOLOGY.responses.name)
    assert statements.backlog(connection, identity, now=1, date=1).count == 2 * SWEEP_MESSAGES + 6


def test_a_new_subscription_inherits_nothing(connection: sqlite3.Connection) -> None:
    """Not even under the same name, while what waited on the one before is still there."""
    statements.declare_subscription(connection, OWN, now=0)
    statements.publish(connection, OWN.topic, TO_A, now=0, date=0)
    statements.drop_subscription(connection, OWN.name)
    statements.declare_subscription(connection, OWN, now=0)
    identity = statements.subscription_id(connection, OWN.name)
    assert statements.backlog(connection, identity, now=1, date=1).count == 0
    assert statements.claim(connection, identity, most=9, lease="l", until=9, now=1) == []


def test_what_is_over_its_retention_is_not_delivered(connection: sqlite3.Connection) -> None:
    """After a long silence nobody may have swept yet, and results may be gone: such messages go instead."""
    identity = statements.subscription_id(connection, REQUESTS.name)
    fill(connection, messages=3, body=b"old", now=0)
    fill(connection, messages=1, body=b"young", now=50)
    claims = statements.claim(connection, identity, most=9, lease="l", until=200, now=TOPOLOGY.retention_s + 1)
    assert [claim.message.body for claim in claims] == [b"young"]
    assert count(connection, "message") == 1


@pytest.mark.parametrize(
    "statement",
    [
        (
            "SELECT message_id FROM delivery JOIN message ON message.id = message_id"
            " WHERE subscription_id = 1 AND due_at <= 1 ORDER BY due_at, message_id LIMIT 64"
        ),
        "SELECT min(due_at) FROM delivery WHERE subscription_id = 1",
        "SELECT min(message_id) FROM delivery WHERE subscription_id = 1",
        "SELECT message_id FROM delivery WHERE subscription_id = 1 ORDER BY message_id LIMIT 1000",
    ],
)
def test_what_is_asked_often_reads_an_index_in_its_order(connection: sqlite3.Connection, statement: str) -> None:
    """Nothing is sorted and no table is read whole, so that a backlog's length does not matter."""
    plan = [row[3] for row in connection.execute(f"EXPLAIN QUERY PLAN {statement}")]
    assert all(step.startswith("SEARCH") for step in plan), plan


def test_the_file_gives_space_back_in_pieces(path: Path, connection: sqlite3.Connection) -> None:
    """After a long backlog was worked off only the spare pages stay, and what waits still waits."""
    fill(connection, messages=9_000, body=bytes(4_000))
    identity = statements.subscription_id(connection, REQUESTS.name)
    connection.execute("DELETE FROM delivery WHERE message_id BETWEEN 10 AND 8990")
    full = path.stat().st_size
    pieces = keep_up_until_done(connection, now=1.0)
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    assert pieces > 1
    assert full > 8_000 * 4_096
    assert path.stat().st_size <= (upkeep.SPARE_PAGES + 100) * 4_096
    assert statements.backlog(connection, identity, now=1, date=1).count == 19
    assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)


def test_processes_share_one_schedule(path: Path, connection: sqlite3.Connection) -> None:
    """Whoever comes first does the piece, the others look again later; a clock that jumped back stops nobody."""
    fill(connection, messages=SWEEP_MESSAGES + 5)
    with closing(open_connection(path, flush=False)) as other:
        assert upkeep.keep_up(connection, now=1_000.0) == upkeep.PAUSE_S
        assert count(connection, "message") == 5
        assert upkeep.keep_up(other, now=1_000.0) == pytest.approx(upkeep.PAUSE_S)
        assert count(connection, "message") == 5
        assert upkeep.keep_up(other, now=1_000.2) == upkeep.PAUSE_S
        assert count(connection, "message") == 0
        assert upkeep.keep_up(connection, now=1_001.0) == upkeep.PERIOD_S
        assert upkeep.keep_up(other, now=1_002.0) == pytest.approx(upkeep.PERIOD_S - 1.0)
        assert upkeep.keep_up(other, now=10.0) == upkeep.PERIOD_S


def test_a_broker_that_only_waits_sweeps_too(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody has to publish for old messages to go."""
    swept_at: list[float] = []

    def look(connection: sqlite3.Connection, *, now: float) -> float:
        del connection
        swept_at.append(now)
        return 0.001

    monkeypatch.setattr("handoff.brokers.embedded.writer.keep_up", look)
    with closing(connect(f"embedded://{path}", TOPOLOGY)):
        deadline = time.monotonic() + 30
        while len(swept_at) < 5:
            assert time.monotonic() < deadline
            time.sleep(0.001)


def test_a_migrated_file_gives_space_back_once_it_is_nearly_empty(path: Path) -> None:
    """One of version 1 has to be written anew for that, which waits until there is little to write."""
    make_old_file(path, TOPOLOGY, version=1, messages=20)
    make_schema(path)
    with closing(open_connection(path, flush=False)) as connection:
        fill(connection, messages=5_000, body=bytes(4_000), now=time.time())
        assert keep_up_until_done(connection, now=time.time()) == 1
        assert path.stat().st_size > 5_000 * 4_096
        connection.execute("DELETE FROM delivery WHERE message_id > 20")
        keep_up_until_done(connection, now=time.time() + upkeep.PERIOD_S)
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        assert path.stat().st_size < 100 * 4_096
        assert connection.execute("PRAGMA auto_vacuum").fetchone() == (2,)
        identity = statements.subscription_id(connection, REQUESTS.name)
        assert statements.backlog(connection, identity, now=time.time(), date=time.time()).count == 20


class Counting(RuleBasedStateMachine):
    """Whatever is done to a queue file, in whatever order, its counts are those of its rows."""

    def __init__(self) -> None:
        super().__init__()
        self._connection = sqlite3.connect(":memory:", isolation_level=None)
        schema.make(self._connection)
        self._now = 0.0
        self._held: list[tuple[int, int, str]] = []
        for topic in TOPOLOGY.topics:
            statements.declare_topic(self._connection, topic)
        for spec in TOPOLOGY.subscriptions:
            statements.declare_subscription(self._connection, spec, now=0)

    @rule(topic=st.sampled_from(TOPOLOGY.topics), client=st.sampled_from(["a", "b", "c"]))
    def publish(self, topic: str, client: str) -> None:
        """To nobody, one or several subscriptions."""
        statements.publish(self._connection, topic, Message(b"", {"client_id": client}), now=self._now, date=self._now)

    @rule(client=st.sampled_from(["a", "b"]))
    def join(self, client: str) -> None:
        """A client's own subscription, perhaps again."""
        statements.declare_subscription(self._connection, TOPOLOGY.responses_for(client), now=self._now)

    @rule(client=st.sampled_from(["a", "b"]))
    def leave(self, client: str) -> None:
        """It goes with what waits on it."""
        statements.drop_subscription(self._connection, TOPOLOGY.responses_for(client).name)

    @rule(spec=st.sampled_from(TOPOLOGY.subscriptions), most=st.integers(1, 4))
    def claim(self, spec: SubscriptionSpec, most: int) -> None:
        """Take some."""
        identity, lease = statements.subscription_id(self._connection, spec.name), str(self._now)
        until = self._now + 30
        for claim in statements.claim(self._connection, identity, most=most, lease=lease, until=until, now=self._now):
            self._held.append((identity, claim.message_id, lease))

    @rule(which=st.integers(0, 99))
    def ack(self, which: int) -> None:
        """End one, perhaps a second time, perhaps too late."""
        if self._held:
            identity, message_id, lease = self._held[which % len(self._held)]
            statements.ack(self._connection, identity, message_id, lease=lease)

    @rule(which=st.integers(0, 99), unseen=st.booleans())
    def nack(self, which: int, unseen: bool) -> None:  # noqa: FBT001 - hypothesis passes it by name
        """Give one back."""
        if self._held:
            identity, message_id, lease = self._held[which % len(self._held)]
            statements.nack(self._connection, identity, message_id, lease=lease, due_at=self._now, unseen=unseen)

    @rule(passed_s=st.sampled_from([1.0, 40.0, 101.0, TEMPORARY_LIFE_S]))
    def wait(self, passed_s: float) -> None:
        """Leases run out, then messages, then subscriptions."""
        self._now += passed_s

    @rule()
    def sweep(self) -> None:
        """One piece."""
        statements.sweep(self._connection, now=self._now)

    @rule()
    def undo(self) -> None:
        """A group that the disk refused."""
        self._connection.execute("BEGIN")
        self.publish(TOPIC, "a")
        self.sweep()
        self._connection.execute("ROLLBACK")

    @invariant()
    def counts_hold(self) -> None:
        """Per subscription and per message."""
        counted = dict(self._connection.execute("SELECT subscription_id, count FROM unacked WHERE count > 0"))
        rows = "SELECT subscription_id, count(*) FROM delivery GROUP BY subscription_id"
        assert counted == dict(self._connection.execute(rows))
        shares = dict(self._connection.execute("SELECT id, unacked_count FROM message"))
        assert shares == dict(self._connection.execute("SELECT message_id, count(*) FROM delivery GROUP BY message_id"))

    def teardown(self) -> None:
        """Sweep until nothing is left that nobody will ask for."""
        while statements.sweep(self._connection, now=self._now):
            pass
        identities = {row[0] for row in self._connection.execute("SELECT id FROM subscription")}
        assert {row[0] for row in self._connection.execute("SELECT subscription_id FROM unacked")} == identities
        self._connection.close()


TestCounting = Counting.TestCase
TestCounting.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
