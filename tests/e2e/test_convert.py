"""A conversion that is killed in the middle."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from fashion_client.sources import count_images
from handoff.contracts.errors import ExitCode
from tests.e2e.programs import REPOSITORY, Program, script, wait_until

CONVERT = REPOSITORY / "fashion_client" / "convert_images.py"
COUNT = 200_000


@pytest.mark.parametrize("target", ["y.csv", "y-idx3-ubyte.gz", "pictures"])
def test_a_killed_conversion_leaves_no_output(tmp_path: Path, target: str) -> None:
    """Nothing under its name, which the same command then gives to all of it."""
    images = np.random.default_rng(29).integers(0, 256, (COUNT if target != "pictures" else 4_000, 8, 8), np.uint8)
    np.save(tmp_path / "x.npy", images)
    command = script(CONVERT, "x.npy", target)
    killed = Program(command, environment=dict(os.environ), folder=tmp_path, name="killed")
    try:
        wait_until(
            lambda: any(is_begun(path) for path in tmp_path.glob(".fashion-*.partial")) or not killed.is_running,
            what="a partial output",
        )
    finally:
        killed.kill()
    assert not (tmp_path / target).exists()
    again = Program(command, environment=dict(os.environ), folder=tmp_path, name="again")
    try:
        assert again.wait() == ExitCode.OK, again.log
    finally:
        again.kill()
    assert f"{len(images):,} images in {target}" in again.output
    assert (count_images(tmp_path / target) or len(images)) == len(images)


def is_begun(path: Path) -> bool:
    """Whether something was written into a file or folder."""
    try:
        return any(path.iterdir()) if path.is_dir() else path.stat().st_size > 0
    except FileNotFoundError:  # it has its name already
        return False
