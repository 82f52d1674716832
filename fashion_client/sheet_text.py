"""Text on contact sheets: a font that can show it, and no more of it than there is room for."""

from __future__ import annotations

import unicodedata
from typing import TYPE_CHECKING

from PIL import ImageFont

from handoff.contracts.sentences import printable

if TYPE_CHECKING:
    from PIL.ImageDraw import ImageDraw

ELLIPSIS = "…"

# What Pillow brings shows ASCII and little else; these, where a system has one, show most alphabets.
_WIDER_FONTS = ("DejaVuSans.ttf", "NotoSans-Regular.ttf", "Arial Unicode.ttf", "Arial.ttf")

# Between words, of the size: the font's own space is so narrow that they run together.
_SPACE = 0.32

# Enough for a line of the widest sheet, little enough to be measured quickly.
_MAX_CHARACTERS = 400

Color = tuple[int, int, int]


class Lettering:
    """One size of text, in a font that can show all that is to be written."""

    def __init__(self, size: int, *, is_ascii: bool) -> None:
        """Choose the font: Pillow's own for ASCII, the same on every machine; else one of the system's."""
        wider = None if is_ascii else _wider_font(size)
        self._font = wider or ImageFont.load_default(size)
        self._space = round(size * _SPACE)
        self._must_fold = wider is None

    def width(self, text: str) -> int:
        """How many pixels a text takes."""
        words = self._shown(text).split(" ")
        return round(sum(map(self._font.getlength, words))) + self._space * (len(words) - 1)

    def fit(self, text: str, width: int) -> str:
        """Cut a text to so many pixels, with an ellipsis where anything is cut."""
        text = self._shown(text)
        if self.width(text) <= width:
            return text
        fitting, too_long = 0, len(text)
        while too_long - fitting > 1:
            middle = (fitting + too_long) // 2
            if self.width(text[:middle].rstrip() + ELLIPSIS) <= width:
                fitting = middle
            else:
                too_long = middle
        return text[:fitting].rstrip() + ELLIPSIS

    def write(self, draw: ImageDraw, place: tuple[int, int], text: str, *, color: Color) -> None:
        """Write a text that fits, from its top left."""
        left, top = place
        for word in self._shown(text).split(" "):
            draw.text((left, top), word, font=self._font, fill=color)
            left += round(self._font.getlength(word)) + self._space

    def _shown(self, text: str) -> str:
        text = printable(text[:_MAX_CHARACTERS])
        if text.isascii() or not self._must_fold:
            return text
        return "".join(each if each in {ELLIPSIS, "·"} else _folded(each) for each in text)


def _wider_font(size: int) -> ImageFont.FreeTypeFont | None:
    for name in _WIDER_FONTS:
        try:
            return ImageFont.truetype(name, size)
        except OSError:
            continue
    return None


def _folded(character: str) -> str:
    """The letter below an accent, or a question mark: a box says nothing."""
    return unicodedata.normalize("NFKD", character).encode("ascii", "ignore").decode() or "?"
