"""Files on their way out of a watched folder: the published to one place, what is no picture to another."""

from __future__ import annotations

import os
import threading
from contextlib import suppress
from pathlib import Path
from typing import Literal

import msgspec

from fashion_client.watch_folders import Folders
from fashion_client.watch_places import digest_of, free_name, make_folders, place, withdraw
from fashion_client.watch_plan import Plan, WatchedFile
from fashion_client.watch_scan import Identity, identify
from handoff.durability import flush_folder

REASON_ENDING = ".reason.txt"

Whereabouts = Literal["moved", "changed", "absent"]
"""What became of a published file: at its destination; another in its place; neither, so that it may come again."""


class Moves:
    """Moves files out of a watched folder, one at a time, never over another; thread-safe.

    Every method may raise OSError: a folder does not answer, is full, or may not be written.
    """

    def __init__(self, folders: Folders) -> None:
        self._folders = folders
        self._lock = threading.Lock()
        self._reserved: set[str] = set()
        # A camera calls each picture the same: the search for a free number goes on where the last one ended.
        self._numbers: dict[tuple[Path, str], int] = {}

    def with_destinations(self, plan: Plan) -> Plan:
        """Choose a free place for each file of a published request."""
        with self._lock:
            return msgspec.structs.replace(plan, files=[self._with_destination(file) for file in plan.files])

    def keep_free(self, plan: Plan) -> None:
        """Keep the places that an earlier process chose."""
        with self._lock:
            self._reserved.update(file.destination for file in plan.files if file.destination)

    def elsewhere(self, file: WatchedFile) -> WatchedFile:
        """Choose another place for a file: somebody took the first."""
        with self._lock:
            self._reserved.discard(file.destination)
            return self._with_destination(file)

    def move(self, file: WatchedFile, *, resumed: bool) -> Whereabouts:
        """Move a published file, or with `resumed` find out how far an earlier process came with it.

        Raises: FileExistsError: somebody took its place, choose another; OSError
        """
        with self._lock:
            found = self._resume(file) if resumed else self._move(file, file.identity)
            if found != "absent":
                self._reserved.discard(file.destination)
            return found

    def flush(self, files: list[WatchedFile]) -> None:
        """Return when the disk has the names of files that were moved, in both folders."""
        ends = ((self._folders.input, "name"), (self._folders.published, "destination"))
        for folder in {(root / getattr(file, end)).parent for file in files for root, end in ends}:
            with suppress(FileNotFoundError):  # whose it was removed it, with what was in it
                flush_folder(folder)

    def condemn(self, name: str, identity: Identity, reason: str) -> Path | None:
        """Move a file that is no picture, with the reason beside it; None where it is another now.

        Raises: OSError
        """
        folder = self._folders.unreadable
        with self._lock:
            target = folder / self._free(folder, name)
            make_folders(target.parent, below=folder)
            said = target.with_name(target.name + REASON_ENDING)
            with suppress(OSError):  # the longest names leave no room for the ending; the log has the reason too
                said.write_text(f"{reason}\n", encoding="utf-8", errors="backslashreplace")
            if place(self._folders.input / name, target, folder=folder, identity=identity):
                return target
            with suppress(OSError):
                said.unlink()
            return None

    def _move(self, file: WatchedFile, identity: Identity) -> Whereabouts:
        source = self._folders.input / file.name
        if identify(source) is None:
            return "absent"
        target = self._folders.published / file.destination
        return "moved" if place(source, target, folder=self._folders.published, identity=identity) else "changed"

    def _resume(self, file: WatchedFile) -> Whereabouts:
        source, target = self._folders.input / file.name, self._folders.published / file.destination
        there = digest_of(target) == file.sha256
        found = identify(source)
        if found is None:
            return "moved" if there else "absent"
        if found[:2] != file.identity[:2] or (found != file.identity and digest_of(source) != file.sha256):
            return "changed"
        if not there:
            return self._move(file, found)
        if found == file.identity:  # copied to another file system, and not yet removed here
            withdraw(source, found)
        return "moved"

    def _with_destination(self, file: WatchedFile) -> WatchedFile:
        name = self._free(self._folders.published, file.name)
        self._reserved.add(name)
        return msgspec.structs.replace(file, destination=name)

    def _free(self, folder: Path, name: str) -> str:
        last = self._numbers.get((folder, name), 1)
        free, number = free_name(folder, os.fspath(name), reserved=self._reserved, first=last + 1)
        if number > 1:
            self._numbers[folder, name] = number
        return free
