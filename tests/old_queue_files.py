"""Queue files as older versions of the embedded broker left them, and what programs of those versions do to them."""

from __future__ import annotations

import sqlite3
import time
from contextlib import closing
from pathlib import Path

from handoff.contracts.topology import Topology

SCHEMA_1 = """
CREATE TABLE IF NOT EXISTS topic (
    name TEXT PRIMARY KEY
) WITHOUT ROWID;

CREATE TABLE IF NOT EXISTS subscription (
    id INTEGER PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    topic TEXT NOT NULL REFERENCES topic (name),
    retention_s REAL NOT NULL,
    only_client_id TEXT,
    expires_at REAL
);

CREATE TABLE IF NOT EXISTS message (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    topic TEXT NOT NULL,
    key TEXT,
    attributes TEXT NOT NULL,
    body BLOB NOT NULL,
    published_at REAL NOT NULL,
    unacked_count INTEGER NOT NULL
);

CREATE TABLE IF NOT EXISTS delivery (
    subscription_id INTEGER NOT NULL,
    message_id INTEGER NOT NULL,
    due_at REAL NOT NULL,
    attempt INTEGER NOT NULL,
    lease TEXT,
    PRIMARY KEY (subscription_id, message_id)
) WITHOUT ROWID;

CREATE INDEX IF NOT EXISTS delivery_due ON delivery (subscription_id, due_at, message_id);

CREATE TRIGGER IF NOT EXISTS delivery_ended AFTER DELETE ON delivery BEGIN
    UPDATE message SET unacked_count = unacked_count - 1 WHERE id = OLD.message_id;
    DELETE FROM message WHERE id = OLD.message_id AND unacked_count = 0;
END;
"""

SCHEMA_2 = """
CREATE TABLE IF NOT EXISTS topic (
    name TEXT PRIMARY KEY
) WITHOUT ROWID;

CREATE TABLE IF NOT EXISTS subscription (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    name TEXT NOT NULL UNIQUE,
    topic TEXT NOT NULL REFERENCES topic (name),
    retention_s REAL NOT NULL,
    only_client_id TEXT,
    expires_at REAL
);

CREATE TABLE IF NOT EXISTS unacked (
    subscription_id INTEGER PRIMARY KEY,
    count INTEGER NOT NULL
);

CREATE TABLE IF NOT EXISTS message (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    topic TEXT NOT NULL,
    key TEXT,
    attributes TEXT NOT NULL,
    body BLOB NOT NULL,
    published_at REAL NOT NULL,
    unacked_count INTEGER NOT NULL
);

CREATE TABLE IF NOT EXISTS delivery (
    subscription_id INTEGER NOT NULL,
    message_id INTEGER NOT NULL,
    due_at REAL NOT NULL,
    attempt INTEGER NOT NULL,
    lease TEXT,
    PRIMARY KEY (subscription_id, message_id)
) WITHOUT ROWID;

CREATE INDEX IF NOT EXISTS delivery_due ON delivery (subscription_id, due_at, message_id);

CREATE TABLE IF NOT EXISTS upkeep (
    due_at REAL NOT NULL
);

INSERT INTO upkeep VALUES (0);

CREATE TRIGGER subscription_made AFTER INSERT ON subscription BEGIN
    INSERT INTO unacked VALUES (NEW.id, 0);
END;

CREATE TRIGGER delivery_made AFTER INSERT ON delivery BEGIN
    UPDATE unacked SET count = count + 1 WHERE subscription_id = NEW.subscription_id;
END;

CREATE TRIGGER delivery_ended AFTER DELETE ON delivery BEGIN
    UPDATE unacked SET count = count - 1 WHERE subscription_id = OLD.subscription_id;
    DELETE FROM message WHERE id = OLD.message_id AND unacked_count = 1;
    UPDATE message SET unacked_count = unacked_count - 1 WHERE id = OLD.message_id;
END;
"""

SCHEMAS = {1: SCHEMA_1, 2: SCHEMA_2}


def make_old_file(path: Path, topology: Topology, *, version: int, messages: int) -> None:
    """A queue file of that version: so many requests, the first held by a worker for a while."""
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("BEGIN")
        for statement in SCHEMAS[version].split(";\n\n"):
            connection.execute(statement)
        connection.execute(f"PRAGMA user_version = {version}")
        for topic in topology.topics:
            connection.execute("INSERT INTO topic VALUES (?)", (topic,))
        for spec in topology.subscriptions:
            connection.execute(
                "INSERT INTO subscription (name, topic, retention_s) VALUES (?, ?, 1e6)", (spec.name, spec.topic)
            )
        for number in range(messages):
            publish(connection, topology.requests_topic, b"%d" % number)
        connection.execute(
            "UPDATE delivery SET due_at = ?, attempt = 1, lease = 'l'"
            " WHERE message_id = (SELECT min(message_id) FROM delivery)",
            (time.time() + 1_000,),
        )
        connection.execute("COMMIT")


def publish(connection: sqlite3.Connection, topic: str, body: bytes) -> None:
    """Publish to a topic of one subscription, as programs of versions 1 and 2 do: by the calendar."""
    now = time.time()
    (subscription,) = connection.execute("SELECT id FROM subscription WHERE topic = ?", (topic,)).fetchone()
    message_id = connection.execute(
        "INSERT INTO message (topic, key, attributes, body, published_at, unacked_count)"
        " VALUES (?, NULL, '{}', ?, ?, 1)",
        (topic, body, now),
    ).lastrowid
    connection.execute("INSERT INTO delivery VALUES (?, ?, ?, 0, NULL)", (subscription, message_id, now))
