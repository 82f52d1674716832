"""Pictures in a folder become labelled pictures in another, whoever dies on the way, on every broker."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image as Picture

from classifiers.protocol import Images
from handoff.contracts.errors import ExitCode
from tests.e2e.conftest import Start
from tests.e2e.programs import RECEIVE, WATCH, Program, script, wait_until

IMAGES = 200
BATCH_SIZE = 10


def published(folder: Path) -> int:
    """How many pictures the watcher has moved."""
    return len(list((folder / "published").glob("*.png")))


@pytest.mark.parametrize("deployment", ["embedded+file", "kafka+file", "kafka-share+file"], indirect=True)
def test_a_watched_folder_comes_back_labelled(
    start: Start, start_worker: Start, sample: tuple[Images, list[str]], tmp_path: Path
) -> None:
    """200 PNGs, the watcher killed among them: each is moved once, and written once under its label."""
    images = sample[0][:IMAGES, ..., 0]
    incoming = tmp_path / "incoming"
    incoming.mkdir()
    for number, pixels in enumerate(images):
        Picture.fromarray(pixels).save(incoming / f"item-{number:03}.png")

    def watch(name: str) -> Program:
        folders = ["--input", str(incoming), "--published", str(tmp_path / "published")]
        return start(script(WATCH, *folders, "--batch-size", str(BATCH_SIZE), "--settle", "0.2"), name=name)

    start_worker("worker-a")
    receiving = start(script(RECEIVE, "--images", "labelled", "--idle-timeout", "60", "--quiet"), name="receive")
    watcher = watch("killed")
    wait_until(lambda: published(tmp_path) > 0, what="a picture moved")
    watcher.kill()
    assert published(tmp_path) < IMAGES
    watcher = watch("second")
    wait_until(lambda: published(tmp_path) == IMAGES, what=f"{IMAGES} pictures moved")
    watcher.terminate()
    assert watcher.wait() == ExitCode.OK, watcher.log
    labelled = tmp_path / "labelled"
    wait_until(lambda: len(list(labelled.glob("*.png"))) >= IMAGES, what=f"{IMAGES} labelled pictures")
    receiving.terminate()
    found = {path.name[: len("item-000")]: path for path in labelled.glob("*.png")}
    assert len(list(labelled.iterdir())) == len(found) == IMAGES
    for number, pixels in enumerate(images):
        assert (np.asarray(Picture.open(found[f"item-{number:03}"])) == pixels).all()
    assert list(incoming.iterdir()) == []
