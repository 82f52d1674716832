"""The number of workers follows a real backlog: more of them while requests wait, one when all are answered."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from classifiers.protocol import Images
from fashion_client.client import Client
from handoff.contracts.errors import ExitCode
from handoff.settings import ScalingSettings, WorkerSettings
from tests.e2e.conftest import Start
from tests.e2e.programs import RECEIVE, WORKER, is_running, script, wait_until

Sample = tuple[Images, list[str]]

ANSWER_WITHIN_S = 90.0
COUNT = 60

# No Pub/Sub: its emulator does not know its backlog, and the service's figures come minutes late.
EMBEDDED = pytest.mark.parametrize("deployment", ["embedded+file"], indirect=True)

AUTO = script(WORKER, "--workers", "auto", "--max-workers", "3")


@EMBEDDED
def test_workers_come_with_the_backlog_and_go_without_it(start: Start, client: Client, sample: Sample) -> None:
    """Every request is answered once, by more than one worker; then one is left, which drains."""
    images, _ = sample
    receiving = start(script(RECEIVE, "--count", str(COUNT), "--json"), name="receive")
    submissions = [client.submit(images, format="npy", request_id=f"r-{number}") for number in range(COUNT)]
    # Four requests of a thousand images are many micro-batches: the work lasts until every worker has started.
    supervisor = start(
        AUTO,
        name="supervisor",
        worker=WorkerSettings(max_in_flight=4),
        scaling=ScalingSettings(scale_down_after_s=1.0, period_s=0.1),
    )
    responses = [submission.response(ANSWER_WITHIN_S) for submission in submissions]
    assert {response.status for response in responses} == {"succeeded"}
    assert {response.worker for response in responses} <= {"worker-1", "worker-2", "worker-3"}
    assert len({response.worker for response in responses}) > 1
    assert receiving.wait(within_s=ANSWER_WITHIN_S) == ExitCode.OK, receiving.log
    shown = Counter(line.split()[0] for line in receiving.output.splitlines() if line.startswith("r-"))
    assert shown == Counter(f"r-{number}" for number in range(COUNT))
    supervisor.wait_for("workers=2→1 backlog=0")
    for line in ("workers=1→2 backlog=", "workers=2→3 backlog=", "workers=3→2 backlog="):
        assert line in supervisor.log
    wait_until(lambda: len(supervisor.children()) == 1, what=f"one worker:\n{supervisor.log}")
    for name in ("worker-2", "worker-3"):
        assert f"worker={name} drained" in supervisor.log
    last = supervisor.children()[0]
    # The cores are shared by as many as there may be.
    assert "--peers\x003\x00" in Path(f"/proc/{last}/cmdline").read_text(encoding="utf-8")
    supervisor.terminate()
    assert supervisor.wait() == ExitCode.OK, supervisor.log
    assert "worker=worker-1 drained" in supervisor.log
    assert "Traceback" not in supervisor.log
    assert not is_running(last)


@EMBEDDED
def test_a_drain_in_mid_scaling_loses_nothing(
    start: Start, start_worker: Start, client: Client, sample: Sample
) -> None:
    """SIGTERM while workers are being added: all of them end, exit code 0, and the next worker answers the rest."""
    images, _ = sample
    submissions = [client.submit(images, format="npy") for _ in range(COUNT)]
    supervisor = start(
        AUTO, name="supervisor", worker=WorkerSettings(max_in_flight=4), scaling=ScalingSettings(period_s=0.1)
    )
    supervisor.wait_for("workers=2→3")
    children = supervisor.children()
    supervisor.terminate()
    assert supervisor.wait() == ExitCode.OK, supervisor.log
    assert "Traceback" not in supervisor.log
    assert not any(map(is_running, children))
    start_worker("rest")
    assert {submission.response(ANSWER_WITHIN_S).status for submission in submissions} == {"succeeded"}
