"""Text as cells of a CSV line."""

from __future__ import annotations

import re
from collections.abc import Sequence

_NEEDS_QUOTES = re.compile('[",\r\n]')


def quote_cells(texts: Sequence[str]) -> Sequence[str]:
    """Quote those that need it (Source: RFC 4180, section 2); the same sequence where none does."""
    if not _NEEDS_QUOTES.search("".join(texts)):
        return texts
    return ['"' + text.replace('"', '""') + '"' if _NEEDS_QUOTES.search(text) else text for text in texts]
