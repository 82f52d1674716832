"""What people read of what strangers sent: one line, bounded, harmless."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from handoff.brokers.dead_letters import MAX_REASON_CHARACTERS, dead_letter
from handoff.contracts.errors import InvalidBatch, SettingsInvalid
from handoff.contracts.protocols import Message
from handoff.contracts.sentences import MAX_SENTENCE_CHARACTERS, as_sentence
from ml_server.outcomes import outcome_of

HOSTILE = "It holds 'a\n12:00:00 ERROR forged \x1b[2J\u202e\u2028\x00"


@given(st.text(), st.integers(2, 50))
def test_every_text_becomes_a_bounded_printable_line(text: str, most: int) -> None:
    """Whatever it holds; and again it is the same."""
    said = as_sentence(text, most=most)
    assert len(said) <= most
    assert said.isprintable()
    assert as_sentence(said, most=most) == said


def test_a_plain_sentence_is_left_alone() -> None:
    """Two spaces too: they are part of what is quoted."""
    assert as_sentence("Column 'a  b' is ünïcode.") == "Column 'a  b' is ünïcode."


def test_an_errors_text_is_a_sentence() -> None:
    """The one place where all of this project's errors pass."""
    said = str(InvalidBatch(HOSTILE + "x" * 10_000))
    assert said.startswith(r"It holds 'a 12:00:00 ERROR forged \x1b[2J\u202e \x00xxx")
    assert len(said) == MAX_SENTENCE_CHARACTERS


def test_an_unforeseen_errors_reason_is_a_sentence() -> None:
    """A library may quote as much as it likes."""
    outcome = outcome_of(ValueError(HOSTILE * 1_000), attempt=1, max_attempts=5)
    assert outcome.reason.isprintable()
    assert len(outcome.reason) == MAX_SENTENCE_CHARACTERS


def test_a_dead_letters_reason_is_a_sentence() -> None:
    """An attribute of a message, which other programs log."""
    letter = dead_letter(Message(b""), code="malformed_message", reason=HOSTILE * 100, attempts=1)
    assert letter.attributes["dead-letter-reason"].isprintable()
    assert len(letter.attributes["dead-letter-reason"]) == MAX_REASON_CHARACTERS


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("'kafka://user:secret@host:9092/'", "'kafka://***@host:9092/'"),
        ("proxy http://secret@proxy.example failed", "proxy http://***@proxy.example failed"),
        ("refused: Authorization: Bearer ya29.secret", "refused: Authorization: Bearer ***"),
        ("GET /o?X-Goog-Signature=0123abcd&b=2 failed", "GET /o?X-Goog-Signature=***&b=2 failed"),
        ("answered {'access_token': 'ya29'}", "answered {'access_token': '***'}"),
    ],
)
def test_credentials_are_not_shown(text: str, shown: str) -> None:
    """Neither of a URL in the settings nor of one in a vendor's error."""
    assert str(SettingsInvalid(text)) == shown
