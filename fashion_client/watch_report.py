"""What `fashion watch` says: a line a request, a line for each file that is no picture, and the figures at the end."""

from __future__ import annotations

import time
from pathlib import Path

from fashion_client.watch_outages import Notices
from fashion_client.watch_sending import Outcome
from handoff.contracts.sentences import as_sentence
from handoff.progress import Progress


class WatchReport:
    """Counts, and writes lines through the progress display."""

    def __init__(self, progress: Progress) -> None:
        self.notices = Notices(self.note)
        self._progress = progress
        self._began_at = time.perf_counter()
        self.request_count = self.image_count = self.resumed_count = self.unreadable_count = 0

    def add(self, outcome: Outcome) -> None:
        """Say what became of a request."""
        request_id, files = outcome.plan.request_id, outcome.plan.files
        self.resumed_count += outcome.resumed
        match outcome.kind:
            case "published":
                self.request_count += 1
                self.image_count += len(files)
                self._progress.advance(len(files))
                names = files[0].name if len(files) == 1 else f"{files[0].name} … {files[-1].name}"
                again = "  gone on with" if outcome.resumed else ""
                self._progress.write(as_sentence(f"{request_id}  {len(files)} images{again}  {names}"))
            case "moved":
                self.note(f"The request {request_id} was published before; its files are moved now.")
            case "dropped":
                self.note(f"The request {request_id} never left; what is there of its files is taken anew.")
        if outcome.absent is not None:
            count = len(outcome.absent.files)
            self.note(f"{count} published files are not there to be moved; if they come back, they will be.")

    def add_unreadable(self, reason: str, target: Path) -> None:
        """Say that a file was put aside."""
        self.unreadable_count += 1
        self.note(f"unreadable: {reason} It is {target} now.")

    def note(self, line: str) -> None:
        """Say something else."""
        self._progress.note(as_sentence(line))

    def text(self) -> str:
        """The figures in one sentence."""
        return (
            f"Published {self.request_count} requests with {self.image_count} images in {self._seconds():.1f} s;"
            f" {self.unreadable_count} files were unreadable."
        )

    def figures(self) -> dict[str, object]:
        """The figures as plain values."""
        return {
            "requests": self.request_count,
            "images": self.image_count,
            "resumed": self.resumed_count,
            "unreadable": self.unreadable_count,
            "seconds": round(self._seconds(), 3),
        }

    def _seconds(self) -> float:
        return time.perf_counter() - self._began_at
