"""Sizes and shapes at the command line: `28x28`, `32x32x3`."""

from __future__ import annotations

import re
from typing import Any

import click

from handoff.image_files.pixels import MAX_SIDE, RGB_CHANNELS

_SIDES = re.compile(r"[1-9][0-9]{0,5}(?:x[1-9][0-9]{0,5})+", re.ASCII)


class Size(click.ParamType):  # type: ignore[type-arg] # older releases take no argument
    """Height and width of pictures, as in `28x28`."""

    name = "HxW"

    def convert(
        self,
        value: Any,  # noqa: ANN401 - click's own signature
        param: click.Parameter | None,
        ctx: click.Context | None,
    ) -> tuple[int, int]:
        """Read the text as (height, width)."""
        if isinstance(value, tuple):
            return value
        sides = _sides(value)
        if len(sides) != 2 or max(sides) > MAX_SIDE:  # noqa: PLR2004 - height and width
            self.fail(f"{value!r} is no height x width such as 28x28, of at most {MAX_SIDE} each.", param, ctx)
        return sides[0], sides[1]


class Shape(click.ParamType):  # type: ignore[type-arg] # older releases take no argument
    """Height, width and channels of images, as in `28x28` (gray) or `32x32x3`."""

    name = "HxW[xC]"

    def convert(
        self,
        value: Any,  # noqa: ANN401 - click's own signature
        param: click.Parameter | None,
        ctx: click.Context | None,
    ) -> tuple[int, int, int]:
        """Read the text as (height, width, channels)."""
        if isinstance(value, tuple):
            return value
        sides = _sides(value)
        shape = (*sides, 1) if len(sides) == 2 else sides  # noqa: PLR2004 - without channels: gray
        if len(shape) != 3 or max(shape) > MAX_SIDE or shape[2] not in {1, RGB_CHANNELS}:  # noqa: PLR2004
            self.fail(
                f"{value!r} is no height x width x channels such as 28x28 or 32x32x3, of at most {MAX_SIDE} a side"
                " and 1 or 3 channels.",
                param,
                ctx,
            )
        return shape[0], shape[1], shape[2]


def _sides(text: str) -> tuple[int, ...]:
    text = text.strip().lower()
    return tuple(map(int, text.split("x"))) if _SIDES.fullmatch(text) else ()
