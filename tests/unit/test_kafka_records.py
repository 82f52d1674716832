"""Messages as Kafka records: what a stranger's program reads, and what is made of what it wrote."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from handoff.brokers.kafka.records import ATTEMPTS_NOTE, Record, headers_of, key_of, record_of
from handoff.contracts.protocols import Message
from tests.kafka_fakes import FakeRecord

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
# Neither the adapter's own names nor what only a stranger would write: `ce_` is Kafka's spelling of `ce-`.
names = texts.filter(lambda name: not name.startswith(("fashion-", "ce_")))


def there_and_back(message: Message, notes: Mapping[str, object] | None = None) -> Record:
    """Read what a broker would hold of a message."""
    return record_of(FakeRecord(message.body, key=key_of(message), headers=headers_of(message, notes or {})))


@given(attributes=st.dictionaries(names | names.map("ce-".__add__), texts), body=st.binary(), key=st.none() | texts)
def test_a_message_comes_back_as_it_was_published(attributes: dict[str, str], body: bytes, key: str | None) -> None:
    """Whatever its attributes are named, and with no more of them."""
    message = Message(body=body, attributes=attributes, key=key)
    record = there_and_back(message, {ATTEMPTS_NOTE: 3, "fashion-lease": "x"})
    assert record.message == message
    assert record.attempts == 3
    assert record.notes == {"fashion-attempts": "3", "fashion-lease": "x"}


def test_headers_are_those_of_the_cloudevents_binding() -> None:
    """Its attributes begin with `ce_`; all others keep their names, and each value is UTF-8."""
    message = Message(body=b"", attributes={"ce-type": "t", "ce-time": "ü", "traceparent": "00-1", "client_id": "c-1"})
    assert headers_of(message, {ATTEMPTS_NOTE: 2}) == [
        ("ce_type", b"t"),
        ("ce_time", "ü".encode()),
        ("traceparent", b"00-1"),
        ("client_id", b"c-1"),
        ("fashion-attempts", b"2"),
    ]


class TestForeignRecords:
    """What other producers write is delivered, whatever it is."""

    def test_a_record_of_nothing_is_an_empty_message(self) -> None:
        """No value, no key, no headers: a tombstone of a compacted topic."""
        record = record_of(FakeRecord(None, partition=2, offset=5))
        assert record.message == Message(body=b"")
        assert (record.partition, record.offset, record.attempts, record.notes) == (2, 5, 0, {})

    def test_headers_may_be_of_any_bytes_or_none(self) -> None:
        """What is no UTF-8 is marked, no value is an empty one, and the last of one name counts."""
        headers = [
            ("a", b"\xff"),
            ("b", None),
            ("c", "text"),
            ("d", b"1"),
            ("d", b"2"),
            ("ce_id", b"7"),
            ("ce-x", b"8"),
        ]
        attributes = record_of(FakeRecord(b"", headers=headers)).message.attributes
        assert attributes == {
            "a": "\N{REPLACEMENT CHARACTER}",
            "b": "",
            "c": "text",
            "d": "2",
            "ce-id": "7",
            "ce-x": "8",
        }

    @given(st.binary())
    def test_a_key_of_any_bytes_is_the_same_key_again(self, key: bytes) -> None:
        """What is published again goes to the same partition."""
        record = record_of(FakeRecord(b"", key=key))
        assert key_of(record.message) == key

    def test_a_key_may_be_empty(self) -> None:
        """Which is not the same as none."""
        assert record_of(FakeRecord(b"", key=b"")).message.key == ""
        assert key_of(Message(body=b"", key="")) == b""
        assert key_of(Message(body=b"")) is None

    @pytest.mark.parametrize(
        "text", [b"", b"-1", b"1.5", b"many", "٣".encode(), b"9" * 10, b"9" * 5_000, b"\xff", None]
    )
    def test_attempts_that_are_no_number_are_none(self, text: bytes | None) -> None:
        """A stranger's header stops nobody."""
        record = record_of(FakeRecord(b"", headers=[(ATTEMPTS_NOTE, text)]))
        assert record.attempts == 0
        assert record.message.attributes == {}

    @pytest.mark.parametrize(
        "failure",
        [SystemError("returned a result with an exception set"), UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid")],
    )
    def test_headers_that_the_library_cannot_read_are_none(self, failure: Exception) -> None:
        """It fails so of a name that is no UTF-8; the message is delivered, and refused by whoever needs a header."""
        record = record_of(FakeRecord(b"body", headers=failure))
        assert record.message == Message(body=b"body")
