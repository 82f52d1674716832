"""A disk that is small enough to be full."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest


class Disk:
    """A small disk, and a file that fills it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._ballast = folder / "ballast"

    def take(self, size_bytes: int) -> None:
        """Leave so much less room."""
        self._ballast.write_bytes(bytes(size_bytes))

    def fill(self) -> None:
        """Leave no room, not even for a small file: down to the last page."""
        with self._ballast.open("ab", buffering=0) as file:
            for piece in (1024 * 1024, 4096, 1):
                try:
                    while True:
                        file.write(b"x" * piece)
                except OSError:
                    continue

    def free(self) -> None:
        """Give the room back."""
        self._ballast.unlink()


@contextmanager
def mounted(folder: Path, *, size_bytes: int) -> Iterator[Disk]:
    """Mount a file system in memory; where none may be mounted, skip here but fail in CI."""
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={size_bytes}", "tmpfs", str(folder)]
    made = subprocess.run(command, capture_output=True, text=True, check=False)
    if made.returncode:
        absent = f"no small disk can be mounted: {made.stderr.strip()}"
        if os.environ.get("CI") == "true":
            pytest.fail(absent)
        pytest.skip(absent)
    try:
        yield Disk(folder)
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)
