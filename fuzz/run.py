"""`make fuzz`: feed hostile messages and files to a worker and to the readers; a table of ends, and one line of JSON.

The worker lives in a process of its own. When that dies it is started again, and the run fails.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
FOLDER = ROOT / "build" / "fuzz"
PROGRESS_PERIOD_S = 10.0
# More deaths than this, and there is nothing more to learn from another one.
MOST_DEATHS = 20


def main() -> int:
    """Feed for so long, and say what came of it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=600.0, help="how long (600)")
    parser.add_argument("--folder", type=Path, default=FOLDER, help="for the corpus and what was found (build/fuzz)")
    options = parser.parse_args()
    (options.folder / "corpus").mkdir(parents=True, exist_ok=True)
    run = Run(options.folder)
    until = time.monotonic() + options.seconds
    while (left := until - time.monotonic()) > 1 and run.deaths <= MOST_DEATHS:
        run.feed(left)
    summary = run.summary()
    for end, count in sorted(summary["outcomes"].items(), key=lambda entry: -entry[1]):
        print(f"{count:>10,}  {end}")
    print(json.dumps(summary), flush=True)
    return int(bool(summary["worker_deaths"] or summary["unexpected"] or not summary["inputs"]))


class Run:
    """One process after another, and what became of all their inputs."""

    def __init__(self, folder: Path) -> None:
        self.deaths = 0
        self._folder = folder
        self._stats = folder / "stats.json"
        self._started_at = time.monotonic()
        self._before: Counter[str] = Counter()
        self._outcomes: Counter[str] = Counter()

    def feed(self, seconds: float) -> None:
        """Start a process and wait for its end, with a line every ten seconds."""
        self._stats.unlink(missing_ok=True)
        command = [sys.executable, str(ROOT / "fuzz" / "target.py"), "--stats", str(self._stats)]
        command += ["--seconds", str(seconds), "--seed", str(self.deaths + 1), str(self._folder / "corpus")]
        process = subprocess.Popen(command, cwd=ROOT, stdout=sys.stderr)
        try:
            while True:
                try:
                    process.wait(PROGRESS_PERIOD_S)
                    break
                except subprocess.TimeoutExpired:
                    print(self._line(), file=sys.stderr, flush=True)
        finally:
            process.kill()
            process.wait()
        found = self._read()
        self._outcomes.update(found.pop("outcomes", {}))
        self._before.update({name: found.get(name, 0) for name in ("inputs", "unexpected", "worker_deaths")})
        self._stats.unlink(missing_ok=True)
        if process.returncode:
            self.deaths += 1
            print(f"The process that was fed ended with {process.returncode}; see {self._folder}.", file=sys.stderr)

    def summary(self) -> dict[str, Any]:
        """What became of all inputs."""
        seconds = time.monotonic() - self._started_at
        return {
            "seconds": round(seconds, 1),
            "inputs": self._before["inputs"],
            "inputs_per_s": round(self._before["inputs"] / seconds),
            "worker_deaths": self.deaths + self._before["worker_deaths"],
            "unexpected": self._before["unexpected"],
            "outcomes": dict(sorted(self._outcomes.items())),
            "seeds": self._corpus("seed-*"),
            "corpus": self._corpus("*"),
        }

    def _corpus(self, pattern: str) -> int:
        return len(list((self._folder / "corpus").glob(pattern)))

    def _line(self) -> str:
        found = self._read()
        inputs = self._before["inputs"] + found.get("inputs", 0)
        seconds = time.monotonic() - self._started_at
        return (
            f"{seconds:>6.0f} s  {inputs:>10,} inputs  {inputs / seconds:>6,.0f}/s  corpus {self._corpus('*'):>6,}"
            f"  unexpected {self._before['unexpected'] + found.get('unexpected', 0)}"
            f"  worker deaths {self.deaths + self._before['worker_deaths'] + found.get('worker_deaths', 0)}"
        )

    def _read(self) -> dict[str, Any]:
        try:
            found: dict[str, Any] = json.loads(self._stats.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return {}
        return found


if __name__ == "__main__":
    sys.exit(main())
