"""Worker processes for measuring: started as users start them, watched through their log and /proc."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from handoff.settings import Settings, environment_of

ROOT = Path(__file__).resolve().parent.parent
SERVICE = ROOT / "ml_server" / "image_classification_service.py"
REFERENCE = ROOT / "bench" / "reference_worker.py"
READY_TIMEOUT_S = 120.0
_READY_LINE = b" ready_s="


@dataclass(frozen=True)
class RunningWorker:
    """A worker that is ready, and how long it took."""

    process: subprocess.Popen[bytes]
    ready_s: float

    def rss_mb(self) -> float:
        """Resident memory now."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        kilobytes = next(line.split()[1] for line in status.splitlines() if line.startswith("VmRSS"))
        return int(kilobytes) / 1024

    def cpu_s(self) -> float:
        """Processor seconds used up to now, of all threads, in the kernel too."""
        after_name = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        # proc(5): utime and stime are fields 14 and 15, the name in brackets is field 2.
        return sum(map(int, after_name[11:13])) / os.sysconf("SC_CLK_TCK")

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Stop the process where it stands until the block ends; it must hold nothing then."""
        self.process.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self.process.send_signal(signal.SIGCONT)


@contextmanager
def running_worker(settings: Settings, log_path: Path, *, program: Path = SERVICE) -> Iterator[RunningWorker]:
    """Run one worker on all cores until the block ends."""
    with _running([_Start(settings, log_path, program=program)]) as (worker,):
        yield worker


@contextmanager
def running_workers(settings: Settings, log_path: Path, *, count: int) -> Iterator[list[RunningWorker]]:
    """Run workers that share the cores, as a supervisor starts them."""
    options = ["--peers", str(count)]
    logs = [log_path.with_suffix(f".{number}.log") for number in range(count)]
    with _running([_Start(settings, log, options=options) for log in logs]) as workers:
        yield workers


@contextmanager
def workers_on_cores(settings: Settings, log_path: Path, *, cores: Sequence[int]) -> Iterator[list[RunningWorker]]:
    """Run a worker on each of these cores, with one inference thread."""
    logs = {core: log_path.with_suffix(f".core{core}.log") for core in cores}
    with _running([_Start(settings, log, cores={core}) for core, log in logs.items()]) as workers:
        yield workers


@dataclass(frozen=True)
class _Start:
    """A worker to be started."""

    settings: Settings
    log_path: Path
    program: Path = SERVICE
    options: Sequence[str] = ()
    cores: set[int] | None = None

    def process(self) -> subprocess.Popen[bytes]:
        """Start it."""
        command = [sys.executable, str(self.program), *self.options]
        with self.log_path.open("wb") as log, _on_cores(self.cores):
            return subprocess.Popen(command, env=environment_of(self.settings), stderr=log, cwd=ROOT)


@contextmanager
def _running(starts: Sequence[_Start]) -> Iterator[list[RunningWorker]]:
    """Run workers until the block ends; they start, and end, side by side."""
    started_at = time.perf_counter()
    processes = [start.process() for start in starts]
    try:
        yield [
            RunningWorker(process, _wait_until_ready(process, start.log_path) - started_at)
            for process, start in zip(processes, starts, strict=True)
        ]
    finally:
        for process in processes:
            process.terminate()
        for process in processes:
            process.wait(60)


@contextmanager
def _on_cores(cores: set[int] | None) -> Iterator[None]:
    """Processes started in the block run on these cores alone."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cores or before)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def _wait_until_ready(process: subprocess.Popen[bytes], log_path: Path) -> float:
    deadline = time.monotonic() + READY_TIMEOUT_S
    while _READY_LINE not in log_path.read_bytes():
        if process.poll() is not None or time.monotonic() > deadline:
            raise RuntimeError(f"the worker did not start:\n{log_path.read_text()}")
        time.sleep(0.002)
    return time.perf_counter()


@contextmanager
def bare_classifier(settings: Settings) -> Iterator[Callable[[int], float]]:
    """Keep the classifier alone in a process of its own; yields what has it classify so many images, in seconds."""
    with subprocess.Popen(
        [sys.executable, str(Path(__file__).with_name("bare.py"))],
        env=environment_of(settings),
        cwd=ROOT,
        text=True,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as process:
        asked, answers = process.stdin, process.stdout
        if asked is None or answers is None:
            raise RuntimeError("the bare classifier has no pipes")

        def seconds(image_count: int) -> float:
            print(image_count, file=asked, flush=True)
            return float(answers.readline())

        try:
            yield seconds
        finally:
            asked.close()
