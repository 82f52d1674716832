"""The demo, as a newcomer runs it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from handoff.contracts.errors import ExitCode
from tests.e2e.programs import REPOSITORY, Program, wait_until


def processes_told_of(text: str) -> list[str]:
    """Other processes whose command line or environment speaks of something: workers learn of their store there."""
    listed = subprocess.run(["ps", "axeww", "-o", "pid=,command="], capture_output=True, text=True, check=True).stdout
    return [line for line in listed.splitlines() if text in line and int(line.split()[0]) != os.getpid()]


def test_the_demo_classifies_the_sample_and_leaves_nothing_running(tmp_path: Path) -> None:
    """Real predictions, nine of ten right, figures as JSON, files where it says, no process left."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("FASHION_")}
    command = [sys.executable, str(REPOSITORY / "fashion.py"), "demo", "--folder", str(tmp_path / "demo"), "--json"]
    demo = Program(command, environment=environment, folder=tmp_path, name="demo")
    try:
        wait_until(lambda: bool(processes_told_of(f"FASHION_STORE=file://{tmp_path}")), what="workers of the demo")
        assert demo.wait() == ExitCode.OK, demo.log
    finally:
        demo.clear_away()
    figures = demo.figures
    assert figures["images"] == 1000
    assert figures["accuracy"] >= 0.9
    assert sum(figures["workers"].values()) == 20
    assert set(figures["workers"]) <= {"worker-1", "worker-2"}
    assert "accuracy     9" in demo.output
    assert len(list((tmp_path / "demo/store/results").glob("*/predictions.csv"))) == 20
    log = (tmp_path / "demo/workers.log").read_text(encoding="utf-8")
    assert log.count(" drained") == 2
    assert processes_told_of(str(tmp_path)) == []
