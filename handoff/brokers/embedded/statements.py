"""The queue's few operations, each as SQL on an open transaction.

`now` is the file's time (`FileClock`), `date` the calendar's, in seconds since the epoch.
A program of version 2 that is still at work says of a message only the latter."""

from __future__ import annotations

import logging
import math
import sqlite3
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

import msgspec

from handoff.contracts.errors import SettingsInvalid
from handoff.contracts.protocols import Backlog, Message
from handoff.contracts.topology import SubscriptionSpec

_log = logging.getLogger(__name__)

# The subscription of a client that crashed goes away after this long, the least that Pub/Sub allows too.
TEMPORARY_LIFE_S = 86_400.0

# How much one sweep removes, so that it never holds the write lock for long (~10 ms).
SWEEP_MESSAGES = 1_000

_attributes = msgspec.json.Decoder(dict[str, str])


class Claim(NamedTuple):
    """One message taken for delivery."""

    message_id: int
    attempt: int
    message: Message


def subscription_id(connection: sqlite3.Connection, name: str) -> int:
    """Find a subscription.

    Raises: SettingsInvalid: there is none of that name
    """
    row = connection.execute("SELECT id FROM subscription WHERE name = ?", (name,)).fetchone()
    if row is None:
        raise SettingsInvalid(f"There is no subscription {name!r}; run `fashion init` with the same settings first.")
    return int(row[0])


def declare_topic(connection: sqlite3.Connection, name: str) -> bool:
    """Make a topic; False when it was there."""
    return connection.execute("INSERT OR IGNORE INTO topic VALUES (?)", (name,)).rowcount > 0


def declare_subscription(connection: sqlite3.Connection, spec: SubscriptionSpec, *, now: float) -> bool:
    """Make a subscription; False when it was there. A temporary one, left by a client that died, lives on from now."""
    made = connection.execute(
        "INSERT OR IGNORE INTO subscription (name, topic, retention_s, only_client_id, expires_at)"
        " VALUES (?, ?, ?, ?, ?)",
        (
            spec.name,
            spec.topic,
            spec.retention_s,
            spec.only_client_id,
            now + TEMPORARY_LIFE_S if spec.temporary else None,
        ),
    )
    if not made.rowcount and spec.temporary:
        keep_temporary(connection, spec.name, now=now)
    return made.rowcount > 0


def drop_subscription(connection: sqlite3.Connection, name: str) -> None:
    """Remove a subscription; the sweep removes what waited on it."""
    connection.execute("DELETE FROM subscription WHERE name = ?", (name,))


def publish(connection: sqlite3.Connection, topic: str, message: Message, *, now: float, date: float) -> str:
    """Store a message once, and a delivery of it for each subscription that wants it.

    Raises: SettingsInvalid: no such topic
    """
    if connection.execute("SELECT 1 FROM topic WHERE name = ?", (topic,)).fetchone() is None:
        raise SettingsInvalid(f"There is no topic {topic!r}; run `fashion init` with the same settings first.")
    wanted_by = connection.execute(
        "SELECT id FROM subscription WHERE topic = ? AND (only_client_id IS NULL OR only_client_id = ?)",
        (topic, message.attributes.get("client_id")),
    ).fetchall()
    if not wanted_by:
        return "unread"
    message_id = connection.execute(
        "INSERT INTO message (topic, key, attributes, body, published_at, unacked_count, entered_at)"
        " VALUES (?, ?, ?, ?, ?, ?, ?)",
        (topic, message.key, msgspec.json.encode(message.attributes), message.body, date, len(wanted_by), now),
    ).lastrowid
    connection.executemany(
        "INSERT INTO delivery VALUES (?, ?, ?, 0, NULL)", [(row[0], message_id, now) for row in wanted_by]
    )
    return str(message_id)


def claim(
    connection: sqlite3.Connection,
    subscription: int,
    *,
    most: int,
    lease: str,
    until: float,
    now: float,
    fitting: Callable[[Sequence[Message]], int] = len,
) -> list[Claim]:
    """Take the longest-due messages for delivery, leased until `until`: of `most`, as many of the first as fit.

    Those over their retention are deleted instead, so that after a long silence none comes again whose result is gone
    already: the sweep may be days behind.
    """
    rows = connection.execute(
        "SELECT message_id, attempt, body, attributes, key, coalesce(entered_at, published_at)"
        " FROM delivery JOIN message ON message.id = message_id"
        " WHERE subscription_id = ? AND due_at <= ? ORDER BY due_at, message_id LIMIT ?",
        (subscription, now, most),
    ).fetchall()
    oldest = now - _retention_s(connection, subscription)
    if too_old := [(subscription, row[0]) for row in rows if row[5] < oldest]:
        _log.warning("%d messages over their retention were removed, unread", len(too_old))
        connection.executemany("DELETE FROM delivery WHERE subscription_id = ? AND message_id = ?", too_old)
        rows = [row for row in rows if row[5] >= oldest]
    claims = [Claim(row[0], row[1] + 1, Message(row[2], _attributes.decode(row[3]), row[4])) for row in rows]
    claims = claims[: fitting([claim.message for claim in claims])]
    connection.executemany(
        "UPDATE delivery SET due_at = ?, attempt = attempt + 1, lease = ? WHERE subscription_id = ? AND message_id = ?",
        [(until, lease, subscription, claim.message_id) for claim in claims],
    )
    return claims


def next_due_at(connection: sqlite3.Connection, subscription: int) -> float | None:
    """When the next delivery is, or will be, due."""
    row = connection.execute("SELECT min(due_at) FROM delivery WHERE subscription_id = ?", (subscription,)).fetchone()
    return None if row[0] is None else float(row[0])


def ack(connection: sqlite3.Connection, subscription: int, message_id: int, *, lease: str) -> None:
    """End a delivery, unless its lease has passed to another worker."""
    connection.execute(
        "DELETE FROM delivery WHERE subscription_id = ? AND message_id = ? AND lease = ?",
        (subscription, message_id, lease),
    )


def nack(
    connection: sqlite3.Connection, subscription: int, message_id: int, *, lease: str, due_at: float, unseen: bool
) -> None:
    """Make a delivery due again; one that no consumer has seen does not count as an attempt."""
    connection.execute(
        "UPDATE delivery SET due_at = ?, lease = NULL, attempt = attempt - ?"
        " WHERE subscription_id = ? AND message_id = ? AND lease = ?",
        (due_at, int(unseen), subscription, message_id, lease),
    )


def extend(
    connection: sqlite3.Connection, subscription: int, leases: Iterable[tuple[int, str]], *, until: float
) -> None:
    """Prolong the leases, pairs of message id and lease, that are still ours."""
    connection.executemany(
        "UPDATE delivery SET due_at = ? WHERE subscription_id = ? AND message_id = ? AND lease = ?",
        [(until, subscription, message_id, lease) for message_id, lease in leases],
    )


def keep_temporary(connection: sqlite3.Connection, name: str, *, now: float) -> None:
    """Put off the expiry of a temporary subscription whose owner lives."""
    connection.execute("UPDATE subscription SET expires_at = ? WHERE name = ?", (now + TEMPORARY_LIFE_S, name))


def sweep(connection: sqlite3.Connection, *, now: float) -> bool:
    """Remove some of what nobody will ask for; True when another sweep may find more.

    Temporary subscriptions whose owner is gone, what waited on dropped ones, messages over their retention.
    """
    connection.execute("DELETE FROM subscription WHERE expires_at < ?", (now,))
    return any([_sweep_dropped(connection), _sweep_over_retention(connection, now=now)])


def backlog(connection: sqlite3.Connection, subscription: int, *, now: float, date: float) -> Backlog:
    """Say how much is unacked, and the age of the oldest of it: the higher one where calendar and clock differ.

    The one tells how long it has waited, the other which objects it may need, for theirs is the calendar's.
    """
    counted = connection.execute("SELECT count FROM unacked WHERE subscription_id = ?", (subscription,)).fetchone()
    row = connection.execute(
        "SELECT published_at, coalesce(entered_at, published_at) FROM message"
        " WHERE id = (SELECT min(message_id) FROM delivery WHERE subscription_id = ?)",
        (subscription,),
    ).fetchone()
    age_s = max(0.0, date - row[0], now - row[1]) if row else None
    return Backlog(count=counted[0] if counted else 0, oldest_unacked_age_s=age_s)


def over_retention(connection: sqlite3.Connection, *, now: float) -> int:
    """Count the deliveries over their retention; reads every delivery, for a person who asked."""
    count = connection.execute(
        "SELECT count(*) FROM delivery JOIN message ON message.id = message_id"
        " JOIN subscription ON subscription.id = subscription_id"
        " WHERE coalesce(entered_at, published_at) + retention_s < ?",
        (now,),
    ).fetchone()
    return int(count[0])


def _retention_s(connection: sqlite3.Connection, subscription: int) -> float:
    row = connection.execute("SELECT retention_s FROM subscription WHERE id = ?", (subscription,)).fetchone()
    return float(row[0]) if row else math.inf  # dropped just now


def _sweep_dropped(connection: sqlite3.Connection) -> bool:
    dropped = connection.execute(
        "SELECT subscription_id FROM unacked WHERE subscription_id NOT IN (SELECT id FROM subscription)"
    ).fetchone()
    if dropped is None:
        return False
    removed = connection.execute(
        "DELETE FROM delivery WHERE subscription_id = :dropped AND message_id IN"
        " (SELECT message_id FROM delivery WHERE subscription_id = :dropped ORDER BY message_id LIMIT :most)",
        {"dropped": dropped[0], "most": SWEEP_MESSAGES},
    ).rowcount
    if removed < SWEEP_MESSAGES:
        connection.execute("DELETE FROM unacked WHERE subscription_id = ?", dropped)
    return True


def _sweep_over_retention(connection: sqlite3.Connection, *, now: float) -> bool:
    removed = connection.execute(
        "DELETE FROM delivery WHERE (subscription_id, message_id) IN ("
        " SELECT subscription.id, oldest.id"
        " FROM (SELECT id, topic, coalesce(entered_at, published_at) AS came_at FROM message"
        " ORDER BY id LIMIT ?) oldest"
        " JOIN subscription USING (topic) WHERE came_at + retention_s < ?)",
        (SWEEP_MESSAGES, now),
    )
    if removed.rowcount > 0:
        _log.warning("%d messages over their retention were removed, unread", removed.rowcount)
    return removed.rowcount > 0
