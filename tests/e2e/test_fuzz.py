"""`make fuzz` as it is run, for a few seconds."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from tests.e2e.programs import REPOSITORY


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a script of the repository."""
    return subprocess.run(
        [sys.executable, *arguments], cwd=REPOSITORY, capture_output=True, text=True, timeout=100, check=False
    )


def test_a_short_run_finds_nothing_and_says_so(tmp_path: Path) -> None:
    """The last line is one JSON object; inputs got through to predictions, and nothing died."""
    ended = run("fuzz/run.py", "--seconds", "6", "--folder", str(tmp_path))
    figures = json.loads(ended.stdout.splitlines()[-1])
    assert ended.returncode == 0, ended.stderr
    assert (figures["worker_deaths"], figures["unexpected"]) == (0, 0)
    assert figures["inputs"] > figures["seeds"] > 0
    assert figures["outcomes"]["succeeded"] > 0
    assert figures["corpus"] >= figures["seeds"]


def test_an_input_is_fed_again(tmp_path: Path) -> None:
    """What was found can be looked into: a file of the corpus, or one that somebody else sent."""
    (tmp_path / "case").write_bytes(b"no case: taken as a body")
    ended = run("fuzz/target.py", str(tmp_path / "case"))
    assert ended.returncode == 0, ended.stderr
    assert json.loads(ended.stdout.splitlines()[-1])["outcomes"] == {"dead letter malformed_message": 1}
