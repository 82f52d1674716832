"""What a log line looks like: for people, or as a JSON object; in both, one line whatever is in it."""

from __future__ import annotations

import json
import logging
from datetime import UTC, datetime

from handoff.contracts.sentences import printable

# A line is read by people and cut by collectors at some length; ours are a tenth of this.
MOST_CHARACTERS = 4000


class TextLines(logging.Formatter):
    """`time level message`; what is not printable is written as Python writes it, so that nobody adds a line."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)s %(message)s", datefmt="%H:%M:%S")

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - logging's own name
        """Write the line, to which a traceback may be added."""
        return printable(super().formatMessage(record)[:MOST_CHARACTERS])


class JsonLines(logging.Formatter):
    """An object with `time`, `level`, then `message`, or `event` and the fields that the record brings."""

    def format(self, record: logging.LogRecord) -> str:
        """Write the line."""
        time = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        said: dict[str, object] = {"time": time.replace("+00:00", "Z"), "level": record.levelname.lower()}
        if hasattr(record, "event"):
            said |= {"event": record.event, **getattr(record, "fields", {})}
        else:
            said["message"] = record.getMessage()[:MOST_CHARACTERS]
        if record.exc_info:
            said["exception"] = self.formatException(record.exc_info)
        return json.dumps(said, default=str)
