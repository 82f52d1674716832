"""Which files lie still: looked at when they appear and again when they had time to change."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from pathlib import Path

from fashion_client.watch_scan import Identity, identify


@dataclass(frozen=True, slots=True)
class Sighting:
    """A file as it was when it was seen first, or was seen to have changed; `since_s` by a clock that only goes on."""

    name: str
    identity: Identity
    since_s: float


class Settling:
    """Hands out files that did not change for `settle_s`, each once, in the order in which they came.

    Two looks at a file are enough, however often the folder is read: whatever changes it changes its identity too. Only
    those that looked unfinished are looked at each time. With `once` it keeps to the files that the first look finds,
    and leaves those that change.
    """

    def __init__(self, folder: Path, *, settle_s: float, unreadable_after_s: float, once: bool = False) -> None:
        self._folder = folder
        self._settle_s = settle_s
        self._unreadable_after_s = unreadable_after_s
        self._once = once
        self._wanted: set[str] | None = None
        self._seen: dict[str, Sighting] = {}
        self._out: set[str] = set()
        """Names handed out, and not given back."""
        # Each in the order in which its files are due, for all in it wait equally long.
        self._fresh: deque[Sighting] = deque()
        self._doubtful: deque[Sighting] = deque()

    @property
    def is_idle(self) -> bool:
        """Whether no file is waited for, nor handed out."""
        return not self._seen and not self._out

    def see(self, names: set[str], *, now: float) -> None:
        """Take note of the names that a look at the folder found."""
        if self._once:
            self._wanted = set(names) if self._wanted is None else self._wanted
            names = names & self._wanted
        for name in [name for name in self._seen if name not in names and name not in self._out]:
            del self._seen[name]
        for name in sorted(names - self._seen.keys() - self._out):
            self._begin(name, self._identify(name), now)
        # Few, and most of them uploads that paused: those that go on need not wait until they would be old.
        for sighting in list(self._doubtful):
            if self._seen.get(sighting.name) is sighting and self._identify(sighting.name) != sighting.identity:
                self.again(sighting.name, now=now)

    def settled(self, *, now: float, most: int, most_bytes: int) -> list[Sighting]:
        """Hand out files that did not change; each is out until `doubt`, `again` or `release` gives it back."""
        found: list[Sighting] = []
        size_bytes = 0
        for queue, wait_s in ((self._doubtful, self._unreadable_after_s), (self._fresh, self._settle_s)):
            while queue and len(found) < most and size_bytes < most_bytes and queue[0].since_s + wait_s <= now:
                sighting = queue.popleft()
                if self._seen.get(sighting.name) is not sighting:  # gone, or seen to be another since
                    continue
                if self._identify(sighting.name) == sighting.identity:
                    self._out.add(sighting.name)
                    found.append(sighting)
                    size_bytes += sighting.identity.size_bytes
                else:
                    self.again(sighting.name, now=now)
        return found

    def hold(self, name: str) -> None:
        """Hand a file to nobody until it is released: it belongs to a request already."""
        self._seen.pop(name, None)
        self._out.add(name)

    def is_old(self, sighting: Sighting, *, now: float) -> bool:
        """Whether a file lay still for so long that nobody can be at work on it."""
        return sighting.since_s + self._unreadable_after_s <= now

    def doubt(self, sighting: Sighting) -> None:
        """Take a file back that looks unfinished; it is handed out once more when it is old."""
        self._out.discard(sighting.name)
        self._doubtful.append(sighting)

    def again(self, name: str, *, now: float) -> None:
        """Take a file back that has changed: it has to lie still from now on."""
        self.release(name)
        if not self._once:
            self._begin(name, self._identify(name), now)

    def release(self, name: str) -> None:
        """Have done with a file; what lies there under its name at the next look is another."""
        self._out.discard(name)
        self._seen.pop(name, None)
        if self._wanted is not None:
            self._wanted.discard(name)

    def _begin(self, name: str, identity: Identity | None, now: float) -> None:
        if identity is not None:
            self._seen[name] = Sighting(name, identity, now)
            self._fresh.append(self._seen[name])

    def _identify(self, name: str) -> Identity | None:
        try:
            return identify(self._folder / name)
        except OSError:  # the next look finds it again, or says that the folder does not answer
            return None
