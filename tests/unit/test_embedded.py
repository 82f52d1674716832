"""What the embedded broker does beyond what every broker must: its file, its group commit, its leases."""

from __future__ import annotations

import shutil
import sqlite3
import time
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import closing
from functools import partial
from pathlib import Path

import pytest

from handoff.brokers.embedded import connect, database, schema, statements
from handoff.brokers.embedded.broker import EmbeddedBroker
from handoff.brokers.embedded.database import make_schema, open_connection, transaction, translated_errors
from handoff.brokers.embedded.writer import Writer
from handoff.contracts.errors import BrokerUnavailable, SettingsInvalid
from handoff.contracts.protocols import Limits, Message
from handoff.contracts.topology import Topology
from tests.conformance.consumer import Consumer, bodies

TOPOLOGY = Topology(max_attempts=2, retention_s=100.0)
REQUESTS = TOPOLOGY.requests
TOPIC = REQUESTS.topic


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where the queue file lies."""
    return tmp_path / "queue.db"


@pytest.fixture
def broker(path: Path) -> Iterator[EmbeddedBroker]:
    """A connected broker."""
    broker = connect(f"embedded://{path}", TOPOLOGY)
    yield broker
    broker.close()


@pytest.fixture
def connection(path: Path) -> Iterator[sqlite3.Connection]:
    """The queue file with the topology declared, without a broker around it: time is an argument here."""
    make_schema(path)
    connection = open_connection(path, flush=False)
    for topic in TOPOLOGY.topics:
        statements.declare_topic(connection, topic)
    for spec in TOPOLOGY.subscriptions:
        statements.declare_subscription(connection, spec, now=0)
    yield connection
    connection.close()


def count(connection: sqlite3.Connection, table: str) -> int:
    """Rows in a table."""
    return int(connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0])  # noqa: S608 - a table's name


def publish(broker: EmbeddedBroker, *bodies: bytes) -> None:
    """Publish and wait until the broker has them."""
    for future in [broker.publish(TOPIC, Message(body=body)) for body in bodies]:
        future.result(30)


@pytest.mark.parametrize("url", ["embedded:", "embedded:///", "embedded://", "embedded://host/queue.db"])
def test_a_url_that_names_no_file_is_refused(url: str) -> None:
    """Neither the root of the file system nor another machine holds a queue file."""
    with pytest.raises(SettingsInvalid, match="names no file; use embedded:///absolute"):
        connect(url, TOPOLOGY)


@pytest.mark.parametrize("name", ["c#", "what?", "a b", "50%41"])
def test_any_file_name_will_do(tmp_path: Path, name: str) -> None:
    """What means something in a web address, or to SQLite, means nothing here."""
    connect(f"embedded://{tmp_path}/{name}/queue.db", TOPOLOGY).close()
    assert (tmp_path / name / "queue.db").is_file()


def test_a_relative_file_lies_below_the_caller(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Folders on the way are made."""
    monkeypatch.chdir(tmp_path)
    connect("embedded:var/queue.db", TOPOLOGY).close()
    assert (tmp_path / "var" / "queue.db").is_file()


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    """A file in its place is the usual reason."""
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(SettingsInvalid, match=r"folder of the queue file .* cannot be made"):
        connect(f"embedded://{tmp_path}/file/queue.db", TOPOLOGY)


def test_a_file_of_a_later_version_is_refused(path: Path) -> None:
    """It is not touched, for the later version still needs it."""
    connect(f"embedded://{path}", TOPOLOGY).close()
    with sqlite3.connect(path) as other:
        other.execute(f"PRAGMA user_version = {schema.VERSION + 1}")
    other.close()
    with pytest.raises(SettingsInvalid, match=r"made by a later version .4.; update this program"):
        connect(f"embedded://{path}", TOPOLOGY)


def test_a_file_of_something_else_is_refused(path: Path) -> None:
    """A file that is no database stays as it is."""
    path.write_bytes(b"image_id,label\n" * 100)
    with pytest.raises(SettingsInvalid, match=r"is no queue file; name another"):
        connect(f"embedded://{path}", TOPOLOGY)
    assert path.read_bytes() == b"image_id,label\n" * 100


def test_another_programs_database_is_refused(path: Path) -> None:
    """Nothing is put beside somebody else's tables."""
    with sqlite3.connect(path) as other:
        other.execute("CREATE TABLE bookmark (url TEXT)")
    other.close()
    with pytest.raises(SettingsInvalid, match="another program's database; name another"):
        connect(f"embedded://{path}", TOPOLOGY)


def test_declaring_again_makes_and_says_nothing(broker: EmbeddedBroker) -> None:
    """The first connect has made everything."""
    assert broker.declare(TOPOLOGY) == []


def test_one_bad_publish_does_not_fail_its_neighbours(path: Path, connection: sqlite3.Connection) -> None:
    """Committed in one group: each write stands or falls alone, and the writer lives on."""
    writer = Writer(open_connection(path, flush=True), clock=make_schema(path))

    def submit(topic: str, message: Message) -> Future[str]:
        return writer.submit(
            partial(statements.publish, topic=topic, message=message, now=time.time(), date=time.time())
        )

    first = submit(TOPIC, Message(body=b"first"))
    bad = [
        submit("no-such-topic", Message(body=b"x")),
        submit(TOPIC, Message(body=b"x", attributes={"half": "\ud800"})),
        submit(TOPIC, Message(body=b"x", key="\ud800")),
        submit(TOPIC, Message(body={}, attributes={})),  # type: ignore[arg-type]
    ]
    last = submit(TOPIC, Message(body=b"last"))
    writer.start()
    assert first.result(30) != last.result(30)
    assert [type(future.exception(30)).__name__ for future in bad[:2]] == ["SettingsInvalid", "UnicodeEncodeError"]
    assert all(future.exception(30) for future in bad)
    assert submit(TOPIC, Message(body=b"after")).result(30)
    writer.close()
    assert [row[0] for row in connection.execute("SELECT body FROM message ORDER BY id")] == [
        b"first",
        b"last",
        b"after",
    ]


def test_a_write_that_the_disk_refuses_fails_its_group_and_no_more(path: Path, connection: sqlite3.Connection) -> None:
    """Nobody of the group is told that it was written; the next group is."""
    writing = open_connection(path, flush=True)
    writing.execute("PRAGMA query_only = ON")
    writer = Writer(writing, clock=make_schema(path))
    message = Message(body=b"x")
    futures = [
        writer.submit(partial(statements.publish, topic=TOPIC, message=message, now=time.time(), date=time.time()))
        for _ in range(3)
    ]
    writer.start()
    for future in futures:
        assert isinstance(future.exception(30), BrokerUnavailable)
    writing.execute("PRAGMA query_only = OFF")
    assert writer.submit(
        partial(statements.publish, topic=TOPIC, message=message, now=time.time(), date=time.time())
    ).result(30)
    writer.close()
    assert count(connection, "message") == 1


def test_a_writer_that_waits_asks_again_soon(
    path: Path, connection: sqlite3.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It sleeps no longer than a transaction takes, and writes as soon as the other has ended."""
    with closing(open_connection(path, flush=False)) as other:
        other.execute("BEGIN IMMEDIATE")
        slept_s: list[float] = []

        def sleep(period_s: float) -> None:
            slept_s.append(period_s)
            if len(slept_s) == 5:
                other.execute("COMMIT")

        monkeypatch.setattr(database.time, "sleep", sleep)
        with transaction(connection):
            statements.publish(connection, TOPIC, Message(body=b"x"), now=0, date=0)
    assert len(slept_s) == 5
    assert max(slept_s) <= 0.001
    assert connection.execute("PRAGMA busy_timeout").fetchone() == (database.BUSY_TIMEOUT_S * 1e3,)


def test_a_file_that_another_never_lets_go_is_given_up(
    path: Path, connection: sqlite3.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After longer than any transaction takes, with a sentence."""
    monkeypatch.setattr(database, "BUSY_TIMEOUT_S", 0.0)
    with closing(open_connection(path, flush=False)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(BrokerUnavailable, match="locked"), translated_errors(), transaction(connection):
            raise AssertionError("nobody else may write")


def test_a_publish_cannot_be_cancelled(broker: EmbeddedBroker) -> None:
    """Trying does nothing, least of all to the thread that writes."""
    future = broker.publish(TOPIC, Message(body=b"x"))
    assert future.cancel() is False
    assert future.result(30)
    publish(broker, b"y")


def test_after_close_nothing_is_taken_on(path: Path) -> None:
    """A publish then says so, and closing again is harmless."""
    broker = connect(f"embedded://{path}", TOPOLOGY)
    broker.close()
    broker.close()
    with pytest.raises(BrokerUnavailable, match="closed; open a new one"):
        broker.publish(TOPIC, Message(body=b"x")).result(30)


def test_close_writes_what_was_published(path: Path) -> None:
    """A publisher that leaves at once loses nothing."""
    broker = connect(f"embedded://{path}", TOPOLOGY)
    futures = [broker.publish(TOPIC, Message(body=b"x")) for _ in range(100)]
    broker.close()
    assert all(future.result(0) for future in futures)
    reopened = connect(f"embedded://{path}", TOPOLOGY)
    assert reopened.backlog(REQUESTS).count == 100
    reopened.close()


def test_a_power_cut_loses_nothing_that_was_confirmed(broker: EmbeddedBroker, path: Path, tmp_path: Path) -> None:
    """Whatever length of the log the disk had: a confirmed message is in it, the file is sound and taken up again."""
    log = path.with_name("queue.db-wal")
    confirmed_at = []
    for number in range(12):
        publish(broker, b"%02d" % number)
        confirmed_at.append(log.stat().st_size)
    for number, size in enumerate(confirmed_at[:-1]):
        following = confirmed_at[number + 1]
        for cut in {size, size + 1, (size + following) // 2, following - 1}:
            copy = tmp_path / "copy" / "queue.db"
            shutil.rmtree(copy.parent, ignore_errors=True)
            copy.parent.mkdir()
            shutil.copy(path, copy)
            copy.with_name("queue.db-wal").write_bytes(log.read_bytes()[:cut])
            again = connect(f"embedded://{copy}", TOPOLOGY)
            taken = again.backlog(REQUESTS).count
            publish(again, b"more")
            again.close()
            with sqlite3.connect(copy) as found:
                assert found.execute("PRAGMA integrity_check").fetchone() == ("ok",)
                bodies = [row[0] for row in found.execute("SELECT body FROM message ORDER BY id")]
            found.close()
            assert taken == number + 1
            assert bodies == [*(b"%02d" % each for each in range(number + 1)), b"more"]


def test_an_ack_that_was_written_survives(broker: EmbeddedBroker, path: Path, tmp_path: Path) -> None:
    """After a copy of the open file: what was acked is gone, what was held comes back."""
    publish(broker, b"acked", b"held")
    deliveries = iter(broker.subscribe(REQUESTS, Limits()))
    acked, held = next(deliveries), next(deliveries)
    acked.ack()
    publish(broker, b"written after the ack")
    for name in ("queue.db", "queue.db-wal"):
        shutil.copy(path.with_name(name), tmp_path / f"copy-{name}")
    copy = open_connection(tmp_path / "copy-queue.db", flush=False)
    assert [row[0] for row in copy.execute("SELECT body FROM message ORDER BY id")] == [
        held.message.body,
        b"written after the ack",
    ]
    copy.close()


def test_a_message_is_kept_once_until_all_have_acked_it(connection: sqlite3.Connection) -> None:
    """Two subscriptions share one copy; the last ack removes it."""
    own = TOPOLOGY.responses_for("client-a")
    statements.declare_subscription(connection, own, now=0)
    message = Message(body=b"x", attributes={"client_id": "client-a"})
    statements.publish(connection, own.topic, message, now=0, date=0)
    assert (count(connection, "message"), count(connection, "delivery")) == (1, 2)
    for name in (own.name, TOPOLOGY.responses.name):
        identity = statements.subscription_id(connection, name)
        (claim,) = statements.claim(connection, identity, most=9, lease="l", until=9.0, now=1.0)
        assert claim.message == message
        statements.ack(connection, identity, claim.message_id, lease="l")
    assert (count(connection, "message"), count(connection, "delivery")) == (0, 0)


def test_a_message_that_nobody_wants_is_not_kept(connection: sqlite3.Connection) -> None:
    """Without a subscription, or for other clients' only, there is nothing to store."""
    statements.declare_topic(connection, "lonely")
    spec = TOPOLOGY.responses_for("client-a")
    connection.execute("DELETE FROM subscription")
    statements.declare_subscription(connection, spec, now=0)
    assert statements.publish(connection, "lonely", Message(body=b"x"), now=0, date=0) == "unread"
    other = Message(body=b"x", attributes={"client_id": "client-b"})
    assert statements.publish(connection, spec.topic, other, now=0, date=0) == "unread"
    assert count(connection, "message") == 0


def test_a_lease_that_ran_out_ends_nothing(connection: sqlite3.Connection) -> None:
    """Ack, nack and extension of a worker that slept too long leave the next worker's delivery alone."""
    identity = statements.subscription_id(connection, REQUESTS.name)
    statements.publish(connection, TOPIC, Message(body=b"x"), now=0, date=0)
    (slow,) = statements.claim(connection, identity, most=1, lease="slow", until=10, now=1)
    assert statements.claim(connection, identity, most=1, lease="early", until=10, now=9.9) == []
    (fast,) = statements.claim(connection, identity, most=1, lease="fast", until=20, now=10)
    assert (slow.attempt, fast.attempt) == (1, 2)
    statements.ack(connection, identity, slow.message_id, lease="slow")
    statements.nack(connection, identity, slow.message_id, lease="slow", due_at=0, unseen=False)
    statements.extend(connection, identity, [(slow.message_id, "slow")], until=1e9)
    assert statements.next_due_at(connection, identity) == 20
    statements.extend(connection, identity, [(fast.message_id, "fast")], until=30)
    assert statements.next_due_at(connection, identity) == 30


def test_the_longest_due_comes_first(connection: sqlite3.Connection) -> None:
    """First published, first taken; a message given back stands behind those that were due before."""
    identity = statements.subscription_id(connection, REQUESTS.name)
    for number in range(3):
        statements.publish(connection, TOPIC, Message(body=b"%d" % number), now=number, date=number)
    (first,) = statements.claim(connection, identity, most=1, lease="a", until=100, now=5)
    statements.nack(connection, identity, first.message_id, lease="a", due_at=5, unseen=False)
    claims = statements.claim(connection, identity, most=9, lease="b", until=100, now=6)
    assert [claim.message.body for claim in claims] == [b"1", b"2", b"0"]


def test_the_last_attempt_is_followed_by_a_dead_letter(broker: EmbeddedBroker) -> None:
    """A message given back as often as allowed goes to the dead letters, with the reason, in one transaction."""
    message = Message(body=b"poison", attributes={"client_id": "c"}, key="k")
    broker.publish(TOPIC, message).result(30)
    deliveries = iter(broker.subscribe(REQUESTS, Limits()))
    for attempt in (1, 2):
        delivery = next(deliveries)
        assert delivery.attempt == attempt
        delivery.nack()
    publish(broker, b"harmless")
    assert next(deliveries).message.body == b"harmless"
    letter = next(iter(broker.subscribe(TOPOLOGY.dead_letters, Limits()))).message
    assert (letter.body, letter.key) == (b"poison", "k")
    assert letter.attributes["client_id"] == "c"
    assert letter.attributes["dead-letter-code"] == "max_attempts"
    assert letter.attributes["dead-letter-attempts"] == "2"
    assert broker.backlog(REQUESTS).count == 1


def test_what_was_not_seen_costs_no_attempt(path: Path, broker: EmbeddedBroker) -> None:
    """A closing worker gives back what it took and never handled as if it had not taken it."""
    publish(broker, b"1", b"2", b"3")
    leaving = connect(f"embedded://{path}", TOPOLOGY)
    subscription = leaving.subscribe(REQUESTS, Limits())
    deliveries = iter(subscription)
    seen = [next(deliveries), next(deliveries)]
    subscription.close()
    assert list(deliveries) == []
    seen[0].ack()
    leaving.close()
    following = iter(broker.subscribe(REQUESTS, Limits()))
    found = {delivery.message.body: delivery.attempt for delivery in (next(following), next(following))}
    assert found == {b"2": 2, b"3": 1}


def test_large_messages_after_small_ones_are_taken_as_they_fit(path: Path, broker: EmbeddedBroker) -> None:
    """Not by the size that messages used to have: a peer gets what does not fit, and what fits later comes later."""
    small, large = (Message(body=b"", attributes={"ce-imagecount": count}) for count in ("1", "40"))
    for message in [small] * 20 + [large] * 4:
        broker.publish(TOPIC, message).result()
    mine = iter(broker.subscribe(REQUESTS, Limits(max_in_flight=64, max_images=100)))
    for _ in range(20):
        next(mine).ack()
    held = [next(mine), next(mine)]
    with closing(connect(f"embedded://{path}", TOPOLOGY)) as peer:
        theirs = iter(peer.subscribe(REQUESTS, Limits(max_in_flight=64, max_images=100)))
        next(theirs).ack()
        held[0].ack()
        assert next(mine).message.attributes == large.attributes


def test_ending_a_delivery_twice_does_nothing(broker: EmbeddedBroker) -> None:
    """The first word counts."""
    publish(broker, b"x")
    delivery = next(iter(broker.subscribe(REQUESTS, Limits())))
    delivery.ack()
    delivery.nack()
    delivery.ack()
    publish(broker, b"y")
    assert broker.backlog(REQUESTS).count == 1


def test_the_backlog_knows_the_oldest(connection: sqlite3.Connection) -> None:
    """Age counts from the publish, whatever happened since; an empty backlog has none."""
    identity = statements.subscription_id(connection, REQUESTS.name)
    assert statements.backlog(connection, identity, now=50, date=50) == statements.Backlog(
        count=0, oldest_unacked_age_s=None
    )
    statements.publish(connection, TOPIC, Message(body=b"x"), now=10, date=10)
    statements.publish(connection, TOPIC, Message(body=b"y"), now=40, date=40)
    statements.claim(connection, identity, most=1, lease="a", until=100, now=45)
    assert statements.backlog(connection, identity, now=50, date=50) == statements.Backlog(
        count=2, oldest_unacked_age_s=40
    )


def fill_up(connection: sqlite3.Connection) -> None:
    """What a statement does that finds the disk full: it ends the transaction, and fails."""
    connection.execute("ROLLBACK")
    connection.execute("SELECT * FROM disk")


def break_at_commit(connection: sqlite3.Connection) -> None:
    """What is found to be wrong only when it is committed."""
    connection.execute("PRAGMA defer_foreign_keys = ON")
    connection.execute("INSERT INTO subscription (name, topic, retention_s) VALUES ('s', 'none', 1)")


def test_a_statement_that_ends_its_transaction_is_reported_as_itself(
    path: Path, connection: sqlite3.Connection
) -> None:
    """The error is the disk's, not the vain attempt to undo, and the connection goes on."""
    with pytest.raises(BrokerUnavailable, match="no such table: disk"), translated_errors(), transaction(connection):
        fill_up(connection)
    writer = Writer(connection, clock=make_schema(path))
    futures = [writer.submit(lambda _: None), writer.submit(fill_up)]
    writer.start()
    for future in futures:
        assert "no such table: disk" in str(future.exception(30))
    assert writer.submit(partial(statements.declare_topic, name="later")).result(30) is True
    writer.close()


def test_a_commit_that_the_disk_refuses_leaves_no_transaction(connection: sqlite3.Connection) -> None:
    """Or the next one could not begin, and everybody else would wait for it."""
    connection.execute("PRAGMA foreign_keys = ON")
    with pytest.raises(sqlite3.IntegrityError), transaction(connection):
        break_at_commit(connection)
    assert not connection.in_transaction
    with transaction(connection):
        statements.declare_topic(connection, "later")


def test_a_subscriber_outlives_a_file_that_cannot_be_used(
    broker: EmbeddedBroker, path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A full disk, or a program that was stopped in the middle of a write: it takes again when it can."""
    monkeypatch.setattr(database, "BUSY_TIMEOUT_S", 0.0)
    subscription = broker.subscribe(REQUESTS, Limits())
    publish(broker, b"x")
    with closing(open_connection(path, flush=False)) as other:
        other.execute("BEGIN IMMEDIATE")
        consumer = Consumer(subscription)
        deadline = time.monotonic() + 30
        while "nothing taken, again in" not in caplog.text:
            assert time.monotonic() < deadline
            time.sleep(0.001)
        other.execute("COMMIT")
    assert bodies(consumer.take()) == [b"x"]


def test_a_subscriber_gives_up_a_file_that_stays_unusable(
    broker: EmbeddedBroker, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After two minutes, with the reason: its supervisor's turn."""
    monkeypatch.setattr(database, "BUSY_TIMEOUT_S", 0.0)
    monkeypatch.setattr("handoff.brokers.embedded.consumer.OUTAGE_S", 0.0)
    deliveries = iter(broker.subscribe(REQUESTS, Limits()))
    publish(broker, b"x")
    with closing(open_connection(path, flush=False)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(BrokerUnavailable, match="locked"):
            next(deliveries)
        other.execute("COMMIT")
