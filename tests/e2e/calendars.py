"""A calendar that programs are made to believe in, and that a test puts forward or back while they run."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

# Where Debian's packages faketime and libfaketime put it, for programs with several threads.
_LIBRARIES = ("/usr/lib", "*/faketime/libfaketimeMT.so.1")

# Python sleeps until a time of the monotonic clock, which libfaketime 0.9.10 takes for one of the calendar and refuses
# after a jump (EINVAL): these programs sleep for a time instead.
_SITE = """import select, time
time.sleep = lambda seconds: select.select([], [], [], seconds) and None
"""


class Calendar:
    """The calendar's time of the programs started with its environment; their other clocks are the machine's."""

    def __init__(self, folder: Path, *, library: Path) -> None:
        self._file = folder / "calendar"
        site = folder / "site"
        site.mkdir()
        (site / "sitecustomize.py").write_text(_SITE, encoding="utf-8")
        self.environment = {
            "PYTHONPATH": os.pathsep.join(filter(None, [str(site), os.environ.get("PYTHONPATH")])),
            "LD_PRELOAD": str(library),
            "FAKETIME_TIMESTAMP_FILE": str(self._file),
            "FAKETIME_NO_CACHE": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
            # The times of files are those of the machine.
            "NO_FAKE_STAT": "1",
        }
        self.put(0)

    def put(self, offset_s: int) -> None:
        """Let it differ so much from the machine's, from now on."""
        beside = self._file.with_suffix(".new")
        beside.write_text(f"{offset_s:+d}\n", encoding="ascii")
        beside.replace(self._file)


@pytest.fixture
def calendar(tmp_path: Path) -> Calendar:
    """A calendar that is right as yet; without the library, skip here but fail where CI promises it."""
    library = next(Path(_LIBRARIES[0]).glob(_LIBRARIES[1]), None)
    if library is None:
        absent = "no libfaketime: install the package faketime"
        if os.environ.get("CI") == "true":
            pytest.fail(absent)
        pytest.skip(absent)
    return Calendar(tmp_path, library=library)
