"""The last leg of a published request: its files leave the watched folder, and the journal forgets it."""

from __future__ import annotations

import msgspec

from fashion_client.watch_journal import WatchJournal
from fashion_client.watch_moves import Moves
from fashion_client.watch_plan import Plan, WatchedFile
from handoff.contracts.errors import FolderUnavailable


class Moving:
    """Moves the files of one published request; `carry_on` goes on where it failed the last time."""

    def __init__(self, plan: Plan, *, moves: Moves, journal: WatchJournal, resumed: bool) -> None:
        self._plan = plan
        self._moves = moves
        self._journal = journal
        self._resumed = resumed
        self._left = list(plan.files)
        self._tried: set[str] = set()
        self._absent: list[WatchedFile] = []

    def carry_on(self) -> Plan | None:
        """Move what is left; the plan of the files that were not there at all, None where none was missing.

        A file that is missing may come again, with a disk that was away: its request stays in the journal, so that it
        is moved then, and not published a second time.

        Raises: FolderUnavailable: some cannot be moved just now; SettingsInvalid: the journal cannot be written
        """
        faults = [fault for file in list(self._left) if (fault := self._fault_in_moving(file))]
        if faults:
            raise FolderUnavailable(f"{len(faults)} published files cannot be moved: {faults[0]}.")
        try:
            self._moves.flush(self._plan.files)
        except OSError as error:
            raise FolderUnavailable(f"Files were moved, and the disk does not take it: {error.strerror}.") from error
        if not self._absent:
            self._journal.forget(self._plan.request_id)
            return None
        waiting = msgspec.structs.replace(self._plan, files=self._absent)
        self._journal.mark_published(waiting)
        return waiting

    def _fault_in_moving(self, file: WatchedFile) -> str:
        """Move one file; why that failed, or nothing."""
        # Whoever failed in the middle of a copy has to see how far that came, as after a crash.
        resumed = self._resumed or file.name in self._tried
        self._tried.add(file.name)
        try:
            found = self._moves.move(file, resumed=resumed)
        except FileExistsError:
            return self._fault_in_moving(self._with_another_place(file))
        except OSError as error:
            return f"{file.name}, {error.strerror}"
        self._left.remove(file)
        if found == "absent":
            self._absent.append(file)
        return ""

    def _with_another_place(self, file: WatchedFile) -> WatchedFile:
        other = self._moves.elsewhere(file)
        self._plan = msgspec.structs.replace(
            self._plan, files=[other if each.name == file.name else each for each in self._plan.files]
        )
        self._left = [other if each.name == file.name else each for each in self._left]
        self._journal.mark_published(self._plan)
        return other
