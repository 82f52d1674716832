"""Sentences that quote what strangers sent: one line, of bounded length, fit for a log and a terminal."""

from __future__ import annotations

# Room for an address of a store, the longest thing that is quoted whole more often than not.
MAX_SENTENCE_CHARACTERS = 1_000


def as_sentence(text: str, *, most: int = MAX_SENTENCE_CHARACTERS) -> str:
    """Put a text on one line of at most `most` characters; what could forge a log line or steer a terminal is escaped.

    White space, line ends among it, becomes single spaces where there is anything to escape.
    """
    if not text.isprintable():
        shown = " ".join(text[: 2 * most].split())
        text = "".join(character if character.isprintable() else ascii(character)[1:-1] for character in shown)
    return text if len(text) <= most else text[: most - 1] + "…"
