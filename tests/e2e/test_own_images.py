"""Anyone's images: trained from folders of pictures, evaluated, served, and answered with their own labels."""

from __future__ import annotations

import csv
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw

from handoff.contracts.errors import ExitCode
from tests.e2e.programs import REPOSITORY, Program

pytest.importorskip("keras", reason="the trainer's packages are not installed")
datasets = pytest.importorskip("sklearn.datasets", reason="scikit-learn is not installed")

TRAIN_WITHIN_S = 400.0
SHAPES: dict[str, Callable[..., None]] = {
    "disc": lambda draw, box, colour: draw.ellipse(box, fill=colour),
    "frame": lambda draw, box, colour: draw.rectangle(box, outline=colour, width=2),
    "ünïcode cross": lambda draw, box, colour: (
        draw.line([box[0], box[1], box[2], box[3]], fill=colour, width=2),
        draw.line([box[0], box[3], box[2], box[1]], fill=colour, width=2),
    ),
}


def write_digits(folder: Path) -> None:
    """The 1,797 handwritten digits of scikit-learn, 8x8 gray, every fifth to test with."""
    digits = datasets.load_digits()
    for number, (image, label) in enumerate(zip(digits.images, digits.target, strict=True)):
        path = folder / ("train" if number % 5 else "test") / f"digit {label}" / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray((image * 15.9).astype(np.uint8)).save(path)


def write_shapes(folder: Path) -> None:
    """Coloured shapes of any colour on a ground of any colour, 20x24 pixels: only the outline tells."""
    generator = np.random.default_rng(0)
    for number in range(900):
        label = list(SHAPES)[number % 3]
        ground, colour = generator.integers(0, 120, 3), generator.integers(140, 256, 3)
        picture = Image.new("RGB", (24, 20), tuple(ground.tolist()))
        left, top = generator.integers(1, 8, 2).tolist()
        SHAPES[label](ImageDraw.Draw(picture), [left, top, left + 12, top + 10], tuple(colour.tolist()))
        noise = generator.integers(-15, 16, (20, 24, 3))
        path = folder / ("train" if number % 5 else "test") / label / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray((np.asarray(picture).astype(int) + noise).clip(0, 255).astype(np.uint8)).save(path)


@contextmanager
def running(folder: Path, *arguments: str, name: str) -> Iterator[Program]:
    """A subcommand of `fashion` with a broker and a store in the folder."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith("FASHION_")}
    told = {"FASHION_BROKER": f"embedded:{folder}/queue.db", "FASHION_STORE": f"file:{folder}/store"}
    command = [sys.executable, str(REPOSITORY / "fashion.py"), *arguments]
    program = Program(command, environment={**environment, **told}, folder=folder, name=name)
    try:
        yield program
    finally:
        program.clear_away()


def run(folder: Path, *arguments: str) -> Program:
    """A subcommand that ends by itself."""
    with running(folder, *arguments, name=arguments[0]) as program:
        assert program.wait(within_s=TRAIN_WITHIN_S) == ExitCode.OK, program.log
        return program


@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    ("write", "labels", "shape", "least"),
    [
        (write_digits, [f"digit {number}" for number in range(10)], "8x8x1", 0.97),
        (write_shapes, sorted(SHAPES), "20x24x3", 0.97),
    ],
    ids=["digits", "colour shapes"],
)
def test_pictures_in_folders_become_a_served_model(
    tmp_path: Path, write: Callable[[Path], None], labels: list[str], shape: str, least: float
) -> None:
    """Train, evaluate, serve and classify over the embedded broker; clients learn shape and labels from the model."""
    write(tmp_path)
    training = run(
        tmp_path, "train", "--images", "train", "--test-images", "test", "--output", str(tmp_path / "made"), "--json"
    )
    assert f"images of {shape}" in training.log
    assert training.figures["accuracy"] >= least
    evaluated = run(tmp_path, "evaluate", str(tmp_path / "made/1"), "test", "--json")
    assert evaluated.figures["accuracy"] == training.figures["accuracy"]
    assert evaluated.figures["reproduced"] is True
    with running(tmp_path, "worker", "--model", str(tmp_path / "made/1"), name="worker") as worker:
        worker.wait_for("ready_s=")
        requested = run(tmp_path, "request", "test", "--batch-size", "100", "--json").figures
        received = run(
            tmp_path, "receive", "--count", str(requested["requests"]), "--predictions", "found.csv", "--json"
        )
    assert received.figures["accuracy"] == pytest.approx(training.figures["accuracy"], abs=0.005)
    with (tmp_path / "found.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == requested["images"]
    assert {row["label"] for row in rows} == set(labels)
