"""Dead letters as text and as JSON. Strangers wrote them: nothing of theirs reaches a terminal raw or unbounded."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator
from datetime import UTC
from typing import Any

import msgspec

from handoff.dead_letters import ID_DIGITS, Letter

# A UUID with its dashes, or where there is little room its beginning; the longest code of docs/CONTRACT.md.
REQUEST_WIDTH, NARROW_REQUEST_WIDTH = 36, 12
CODE_WIDTH = 19
# Below this a line may be longer than the terminal is wide: a reason that cannot be read says nothing.
MIN_REASON_WIDTH = 40
WIDE_COLUMNS = 145

CODES_SHOWN = 8
MAX_VALUE_CHARACTERS = 1_000
MAX_BODY_LINES = 60
MAX_BODY_CHARACTERS = 4_000
BYTES_PER_LINE = 32


def printable(text: str, most: int = MAX_VALUE_CHARACTERS) -> str:
    """Make text fit for one line of a terminal: what would steer it is written as an escape, and it is cut."""
    shown = text if len(text) <= most else text[: most - 1] + "…"
    return "".join(each if each.isprintable() else each.encode("unicode_escape").decode() for each in shown)


def header(*, columns: int | None = None) -> str:
    """The names of the table's columns."""
    return _line("id", "requested", "request_id", "code", "attempts", "reason", columns=columns)


def row(letter: Letter, *, columns: int | None = None) -> str:
    """One letter as a line of the table, cut to a terminal of so many columns; None: not cut."""
    code, reason, attempts = letter.burial
    return _line(
        letter.id,
        _moment(letter) or "-",
        letter.request_id or "-",
        code,
        "-" if attempts is None else f"{attempts}",
        reason,
        columns=columns,
    )


def summary(letters: Iterable[Letter]) -> str:
    """How many letters there are, in all and by code, and how many of them came more than once."""
    found = list(letters)
    codes = Counter(letter.burial.code for letter in found).most_common()
    shown = [f"{count:,} {printable(code, 40)}" for code, count in codes[:CODES_SHOWN]]
    shown += [f"{sum(count for _, count in codes[CODES_SHOWN:]):,} of other codes"] if codes[CODES_SHOWN:] else []
    repeated = sum(len(letter.held) > 1 for letter in found)
    counts = f"{len(found):,} {'letter' if len(found) == 1 else 'letters'}: {', '.join(shown)}"
    return f"{counts}; {repeated:,} in several copies." if repeated else f"{counts}."


def page(letter: Letter) -> Iterator[str]:
    """Everything about a letter, line by line."""
    yield f"id          {letter.id}"
    yield f"request_id  {letter.request_id or '-'}"
    yield f"requested   {_moment(letter) or '-'}"
    yield f"code        {printable(letter.burial.code)}"
    yield f"reason      {printable(letter.burial.reason) or '-'}"
    yield f"attempts    {'-' if letter.burial.attempts is None else letter.burial.attempts}"
    yield f"copies      {len(letter.held)}"
    yield "attributes"
    for name, value in sorted(letter.message.attributes.items()):
        yield f"  {printable(name)}: {printable(value)}"
    yield f"body        {len(letter.message.body):,} bytes"
    for line in body_lines(letter.message.body):
        yield f"  {line}"


def body_lines(body: bytes) -> Iterator[str]:
    """A body for people: JSON laid out, other text as it is, anything else in hexadecimal; the beginning of it."""
    text = _text(body)
    if text is None:
        bound = MAX_BODY_CHARACTERS // 3  # two digits and a space
        lines = [body[at : at + BYTES_PER_LINE].hex(" ") for at in range(0, min(len(body), bound), BYTES_PER_LINE)]
        is_cut = len(body) > bound
    else:
        lines = text[:MAX_BODY_CHARACTERS].split("\n")
        is_cut = len(text) > MAX_BODY_CHARACTERS or len(lines) > MAX_BODY_LINES
    for line in lines[:MAX_BODY_LINES]:
        yield printable(line, MAX_BODY_CHARACTERS)
    if is_cut:
        yield "… (--raw FILE writes all of it)"


def figures(letter: Letter) -> dict[str, Any]:
    """A letter as a line of a listing."""
    return {
        "id": letter.id,
        "request_id": letter.request_id,
        "requested_at": _moment(letter),
        "code": letter.burial.code,
        "reason": letter.burial.reason,
        "attempts": letter.burial.attempts,
        "copies": len(letter.held),
    }


def whole(letter: Letter) -> dict[str, Any]:
    """A letter with its message; a body that is no UTF-8 text is `body_base64` instead of `body`."""
    attributes = dict(letter.message.attributes)
    try:
        body = {"body": letter.message.body.decode()}
    except UnicodeDecodeError:
        body = {"body_base64": json.loads(msgspec.json.encode(letter.message.body))}
    return {**figures(letter), "attributes": attributes, **body}


def _line(*cells: str, columns: int | None) -> str:
    name, requested, request_id, code, attempts, reason = cells
    width = REQUEST_WIDTH if columns is None or columns >= WIDE_COLUMNS else NARROW_REQUEST_WIDTH
    if columns is not None:
        request_id, code = printable(request_id, width), printable(code, CODE_WIDTH)
    line = (
        f"{name:<{ID_DIGITS}}  {requested:<20}  {request_id:<{width}}  {printable(code):<{CODE_WIDTH}}  {attempts:>8}  "
    )
    room = MAX_VALUE_CHARACTERS if columns is None else max(MIN_REASON_WIDTH, columns - len(line))
    return line + printable(reason, room)


def _moment(letter: Letter) -> str | None:
    if letter.requested_at is None:
        return None
    try:
        return letter.requested_at.astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
    except OverflowError:  # the year 1 or 9999, and a zone beyond it
        return None


def _text(body: bytes) -> str | None:
    """The body as text, laid out where it is JSON; None where it is no text."""
    try:
        text = body.decode()
    except UnicodeDecodeError:
        return None
    try:
        return msgspec.json.format(body, indent=2).decode()
    except (ValueError, RecursionError):
        return text
