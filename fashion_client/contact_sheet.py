"""Contact sheets: a batch's images on a page, each with its label, its probability, and a mark where it is wrong."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from PIL import Image as Picture
from PIL import ImageDraw

from fashion_client.answered_batches import AnsweredBatch, AnsweredImage
from fashion_client.file_names import file_name
from fashion_client.picture_folder import NamedPicture, PictureFolder
from fashion_client.sheet_text import Color, Lettering

IMAGES_PER_PAGE = 400
MOST_COLUMNS = 20

# Pixels, all of them. Images of 28x28 become 140x140, larger ones than the tile are shrunk to it. A cell has room for
# "Ankle boot" and its probability.
TILE = 144
LEAST_CELL = 128
GAP = 14
MARGIN = 28
LEAST_WIDTH = 560
TITLE_SIZE, LINE_SIZE, LABEL_SIZE = 22, 14, 14
HEADER = 76
LINE = 19
FRAME = 3
BADGE = 20

SEPARATOR = "  ·  "

# Wide and high as a page of a screen.
_PAGE_RATIO = 4 / 3

INK: Color = (31, 35, 40)
QUIET: Color = (101, 109, 118)
RULE: Color = (208, 215, 222)
PAPER: Color = (255, 255, 255)
WRONG: Color = (190, 24, 36)


def save_sheets(answered: AnsweredBatch, folder: PictureFolder, *, images_per_page: int = IMAGES_PER_PAGE) -> None:
    """Write a batch's contact sheet as `<request id>.png`, of a larger batch `<request id>-page-1.png` and so on.

    Raises: RequestRefused: the batch or its predictions cannot be read; SettingsInvalid: the folder does not take
        them; StoreUnavailable
    """
    name = file_name(answered.request_id)
    several = len(answered) > images_per_page
    for number, page in enumerate(
        draw_sheets(answered, images_per_page=images_per_page), 1
    ):  # one at a time: a page takes 30 MB
        folder.add([NamedPicture(np.asarray(page), f"{name}-page-{number}" if several else name)])


def draw_sheets(answered: AnsweredBatch, *, images_per_page: int = IMAGES_PER_PAGE) -> Iterator[Picture.Image]:
    """Draw a batch's pages, one after another.

    Raises: RequestRefused: the batch or its predictions cannot be read; StoreUnavailable
    """
    images = list(answered)
    page_count = math.ceil(len(images) / images_per_page)
    facts = _facts(answered, images)
    for number in range(page_count):
        shown = images[number * images_per_page : (number + 1) * images_per_page]
        page = [f"page {number + 1} of {page_count}"] if page_count > 1 else []
        yield Sheet(f"Request {answered.request_id}", SEPARATOR.join([*facts, *page]), shown).draw()


@dataclass(frozen=True)
class Sheet:
    """One page: a title, a line of facts, and images in a grid."""

    title: str
    facts: str
    images: Sequence[AnsweredImage]

    def draw(self) -> Picture.Image:
        """Draw the page as large as its images need."""
        width = max(LEAST_WIDTH, 2 * MARGIN + self._columns * (self._cell_width + GAP) - GAP)
        rows = math.ceil(len(self.images) / self._columns)
        page = Picture.new("RGB", (width, MARGIN + HEADER + rows * (self._cell_height + GAP) - GAP + MARGIN), PAPER)
        draw = ImageDraw.Draw(page)
        self._head(draw, width)
        for place, image in enumerate(self.images):
            row, column = divmod(place, self._columns)
            left = MARGIN + column * (self._cell_width + GAP)
            self._cell(page, draw, (left, MARGIN + HEADER + row * (self._cell_height + GAP)), image)
        return page

    @cached_property
    def _tile(self) -> tuple[int, int]:
        """Width and height of an image on the page."""
        height, width, _ = self.images[0].pixels.shape
        factor = max(1, TILE // max(height, width))
        shrunk = min(1.0, TILE / max(height, width))
        return max(1, round(width * factor * shrunk)), max(1, round(height * factor * shrunk))

    @cached_property
    def _columns(self) -> int:
        shape = self._cell_height / self._cell_width
        return max(1, min(len(self.images), MOST_COLUMNS, math.ceil(math.sqrt(len(self.images) * shape * _PAGE_RATIO))))

    @cached_property
    def _cell_width(self) -> int:
        return max(LEAST_CELL, self._tile[0])

    @cached_property
    def _cell_height(self) -> int:
        return self._tile[1] + 8 + LINE * (2 if any(image.true_label for image in self.images) else 1)

    @cached_property
    def _is_ascii(self) -> bool:
        return all((image.label + image.true_label).isascii() for image in self.images)

    @cached_property
    def _letters(self) -> Lettering:
        return Lettering(LABEL_SIZE, is_ascii=self._is_ascii)

    def _head(self, draw: ImageDraw.ImageDraw, width: int) -> None:
        room = width - 2 * MARGIN
        title, line = Lettering(TITLE_SIZE, is_ascii=self.title.isascii()), Lettering(LINE_SIZE, is_ascii=True)
        title.write(draw, (MARGIN, MARGIN - 4), title.fit(self.title, room), color=INK)
        line.write(draw, (MARGIN, MARGIN + 28), line.fit(self.facts, room), color=QUIET)
        draw.line([(MARGIN, MARGIN + 56), (width - MARGIN, MARGIN + 56)], fill=RULE)

    def _cell(
        self, page: Picture.Image, draw: ImageDraw.ImageDraw, corner: tuple[int, int], image: AnsweredImage
    ) -> None:
        left, top = corner
        width, height = self._tile
        place = left + (self._cell_width - width) // 2, top
        page.paste(_picture(image, self._tile), place)
        _frame(draw, (*place, place[0] + width, place[1] + height), is_wrong=image.is_wrong)
        color = WRONG if image.is_wrong else INK
        line = top + height + 8
        probability = f"{image.probability:.1%}"
        taken = self._letters.width(probability)
        label = self._letters.fit(image.label, self._cell_width - taken - 6)
        self._letters.write(draw, (left, line), label, color=color)
        self._letters.write(draw, (left + self._cell_width - taken, line), probability, color=QUIET)
        if image.is_wrong:
            said = self._letters.fit(f"is {image.true_label}", self._cell_width)
            self._letters.write(draw, (left, line + LINE), said, color=WRONG)


def _facts(answered: AnsweredBatch, images: Sequence[AnsweredImage]) -> list[str]:
    model = answered.response.model
    known = [image for image in images if image.true_label]
    wrong = sum(image.is_wrong for image in known)
    facts = [f"model {model.name} {model.version}"] if model else []
    facts.append(f"{len(images):,} image{'s' * (len(images) != 1)}")
    if known:
        facts.append(f"{len(known) - wrong:,} of {len(known):,} right" if wrong else "all right")
    if 0 < len(known) < len(images):
        facts[-1] += f", {len(images) - len(known):,} unknown"
    return facts


def _picture(image: AnsweredImage, size: tuple[int, int]) -> Picture.Image:
    pixels = image.pixels[..., 0] if image.pixels.shape[2] == 1 else image.pixels
    picture = Picture.fromarray(pixels).convert("RGB")
    # Pixels stay squares where they are enlarged; only where there are too many for the tile they are mixed.
    grows = picture.width <= size[0]
    return picture.resize(size, Picture.Resampling.NEAREST if grows else Picture.Resampling.BOX)


def _frame(draw: ImageDraw.ImageDraw, box: tuple[int, int, int, int], *, is_wrong: bool) -> None:
    """Draw the edge of an image; of a wrong one a thick one with a cross, which needs no eye for colours."""
    left, top, right, bottom = box
    if not is_wrong:
        draw.rectangle((left - 1, top - 1, right, bottom), outline=RULE)
        return
    draw.rectangle((left - FRAME, top - FRAME, right + FRAME - 1, bottom + FRAME - 1), outline=WRONG, width=FRAME)
    draw.rectangle((right - BADGE, top, right - 1, top + BADGE - 1), fill=WRONG)
    inner = (right - BADGE + 5, top + 5, right - 6, top + BADGE - 6)
    draw.line((inner[0], inner[1], inner[2], inner[3]), fill=PAPER, width=3)
    draw.line((inner[0], inner[3], inner[2], inner[1]), fill=PAPER, width=3)
