"""Sentences that quote what strangers sent and what vendors said: one line, of bounded length, without passwords."""

from __future__ import annotations

import re

# Room for an address of a store, the longest thing that is quoted whole more often than not.
MAX_SENTENCE_CHARACTERS = 1_000

# user:password@ of a URL, what follows `Bearer` in a header, and the value of a parameter or setting named so; each
# after a group with what stays.
_CREDENTIALS = re.compile(
    r"(://)[^/\s@]*(?=@)|(\bbearer\s+)\S+"
    r"|(\b(?:access_token|password|secret|signature|token)[\"']?\s*[=:]\s*[\"']?)[^\s&'\",]+",
    re.IGNORECASE,
)


def as_sentence(text: str, *, most: int = MAX_SENTENCE_CHARACTERS) -> str:
    """Put a text on one line of at most `most` characters; what could forge a log line or steer a terminal is escaped.

    White space, line ends among it, becomes single spaces where there is anything to escape.
    """
    if not text.isprintable():
        text = printable(" ".join(text[: 2 * most].split()))
    text = without_credentials(text)
    return text if len(text) <= most else text[: most - 1] + "…"


def printable(text: str) -> str:
    """Escape control characters, line ends and whatever else is not printable, as Python writes it."""
    if text.isprintable():
        return text
    return "".join(each if each.isprintable() else each.encode("unicode_escape").decode("ascii") for each in text)


def without_credentials(text: str, *, mask: str = "***") -> str:
    """Put a mask in the place of what lets somebody in: logs and terminals are read by more people than settings."""
    return _CREDENTIALS.sub(lambda found: next(filter(None, found.groups())) + mask, text)
