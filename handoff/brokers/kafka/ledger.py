"""Which messages of one partition are done, and how often the others were delivered.

Kafka keeps one offset a partition and group, and beside it a text of the group's own. The offset is the first message
that is not done; the text says which of those after it are open, and how often each was delivered. So nothing is
delivered again that was done out of turn, and an attempt is counted although the process that made it has died.
"""

from __future__ import annotations

import time

# Brokers take 4,096 bytes (`offset.metadata.max.bytes`).
MAX_METADATA_CHARACTERS = 3_500
_VERSION = "1"


class Ledger:
    """The messages of one partition, from the first that is not done to the last delivered; not thread-safe."""

    def __init__(self, offset: int, metadata: str = "") -> None:
        """Go on from what was committed; any other text than `metadata` of a ledger counts as none."""
        self._next = self._position = offset
        self._open: dict[int, int] = {}
        self.is_changed = False
        self.committed_at = time.monotonic()
        """When it was, or was last sent to be."""
        try:
            self._read(offset, metadata)
        except ValueError:
            self._next, self._open = offset, {}
        self._inherited = sorted(self._open)

    @property
    def committed_offset(self) -> int:
        """The first message that is not done."""
        return min(self._open, default=self._next)

    @property
    def next_offset(self) -> int:
        """The first message that was never delivered."""
        return self._next

    def open_count(self, low: int) -> int:
        """Messages that were delivered and are not done, of those that retention has left: from `low` on."""
        return sum(offset >= low for offset in self._open)

    def is_done(self, offset: int) -> bool:
        """Whether a message that is fetched again was done before."""
        return offset < self._next and offset not in self._open

    def is_open(self, offset: int) -> bool:
        """Whether a message was delivered and is not done."""
        return offset in self._open

    def is_anew(self, offset: int) -> bool:
        """Whether a message is fetched although later ones were: its topic was made anew, and nothing of it is done."""
        position, self._position = self._position, offset + 1
        return offset < position

    def begin(self, offset: int) -> int:
        """Count a delivery; which one of this record it is, from 1. Fetched in their order, but for those again."""
        while self._inherited and self._inherited[0] <= offset:
            inherited = self._inherited.pop(0)
            if inherited < offset:  # passed over: retention has removed it
                self._open.pop(inherited, None)
        self._open[offset] = self._open.get(offset, 0) + 1
        self._next = max(self._next, offset + 1)
        self.is_changed = True
        return self._open[offset]

    def undo(self, offset: int) -> None:
        """Nobody saw that delivery: count it no more."""
        if self._open.get(offset, 0) > 0:
            self._open[offset] -= 1
            self.is_changed = True

    def end(self, offset: int) -> None:
        """A message is done."""
        if self._open.pop(offset, None) is not None:
            self.is_changed = True

    def metadata(self) -> str:
        """The text beside the committed offset; what there is no room for counts as never delivered."""
        first = self.committed_offset
        entries, length, following = list[str](), 0, self._next
        for offset, attempts in sorted(self._open.items()):
            entry = f"{offset - first}:{attempts}"
            length += len(entry) + 1
            if length > MAX_METADATA_CHARACTERS:
                following = offset
                break
            entries.append(entry)
        return f"{_VERSION} {following - first} {','.join(entries)}"

    def _read(self, offset: int, metadata: str) -> None:
        version, following, entries = metadata.split(" ")
        if version != _VERSION:
            return
        for entry in filter(None, entries.split(",")):
            distance, attempts = map(int, entry.split(":"))
            self._open[offset + distance] = attempts
        self._next = offset + int(following)
        is_whole = self.committed_offset == offset and max(self._open, default=offset - 1) < self._next
        if not is_whole or min(self._open.values(), default=0) < 0:
            raise ValueError("no text of a ledger: it would have messages done that nobody had")
