"""A bulk classification that is killed in the middle."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np

from classifiers.protocol import Images
from handoff.contracts.errors import ExitCode
from handoff.contracts.idx import encode_idx
from tests.e2e.conftest import Start
from tests.e2e.programs import CLASSIFY, script, wait_until

COUNT = 5_000
# Small, so that the job has a middle: 250 batches.
BATCH = 20


def batches_complete(output: Path) -> int:
    """What the progress file says."""
    path = output.with_name(f"{output.name}.progress")
    return int(json.loads(path.read_bytes())["batches"]) if path.exists() else 0


def test_a_killed_classification_goes_on_where_it_was(
    start: Start, start_worker: Start, sample: tuple[Images, list[str]], tmp_path: Path
) -> None:
    """The same command again, and the output is byte for byte that of a run nobody killed, each image in it once."""
    (tmp_path / "images.idx.gz").write_bytes(encode_idx(np.tile(sample[0][..., 0], (5, 1, 1))))
    start_worker("worker-a")

    def command(output: str) -> list[str]:
        told = ("--output", output, "--batch-size", str(BATCH), "--window", "8", "--json")
        return script(CLASSIFY, "images.idx.gz", *told)

    undisturbed = start(command("whole.csv"), name="whole")
    assert undisturbed.wait() == ExitCode.OK, undisturbed.log
    killed = start(command("killed.csv"), name="killed")
    wait_until(lambda: batches_complete(tmp_path / "killed.csv") >= 30, what="30 batches")
    killed.kill()
    complete = batches_complete(tmp_path / "killed.csv")
    assert 30 <= complete < COUNT // BATCH
    resumed = start(command("killed.csv"), name="resumed")
    assert resumed.wait() == ExitCode.OK, resumed.log
    assert f"Resuming after {complete * BATCH:,} of 5,000 images." in resumed.log
    assert resumed.figures["images"] == COUNT
    assert (tmp_path / "killed.csv").read_bytes() == (tmp_path / "whole.csv").read_bytes()
    with (tmp_path / "killed.csv").open(encoding="utf-8", newline="") as file:
        assert [row["image_id"] for row in csv.DictReader(file)] == [str(place) for place in range(COUNT)]
    assert not (tmp_path / "killed.csv.progress").exists()
