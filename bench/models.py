"""`make bench-models`: models x runtimes x precisions on one core, as a table, build/bench-models.json and a chart.

python bench/models.py [FOLDER ...]

Each row is a process of its own on the same core; the rows are measured in turn, round by round, so that whatever else
the machine does meets all of them. Every rate is the median of its rounds. A folder holds model.keras, model.onnx and
model.int8.onnx; beside those named, the usual first network for this data is trained once and measured.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import numpy as np
from bench_images import ROOT, read_test_images
from model_chart import draw_chart
from model_size import size_of

from handoff.settings import WorkerSettings

BATCH_SIZES = (1, 32, 1_024)
CHART_BATCH_SIZE = 1_024
BASELINE = ROOT / "build" / "models" / "conv32-dense100"
# Runtime, precision, file.
KINDS = (
    ("openvino", "int8", "model.int8.onnx"),
    ("openvino", "bf16", "model.onnx"),
    ("openvino", "float32", "model.onnx"),
    ("onnx", "int8", "model.int8.onnx"),
    ("onnx", "float32", "model.onnx"),
    ("keras", "float32", "model.keras"),
    ("keras predict", "float32", "model.keras"),
)
HEADINGS = (
    *("model", "runtime", "precision", "accuracy", *(f"images/s at {size:,}" for size in BATCH_SIZES)),
    *("MMAC", "parameters", "file", "ready", "memory"),
)


@dataclass(kw_only=True)
class Row:
    """One model in one runtime at one precision, and what was measured of it."""

    model: str
    runtime: str
    precision: str
    path: Path
    ready_s: list[float] = field(default_factory=list)
    rates: dict[int, list[float]] = field(default_factory=lambda: {size: [] for size in BATCH_SIZES})
    accuracy: float = 0.0
    rss_mb: float = 0.0

    def figures(self) -> dict[str, Any]:
        """Everything that is told of the row, medians where there are rounds."""
        size = size_of(self.path.with_name("model.onnx"))
        return {
            "model": self.model,
            "runtime": self.runtime,
            "precision": self.precision,
            "accuracy": self.accuracy,
            "rates": {str(size): round(statistics.median(rates), 1) for size, rates in self.rates.items()},
            "rounds": {str(size): [round(rate, 1) for rate in rates] for size, rates in self.rates.items()},
            "macs": size.macs,
            "parameters": size.parameters,
            "file_bytes": self.path.stat().st_size,
            "ready_s": round(statistics.median(self.ready_s), 2),
            "rss_mb": round(self.rss_mb),
        }


class Process:
    """A row's process, ready to be measured; it waits on its standard input meanwhile."""

    def __init__(self, row: Row, *, core: int, log: Path) -> None:
        self.row = row
        script = Path(__file__).with_name("model_row.py")
        command = [sys.executable, str(script), row.runtime, row.precision, str(row.path), str(core)]
        started_s = time.perf_counter()
        with log.open("ab") as stderr:
            self._process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=stderr, text=True, env=_quiet()
            )
        self._answer()
        row.ready_s.append(time.perf_counter() - started_s)

    def ask(self, *call: object) -> float:
        """Have it do something; what it answers."""
        assert self._process.stdin is not None  # noqa: S101 - it is a pipe
        print(*call, file=self._process.stdin, flush=True)
        return self._answer()

    def close(self) -> None:
        """Let the process end."""
        self._process.communicate()

    def _answer(self) -> float:
        assert self._process.stdout is not None  # noqa: S101 - it is a pipe
        line = self._process.stdout.readline()
        if not line:
            raise SystemExit(f"{self.row} ended; its log is build/bench-models.log")
        answer = json.loads(line)
        return answer if isinstance(answer, (int, float)) else 0.0


def find_rows(folders: Sequence[Path]) -> Iterator[Row]:
    """Yield every kind of row that a folder has the file for."""
    for folder in folders:
        for runtime, precision, name in KINDS:
            if (folder / name).is_file():
                yield Row(model=_name(folder), runtime=runtime, precision=precision, path=folder / name)


def measure(rows: Sequence[Row], *, rounds: int, starts: int, log: Path) -> int:
    """Start every row so many times, keep the last process of each, and measure them in turn.

    Gives how many images the accuracy is of.
    """
    core = max(os.sched_getaffinity(0))
    with ExitStack() as stack, tempfile.TemporaryDirectory() as scratch:
        processes = []
        for row in rows:
            print(f"{row.model}, {row.runtime}, {row.precision}", file=sys.stderr)
            for _ in range(starts - 1):
                Process(row, core=core, log=log).close()
            processes.append(Process(row, core=core, log=log))
            stack.callback(processes[-1].close)
        image_count = _judge(processes, Path(scratch))
        for number in range(rounds):
            print(f"round {number + 1} of {rounds}", file=sys.stderr)
            for process in processes:
                for size, rates in process.row.rates.items():
                    rates.append(process.ask("rate", size))
        for process in processes:
            process.row.rss_mb = process.ask("memory")
    return image_count


def _judge(processes: Sequence[Process], scratch: Path) -> int:
    """Have each row classify the test images; how many there are."""
    test = read_test_images()
    source, target = scratch / "images.npy", scratch / "probabilities.npy"
    np.save(source, test.images)
    for process in processes:
        process.ask("classify", source, target)
        process.row.accuracy = float((np.load(target).argmax(axis=1) == test.labels).mean())
    return len(test)


def format_table(found: Sequence[dict[str, Any]]) -> str:
    """The rows as Markdown."""
    lines = [f"| {' | '.join(HEADINGS)} |", f"| {' | '.join(['---'] * 3 + ['---:'] * (len(HEADINGS) - 3))} |"]
    for row in found:
        cells = [
            *(row["model"], row["runtime"], row["precision"], f"{row['accuracy']:.2%}"),
            *(f"{rate:,.0f}" for rate in row["rates"].values()),
            *(f"{row['macs'] / 1e6:.1f}", f"{row['parameters']:,}", f"{row['file_bytes'] / 1e6:.2f} MB"),
            *(f"{row['ready_s']:.2f} s", f"{row['rss_mb']} MB"),
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    """Measure, print the table, write JSON and chart."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("folders", nargs="*", type=Path, default=[ROOT / WorkerSettings().model], metavar="FOLDER")
    parser.add_argument("--rounds", type=int, default=5, help="measurements of each rate (default 5)")
    parser.add_argument("--starts", type=int, default=3, help="measurements of each row's start (default 3)")
    parser.add_argument("--output", type=Path, default=ROOT / "build" / "bench-models.json")
    parser.add_argument("--chart", type=Path, default=ROOT / "docs" / "model-speed.png")
    arguments = parser.parse_args()
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    if not (BASELINE / "model.int8.onnx").is_file():
        print(f"training {BASELINE.name} once", file=sys.stderr)
        subprocess.run([sys.executable, Path(__file__).with_name("baseline.py"), BASELINE], env=_quiet(), check=True)
    rows = list(find_rows([*arguments.folders, BASELINE]))
    log = arguments.output.with_suffix(".log")
    image_count = measure(rows, rounds=arguments.rounds, starts=arguments.starts, log=log)
    found = [row.figures() for row in rows]
    print(
        f"One core, {platform.machine()}, Python {platform.python_version()}; medians of {arguments.rounds} rounds;"
        f" accuracy of {image_count:,} test images.\n"
    )
    print(format_table(found))
    arguments.output.write_text(json.dumps(found, indent=1))
    draw_chart(found, CHART_BATCH_SIZE, arguments.chart)


def _name(folder: Path) -> str:
    """An artifact's name and version, or the folder's."""
    manifest = folder / "manifest.json"
    if not manifest.is_file():
        return folder.name
    told = json.loads(manifest.read_text(encoding="utf-8"))
    return f"{told['name']} {told['version']}"


def _quiet() -> dict[str, str]:
    """The environment, in which TensorFlow keeps its greetings to itself."""
    return {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"}


if __name__ == "__main__":
    main()
