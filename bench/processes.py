"""Worker processes for measuring: started as users start them, watched through their log and /proc."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from handoff.settings import Settings, environment_of

ROOT = Path(__file__).resolve().parent.parent
SERVICE = ROOT / "ml_server" / "image_classification_service.py"
READY_TIMEOUT_S = 60.0


@dataclass(frozen=True)
class RunningWorker:
    """A worker that is ready: when it was (`time.perf_counter`), and how long it took."""

    process: subprocess.Popen[bytes]
    ready_at: float
    ready_s: float

    def rss_mb(self) -> float:
        """Resident memory now."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        kilobytes = next(line.split()[1] for line in status.splitlines() if line.startswith("VmRSS"))
        return int(kilobytes) / 1024


@contextmanager
def running_worker(settings: Settings, log_path: Path) -> Iterator[RunningWorker]:
    """Run one worker until the block ends."""
    started_at = time.perf_counter()
    with log_path.open("wb") as log:
        process = subprocess.Popen([sys.executable, str(SERVICE)], env=environment_of(settings), stderr=log)
    try:
        ready_at = _wait_until_ready(process, log_path)
        yield RunningWorker(process, ready_at, ready_at - started_at)
    finally:
        process.terminate()
        process.wait(60)


def _wait_until_ready(process: subprocess.Popen[bytes], log_path: Path) -> float:
    deadline = time.monotonic() + READY_TIMEOUT_S
    while b" ready_s=" not in log_path.read_bytes():
        if process.poll() is not None or time.monotonic() > deadline:
            raise RuntimeError(f"the worker did not start:\n{log_path.read_text()}")
        time.sleep(0.002)
    return time.perf_counter()


def bare_rate(settings: Settings, image_count: int) -> float:
    """Classify alone, in a process of its own with the worker's threads and micro-batches; images a second."""
    script = Path(__file__).with_name("bare.py")
    command = [sys.executable, str(script), str(image_count)]
    ended = subprocess.run(command, env=environment_of(settings), check=True, capture_output=True, cwd=ROOT)
    return float(ended.stdout)
