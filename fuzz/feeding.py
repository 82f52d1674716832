"""Feeding one worker and the readers: by libFuzzer through atheris, by chance without it, or from files."""

from __future__ import annotations

import argparse
import hashlib
import resource
import sys
import tempfile
import time
import traceback
import warnings
from collections import Counter
from pathlib import Path
from random import Random

import msgspec

from fuzz.cases import Case, decode_case, encode_case
from fuzz.mutations import mutated, random_noise
from fuzz.readers import read_case
from fuzz.seeds import seeds
from fuzz.served import ServedWorker

STATS_PERIOD_S = 0.5
# Bytes of an input; libFuzzer begins with short ones.
MAX_INPUT_BYTES = 64 * 1024
# An input that needs more, or longer, is a finding. The largest picture that is read takes 1,060 MB.
MOST_MB = 1_200
MOST_S = 10.0
# What libFuzzer ends the process for.
RSS_LIMIT_MB = 4_096
TIMEOUT_S = 25
MOST_KEPT = 50


class Stats(msgspec.Struct):
    """What became of the inputs so far."""

    inputs: int = 0
    worker_deaths: int = 0
    unexpected: int = 0
    outcomes: Counter[str] = msgspec.field(default_factory=Counter)
    corpus: int = 0


class Feeder:
    """Feeds cases to one worker for as long as it lives, and to a new one after that."""

    def __init__(self, *, folder: Path, stats_path: Path | None = None, kept: Path | None = None) -> None:
        self.stats = Stats()
        self._folder = folder
        self._stats_path = stats_path
        self._kept = kept
        self._worker = ServedWorker().__enter__()
        self._written_at = 0.0
        self._peak_mb = _peak_mb()
        self._faults: set[str] = set()

    def feed(self, data: bytes) -> None:
        """Feed one input; what it did that no input may do is printed and kept, and the next one comes."""
        case = decode_case(data)
        began, self._peak_mb = time.monotonic(), _peak_mb()  # mutations took memory too
        try:
            if case.target == "delivery":
                self.stats.outcomes.update(self._worker.serve(case))
            else:
                self.stats.outcomes[read_case(case, self._folder)] += 1
        except Exception:  # noqa: BLE001 - that nothing unexpected comes is what is being found out
            self._note(data, traceback.format_exc())
        self._judge_cost(data, time.monotonic() - began)
        self.stats.inputs += 1
        if not self._worker.alive:
            self.stats.worker_deaths += 1
            self._worker = ServedWorker().__enter__()
        if time.monotonic() - self._written_at > STATS_PERIOD_S:
            self.write_stats()

    def close(self) -> None:
        """Drain the worker: a process waits for its threads."""
        self.write_stats()
        self._worker.__exit__()

    def write_stats(self) -> None:
        """Tell the program that waits how far this is."""
        if self._stats_path is not None:
            partial = self._stats_path.with_suffix(".partial")
            partial.write_bytes(msgspec.json.encode(self.stats))
            partial.replace(self._stats_path)
        self._written_at = time.monotonic()

    def _judge_cost(self, data: bytes, seconds: float) -> None:
        if seconds > MOST_S:
            self._note(data, f"An input took {seconds:.0f} s.")
        peak_mb = _peak_mb()
        if peak_mb > self._peak_mb + MOST_MB:
            self._note(data, f"An input took {peak_mb - self._peak_mb} MB.")

    def _note(self, data: bytes, said: str) -> None:
        self.stats.unexpected += 1
        place = said.strip().splitlines()[-3:]
        fault = "".join(filter(str.isalpha, "".join(place)))[:300]
        if fault in self._faults or len(self._faults) >= MOST_KEPT:
            return
        self._faults.add(fault)
        print(said, file=sys.stderr)
        if self._kept is not None:
            path = self._kept / f"unexpected-{hashlib.sha256(data).hexdigest()[:16]}"
            path.write_bytes(data)
            print(f"Again: python fuzz/target.py {path}", file=sys.stderr, flush=True)


def _peak_mb() -> int:
    """The most memory that this process ever had."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak // (1024 * 1024 if sys.platform == "darwin" else 1024)


def main(*, by_libfuzzer: bool) -> None:
    """Feed what the command line says."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--stats", type=Path)
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("paths", type=Path, nargs="+")
    options = parser.parse_args()
    warnings.simplefilter("ignore")  # what libraries say of files is not what is being looked for
    with tempfile.TemporaryDirectory() as folder:
        if options.stats is None:
            sys.exit(_feed_files(options.paths, Path(folder)))
        (corpus,) = options.paths
        feeder = Feeder(folder=Path(folder), stats_path=options.stats, kept=corpus.parent)
        feed_seeds(feeder, corpus)
        feed = _feed_by_libfuzzer if by_libfuzzer else _feed_by_chance
        feed(feeder, corpus, options.seconds, options.seed)
        feeder.close()


def feed_seeds(feeder: Feeder, corpus: Path) -> None:
    """Feed every seed, and leave it in the corpus."""
    for case in seeds():
        data = encode_case(case)
        (corpus / f"seed-{hashlib.sha256(data).hexdigest()[:16]}").write_bytes(data)
        feeder.feed(data)
    feeder.write_stats()


def _feed_by_libfuzzer(feeder: Feeder, corpus: Path, seconds: float, seed: int) -> None:
    import atheris

    def mutate(data: bytes, max_size: int, chosen: int) -> bytes:
        def noise(part: bytes) -> bytes:
            return bytes(atheris.Mutate(part, len(part) + 64)) if part else b"0"

        changed = encode_case(mutated(decode_case(data), Random(chosen), noise))
        return changed if len(changed) <= max_size else data[:max_size]

    arguments = [
        f"-max_total_time={max(1, round(seconds))}",
        f"-max_len={MAX_INPUT_BYTES}",
        f"-rss_limit_mb={RSS_LIMIT_MB}",
        f"-timeout={TIMEOUT_S}",
        f"-artifact_prefix={corpus.parent}/",
        f"-seed={seed}",
        "-len_control=0",
        "-verbosity=0",
        str(corpus),
    ]
    atheris.Setup([sys.argv[0], *arguments], feeder.feed, custom_mutator=mutate)
    try:
        atheris.Fuzz()  # ends the process
    finally:
        feeder.close()


def _feed_by_chance(feeder: Feeder, corpus: Path, seconds: float, seed: int) -> None:
    random = Random(seed)
    noise = random_noise(random)
    pool: list[Case] = [decode_case(path.read_bytes()) for path in sorted(corpus.iterdir())]
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        case = mutated(random.choice(pool), random, noise)
        seen = len(feeder.stats.outcomes)
        if len(data := encode_case(case)) > MAX_INPUT_BYTES:
            continue
        feeder.feed(data)
        if len(feeder.stats.outcomes) > seen or random.random() < 0.01:
            pool.append(case)


def _feed_files(paths: list[Path], folder: Path) -> int:
    feeder = Feeder(folder=folder)
    for path in paths:
        data = path.read_bytes()
        print(f"{path}: {decode_case(data)!r}"[:4_000])
        feeder.feed(data)
    feeder.close()
    print(msgspec.json.encode(feeder.stats).decode())
    return int(bool(feeder.stats.unexpected or feeder.stats.worker_deaths))
