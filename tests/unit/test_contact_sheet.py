"""Contact sheets: a page of a batch, with marks that need no eye for colours."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image as Picture

from fashion_client import contact_sheet
from fashion_client.answered_batches import AnsweredImage
from fashion_client.contact_sheet import (
    BADGE,
    HEADER,
    MARGIN,
    PAPER,
    TILE,
    WRONG,
    Sheet,
    draw_sheets,
    save_sheets,
)
from fashion_client.picture_folder import PictureFolder
from fashion_client.sheet_text import ELLIPSIS, Lettering
from handoff.contracts.batches import Batch
from tests.answered import answered
from tests.fakes import FakeStore

RNG = np.random.default_rng(17)
IMAGES = RNG.integers(1, 255, (9, 28, 28, 1), np.uint8)
IDS = [f"i{number}" for number in range(9)]


def image_of(*, true_label: str = "", label: str = "Bag", shape: tuple[int, int, int] = (28, 28, 1)) -> AnsweredImage:
    """One image, half of it black."""
    pixels = np.zeros(shape, np.uint8)
    pixels[:, shape[1] // 2 :] = 255
    return AnsweredImage(pixels, "a", label, 0.75, true_label)


def drawn(*images: AnsweredImage) -> np.ndarray:
    """The pixels of a page."""
    return np.asarray(Sheet("Request r", "facts", images).draw())


def test_images_are_enlarged_pixel_by_pixel() -> None:
    """Five times, each pixel a square: nothing is blurred."""
    page = drawn(AnsweredImage(IMAGES[0], "a", "Bag", 0.5))
    tile = page[MARGIN + HEADER : MARGIN + HEADER + 140, MARGIN : MARGIN + 140]
    assert np.array_equal(tile[..., 0], IMAGES[0][..., 0].repeat(5, axis=0).repeat(5, axis=1))


@pytest.mark.parametrize(
    "shape", [(28, 28, 1), (32, 32, 3), (2, 2, 1), (1, 784, 1), (500, 300, 3), (144, 144, 1), (4096, 1, 1)]
)
def test_every_shape_of_image_fits_its_tile(shape: tuple[int, int, int]) -> None:
    """Enlarged in whole steps, or shrunk."""
    sheet = Sheet("Request r", "facts", [image_of(shape=shape)])
    width, height = sheet._tile
    assert 1 <= width <= TILE
    assert 1 <= height <= TILE
    if max(shape[:2]) <= TILE:
        assert (width % shape[1], height % shape[0]) == (0, 0)
        assert max(width, height) > TILE / 2
    assert sheet.draw().width > width


def test_a_wrong_image_is_marked_by_more_than_a_colour() -> None:
    """A cross in a corner and what it is in words; the right one beside it has neither."""
    wrong = drawn(image_of(true_label="Coat"), image_of(true_label="Bag"))
    right = drawn(image_of(true_label="Bag"), image_of(true_label="Bag"))
    assert (right != wrong).any()
    corner = wrong[MARGIN + HEADER : MARGIN + HEADER + BADGE, MARGIN + 140 - BADGE : MARGIN + 140]
    assert {tuple(color) for color in corner.reshape(-1, 3).tolist()} == {WRONG, PAPER}
    assert (corner == np.fliplr(corner)).all()
    words = wrong[MARGIN + HEADER + 140 + 8 + 19 :, : MARGIN + 140]
    assert (words != PAPER).any()
    assert (right[MARGIN + HEADER + 140 + 8 + 19 :] == PAPER).all()


def test_unknown_labels_take_no_line() -> None:
    """Nor marks."""
    assert len(drawn(image_of())) < len(drawn(image_of(true_label="Bag")))
    assert not (drawn(image_of()) == WRONG).all(axis=-1).any()


def test_long_and_foreign_texts_are_cut_and_shown() -> None:
    """With an ellipsis, within their room, and without what steers a terminal."""
    letters = Lettering(14, is_ascii=True)
    for text in ("W" * 500, "a b " * 100, "Strassenbahnhaltestellenschild", "x" * 100_000):
        cut = letters.fit(text, 80)
        assert cut.endswith(ELLIPSIS)
        assert letters.width(cut) <= 80
        assert letters.width(cut) > 50
    assert letters.fit("Bag", 80) == "Bag"
    assert letters.fit("a\u202eb\n", 200) == "a\\u202eb\\n"
    for label in ("Äpfel", "日本", "\x1b[2J", "", "e\u0301" * 400):
        assert drawn(image_of(label=label, true_label="Bag")).shape == drawn(image_of(true_label="Bag")).shape


def test_without_a_wider_font_letters_lose_their_accents(monkeypatch: pytest.MonkeyPatch) -> None:
    """A box would say nothing."""
    monkeypatch.setattr("fashion_client.sheet_text._WIDER_FONTS", ("none.ttf",))
    assert Lettering(14, is_ascii=False).fit("Äpfel · 日", 500) == "Apfel · ?"


def test_a_batch_has_pages_and_says_what_is_on_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every image is on one of them; a second time none is added."""
    store = FakeStore()
    batch = answered(store, "r-1", Batch(IMAGES, IDS, ["Bag", "1", "0"] + [""] * 6), [0, 1, 2, *[0] * 6])
    said: list[str] = []
    monkeypatch.setattr(contact_sheet.Sheet, "draw", lambda self: said.append(self.facts) or Picture.new("RGB", (9, 9)))
    pages = list(draw_sheets(batch, images_per_page=4))
    assert len(pages) == 3
    assert said[0] == "model fashion 7  ·  9 images  ·  2 of 3 right, 6 unknown  ·  page 1 of 3"
    assert said[2].endswith("page 3 of 3")
    monkeypatch.undo()
    for added in (3, 0):
        with PictureFolder(tmp_path) as folder:
            save_sheets(batch, folder, images_per_page=4)
        assert folder.added_count == added


def test_sheets_are_called_after_their_request(tmp_path: Path) -> None:
    """One for a batch that fits; its facts speak of one image as of one."""
    with PictureFolder(tmp_path) as folder:
        save_sheets(answered(FakeStore(), "r-1", Batch(IMAGES[:1], ["a"], ["Bag"]), [0]), folder)
        save_sheets(answered(FakeStore(), "r-2", Batch(IMAGES, IDS), [0] * 9, labels=["a", "b"]), folder)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["r-1.png", "r-2.png"]


@pytest.mark.parametrize(("count", "columns"), [(1, 1), (2, 2), (40, 8), (400, 20)])
def test_a_page_is_about_as_wide_as_a_screen(count: int, columns: int) -> None:
    """Wider than high, and never over twenty columns."""
    assert Sheet("", "", [image_of()] * count)._columns == columns
