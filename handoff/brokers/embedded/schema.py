"""The queue file's tables, and the way to them from an older version's."""

from __future__ import annotations

import sqlite3

# Stored in the file; a higher number means a file of a later version of this project.
VERSION = 3

# A delivery is counted by the file itself, so that no way of adding or removing one can miss it. Ids of subscriptions
# are never given twice: what waited on a dropped one is removed bit by bit, and must not pass to the next.
# `published_at` is the calendar's, every other time the file's own clock's; `entered_at` is that of the publishing.
CLOCK = """
CREATE TABLE IF NOT EXISTS clock (
    boot_id TEXT NOT NULL,
    started_at REAL NOT NULL
);
"""

SCHEMA = """
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
    unacked_count INTEGER NOT NULL,
    entered_at REAL
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

# Version 1 counted no deliveries, gave ids of subscriptions again, and knew no upkeep.
BEFORE_FROM_1 = """
ALTER TABLE subscription RENAME TO subscription_1;

DROP TRIGGER delivery_ended;
"""

AFTER_FROM_1 = """
INSERT INTO subscription (id, name, topic, retention_s, only_client_id, expires_at)
    SELECT id, name, topic, retention_s, only_client_id, expires_at FROM subscription_1;

DROP TABLE subscription_1;

UPDATE unacked SET count = (SELECT count(*) FROM delivery WHERE delivery.subscription_id = unacked.subscription_id);
"""

# Version 2 had the calendar's times everywhere. They stay, for the file's clock begins with what the calendar says.
FROM_2 = """
ALTER TABLE message ADD COLUMN entered_at REAL;
"""


def make(connection: sqlite3.Connection) -> None:
    """Make the tables in an empty file, within the caller's transaction."""
    for script in (SCHEMA, CLOCK):
        _run(connection, script)


def migrate(connection: sqlite3.Connection, *, version: int) -> None:
    """Turn the tables of an older version into these, within the caller's transaction; messages stay where they are.

    Programs that have the file open go on with it: what counts is in the file, not in them, and their calendar's time
    is the file's until the one or the other is put right.
    """
    from_1 = (BEFORE_FROM_1, SCHEMA, AFTER_FROM_1) if version == 1 else ()
    for script in (*from_1, FROM_2, CLOCK):
        _run(connection, script)


def _run(connection: sqlite3.Connection, script: str) -> None:
    for statement in script.split(";\n\n"):
        connection.execute(statement)
