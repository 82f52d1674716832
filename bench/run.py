"""`make bench`: what the service costs beside its classifier, on this machine, as one table and build/bench.json.

What ratios are made of is measured once a round, in turn (Kafka's in every second or third); everything else in every
third. Every figure is the median of its runs; each run of a ratio is of two figures of one round. Latencies are of
single requests, after them.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from deployment import REFERENCE_LOADS, Deployment, described
from deployments import beside, deployments
from extents import extent_of
from figures import Figures
from loads import Load
from processes import REFERENCE, ROOT, bare_classifier, running_worker

from handoff.settings import Settings


@contextmanager
def reference_worker(settings: Settings, folder: Path) -> Iterator[Callable[[Deployment], None]]:
    """Keep the plain worker running; yields what measures it beside a deployment."""
    apart = beside(settings, "reference")
    with running_worker(apart, folder / "bench-reference.log", program=REFERENCE) as worker:
        yield lambda deployment: deployment.measure_reference(apart, worker)


def run_rounds(found: dict[str, Settings], figures: Figures, *, runs: int, folder: Path) -> None:
    """Measure everything, `runs` times in turn, then the latencies."""
    with ExitStack() as stack:
        bare_s = stack.enter_context(bare_classifier(found["embedded"]))
        measured = {
            name: Deployment(name, settings, bare_s=bare_s, figures=figures, folder=folder)
            for name, settings in found.items()
        }
        reference = stack.enter_context(reference_worker(found["pubsub"], folder)) if "pubsub" in found else None
        for run in range(runs):
            due = {name: each for name, each in measured.items() if run % extent_of(name).every == 0}
            for name, deployment in due.items():
                print(f"{time.strftime('%H:%M:%S')} round {run + 1} of {runs}: {name}", file=sys.stderr)
                deployment.measure_round(run)
                if name == "embedded":
                    deployment.measure_scaling()
                elif name == "pubsub" and reference is not None:
                    reference(deployment)
    for name, deployment in measured.items():
        print(f"latencies: {name}", file=sys.stderr)
        deployment.measure_latencies()


def add_ratios(figures: Figures, names: list[str]) -> None:
    """The ratios, each of two figures of the same round."""
    for name in names:
        for size in extent_of(name).sizes:
            what = f"{name}: {described(Load(size, 1))}, end to end ÷ bare"
            over = f"{name}_{size}_images_per_s"
            figures.add_ratio(f"{name}_{size}_over_bare", what, over, f"{name}_bare_images_per_s")
    one, two = (f"embedded_1000_on_{count}_cores_images_per_s" for count in (1, 2))
    if len(os.sched_getaffinity(0)) > 1:
        figures.add_ratio("two_workers_over_one", "embedded: two workers of a core each ÷ one", two, one)
    if "pubsub" in names:
        for load in REFERENCE_LOADS:
            size = load.images_per_request
            ours, plain = f"pubsub_{size}_images_per_s", f"pubsub_reference_{size}_images_per_s"
            what = f"pubsub: {described(load)}, ours ÷ plain worker"
            figures.add_ratio(f"pubsub_{size}_over_reference", what, ours, plain)
    for key in ("ready_s", "rss_mb", "latency_p50_ms", "latency_p99_ms"):
        figures.add_alias(key, f"embedded_{key}")


def main() -> None:
    """Measure, print the table, write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=5, help="rounds (default 5)")
    parser.add_argument("--output", type=Path, default=ROOT / "build" / "bench.json")
    arguments = parser.parse_args()
    figures = Figures()
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    with deployments() as found:
        run_rounds(found, figures, runs=arguments.runs, folder=arguments.output.parent)
        add_ratios(figures, list(found))
    figures.print_table()
    figures.write(arguments.output)


if __name__ == "__main__":
    main()
