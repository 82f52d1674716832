"""The report: one page that needs nothing else, and pictures that show what they must whatever is classified."""

from __future__ import annotations

import base64
import re
from html.parser import HTMLParser
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image as Picture

pytest.importorskip("matplotlib", reason="the trainer's packages are not installed")

from handoff.contracts.errors import SettingsInvalid
from handoff.contracts.manifest import Manifest
from ml_model_development.code import charts
from ml_model_development.code.charts import draw_confusion, draw_curves, draw_most_wrong, draw_reliability
from ml_model_development.code.data_set import Split
from ml_model_development.code.evaluation import evaluate
from ml_model_development.code.report import Report, describe_model, write_report

HISTORY = [
    SimpleNamespace(epoch=epoch, loss=1 / epoch, accuracy=0.8, validation_loss=1.1 / epoch, validation_accuracy=0.7)
    for epoch in (1, 2, 3)
]
HOSTILE = ("<script>alert(1)</script>", '$5 & $6 "quoted"', "plain")


def _classify(count: int, label_count: int, *, seed: int = 1) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """True labels, and probabilities that favour them more often than not."""
    generator = np.random.default_rng(seed)
    truth = generator.integers(0, label_count, count)
    scores = generator.normal(size=(count, label_count))
    scores[np.arange(count), truth] += 2
    raised = np.exp(scores)
    return truth, (raised / raised.sum(axis=1, keepdims=True)).astype(np.float32)


def _report(labels: tuple[str, ...], *, shape: tuple[int, int, int] = (8, 8, 1), **changes: object) -> Report:
    truth, probabilities = _classify(60, len(labels))
    images = np.random.default_rng(2).integers(0, 256, (60, *shape), dtype=np.uint8)
    told: dict[str, object] = {
        "title": "A model",
        "evaluation": evaluate(probabilities, truth, labels),
        "split": Split(images, truth),
        "probabilities": probabilities,
    }
    return Report(**{**told, **changes})  # type: ignore[arg-type]


class _Page(HTMLParser):
    """What a browser would find in a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data

    def attributes(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for found, attributes in self.tags if found == tag]


def test_the_page_holds_everything_and_fetches_nothing(tmp_path: Path) -> None:
    """Its pictures are those beside it, each with words for who cannot see it; no link, no script."""
    written = write_report(tmp_path / "new" / "folder", _report(("a", "b"), history=HISTORY))
    text = written.read_text(encoding="utf-8")
    page = _Page(text)
    names = ["curves.png", "confusion_matrix.png", "reliability.png", "most_wrong.png"]
    sources = [str(image["src"]) for image in page.attributes("img")]
    assert [base64.b64decode(source.removeprefix("data:image/png;base64,")) for source in sources] == [
        (written.parent / name).read_bytes() for name in names
    ]
    assert sorted(path.name for path in written.parent.iterdir()) == sorted([*names, "report.html"])
    assert all(len(image["alt"] or "") > 20 for image in page.attributes("img"))
    assert not re.search(r"https?://|url\(|<script|<link|@import", text)
    assert "default-src 'none'" in text


def test_what_a_label_says_is_text(tmp_path: Path) -> None:
    """Markup and mathematics in names, titles and paths are shown, not obeyed."""
    report = _report(
        HOSTILE,
        title="<b>bold</b>",
        tables={"<i>": {"<u>": "</table>"}},
        balance={HOSTILE[0]: 3},
        notes=["<img src=x>: no picture"],
    )
    page = _Page(write_report(tmp_path, report).read_text(encoding="utf-8"))
    assert page.attributes("script") == page.attributes("b")[4:] == page.attributes("u") == []
    assert len(page.attributes("img")) == 3
    for shown in (*HOSTILE, "<b>bold</b>", "</table>", "<img src=x>: no picture"):
        assert shown in page.text


def test_the_headline_tells_accuracy_with_its_interval(tmp_path: Path) -> None:
    """As a percentage, as a count, and what it is worth."""
    report = _report(("a", "b", "c"))
    text = write_report(tmp_path, report).read_text(encoding="utf-8").replace("\N{NO-BREAK SPACE}", " ")
    evaluation = report.evaluation
    low, high = evaluation.accuracy_interval
    assert f"<b>{100 * evaluation.accuracy:.2f} %</b>" in text
    assert f"{evaluation.right_count} of 60 images; 95 % interval {100 * low:.2f} to {100 * high:.2f} %" in text
    assert f"{evaluation.calibration.ece:.4f}" in text


def test_what_is_not_known_has_no_heading(tmp_path: Path) -> None:
    """No curves without a history, no list without its lines, and with them each has its own."""
    bare = write_report(tmp_path / "bare", _report(("a", "b"), tables={"Speed": {}})).read_text(encoding="utf-8")
    assert "<h2>Labels</h2>" in bare
    for title in ("Training", "About the images", "Speed"):
        assert f"<h2>{title}" not in bare
    assert not (tmp_path / "bare" / "curves.png").exists()
    told = _report(
        ("a", "b"),
        history=HISTORY,
        tables={"Speed": {"images/s": "10,000"}},
        balance={"a": 1200, "b": 30},
        notes=["x.png: cut off"],
    )
    text = write_report(tmp_path / "told", told).read_text(encoding="utf-8")
    for title in ("Training", "About the images", "Speed", "Training images of each label"):
        assert f"<h2>{title}</h2>" in text
    assert "1,200" in text


def test_a_model_is_described_by_its_manifest() -> None:
    """Where it comes from, with the versions that made it."""
    manifest = Manifest(
        name="m",
        version="7",
        labels=["a", "b"],
        input_shape=(32, 24, 3),
        files={"model.onnx": "sha256:" + "0" * 64},
        graph="model.onnx",
        accuracy=0.9,
        validation_accuracy=0.9348,
        seed=5,
        preset="quick",
        commit="abc",
        packages={"keras": "3.15.1", "onnx": "1.2"},
        created_at="2026-01-01T00:00:00+00:00",
    )
    told = describe_model(manifest)
    assert (told["model"], told["seed"], told["commit"]) == ("m, version 7", "5", "abc")
    assert told["images"] == "32 x 24 pixels, 3 channels"
    assert told["packages"] == "keras 3.15.1, onnx 1.2"


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    """A file in the way ends in a sentence."""
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(SettingsInvalid, match="The report cannot be written to"):
        write_report(tmp_path / "file", _report(("a", "b")))


@pytest.mark.parametrize("label_count", [2, 30, 31, 200])
def test_a_confusion_matrix_of_any_size_stays_a_picture_to_read(tmp_path: Path, label_count: int) -> None:
    """Neither tiny nor larger than a screen can show, and every name has room."""
    truth, probabilities = _classify(400, label_count)
    labels = tuple(f"the long name of label {place}, $x_{place}$" for place in range(label_count))
    draw_confusion(evaluate(probabilities, truth, labels), tmp_path / "x.png")
    with Picture.open(tmp_path / "x.png") as picture:
        assert min(picture.size) >= 400
        assert max(picture.size) <= 2600


def test_cells_are_numbered_while_numbers_can_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Up to 30 labels each cell has its number; from 31 on the colour must do."""
    numbered: list[int] = []
    monkeypatch.setattr(charts, "_number_cells", lambda _axes, confusion, _shares: numbered.append(len(confusion)))
    for label_count in (30, 31):
        truth, probabilities = _classify(40, label_count)
        labels = tuple(map(str, range(label_count)))
        draw_confusion(evaluate(probabilities, truth, labels), tmp_path / "x.png")
    assert numbered == [30]


@pytest.mark.parametrize("shape", [(8, 8, 1), (32, 32, 3), (10, 200, 3), (200, 10, 4), (1, 1, 2)])
def test_images_of_any_shape_are_shown(tmp_path: Path, shape: tuple[int, int, int]) -> None:
    """Gray and colour, wide and high, with a channel too many."""
    truth, probabilities = _classify(40, 3)
    images = np.random.default_rng(1).integers(0, 256, (40, *shape), dtype=np.uint8)
    draw_most_wrong(images, truth, probabilities, ("a", "b", "c"), tmp_path / "x.png")
    with Picture.open(tmp_path / "x.png") as picture:
        assert 1000 <= picture.width <= 2000


def test_the_sheet_shows_the_surest_errors_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """36 at most, in their order, each with true label, predicted label, probability and place."""
    shown: list[int] = []
    monkeypatch.setattr(charts, "_show_image", lambda _axes, image: shown.append(int(image[0, 0, 0])))
    count = 50
    confidences = np.linspace(0.6, 0.9, count, dtype=np.float32)
    probabilities = np.stack([confidences, 1 - confidences], axis=1)
    images = np.arange(count, dtype=np.uint8).reshape(count, 1, 1, 1)
    draw_most_wrong(images, np.ones(count, np.int64), probabilities, ("a", "b"), tmp_path / "x.png")
    assert shown == list(range(49, 13, -1))
    assert charts._caption(("cat", "dog"), 1, probabilities[49], 49) == "dog →\ncat\n90.0 % (no. 49)"


def test_a_model_without_errors_has_an_empty_sheet(tmp_path: Path) -> None:
    """Nothing to show is no reason to fail, nor is a split of one image."""
    probabilities = np.array([[0.9, 0.1]], np.float32)
    truth = np.array([0])
    draw_most_wrong(np.zeros((1, 4, 4, 1), np.uint8), truth, probabilities, ("a", "b"), tmp_path / "x.png")
    draw_reliability(evaluate(probabilities, truth, ("a", "b")), tmp_path / "y.png")
    draw_curves(HISTORY[:1], tmp_path / "z.png")
    assert all((tmp_path / name).stat().st_size > 1000 for name in ("x.png", "y.png", "z.png"))


def test_equal_figures_give_equal_pictures(tmp_path: Path) -> None:
    """So that a committed artifact changes only where its figures do."""
    truth, probabilities = _classify(40, 3)
    for name in ("x.png", "y.png"):
        draw_reliability(evaluate(probabilities, truth, ("a", "b", "c")), tmp_path / name)
    assert (tmp_path / "x.png").read_bytes() == (tmp_path / "y.png").read_bytes()
