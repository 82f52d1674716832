"""Draw accuracy against images a second, one point a row of `make bench-models`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullLocator

MARKERS = {"openvino": "o", "onnx": "s", "keras": "^", "keras predict": "v"}
# A row is better than another that is slower and less accurate.
_FRONT_STYLE = {"color": "0.75", "linewidth": 6, "solid_capstyle": "round", "zorder": 0}

Row = Mapping[str, Any]


def draw_chart(rows: Sequence[Row], batch_size: int, path: Path) -> None:
    """One colour a model, one marker a runtime, int8 filled; the rows that no other beats are joined."""
    figure = Figure(figsize=(9.0, 4.8), layout="constrained")
    axes = figure.add_subplot()
    models = list(dict.fromkeys(row["model"] for row in rows))
    colours = dict(zip(models, mpl.colormaps["tab10"].colors, strict=False))
    for row in rows:
        _draw_row(axes, row, batch_size, colours[row["model"]])
    front = sorted((row["rates"][str(batch_size)], row["accuracy"] * 100) for row in best_rows(rows, batch_size))
    axes.plot(*zip(*front, strict=True), **_FRONT_STYLE)
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter("{x:,.0f}")
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xlabel(f"images a second on one core, {batch_size:,} a call")
    axes.set_ylabel("accuracy on the test images, %")
    axes.grid(which="both", alpha=0.25)
    _add_legend(figure, axes, colours, sorted({row["runtime"] for row in rows}, key=list(MARKERS).index))
    figure.savefig(path, dpi=120)


def best_rows(rows: Sequence[Row], batch_size: int) -> list[Row]:
    """Those that no other row beats in both accuracy and speed."""

    def figures(row: Row) -> tuple[float, float]:
        return row["accuracy"], row["rates"][str(batch_size)]

    def beats(one: Row, other: Row) -> bool:
        pairs = list(zip(figures(one), figures(other), strict=True))
        return all(mine >= theirs for mine, theirs in pairs) and figures(one) != figures(other)

    return [row for row in rows if not any(beats(other, row) for other in rows)]


def _draw_row(axes: Axes, row: Row, batch_size: int, colour: tuple[float, ...]) -> None:
    filled = {"int8": colour, "bf16": (*colour, 0.35)}.get(row["precision"], "none")
    axes.plot(
        row["rates"][str(batch_size)],
        row["accuracy"] * 100,
        MARKERS[row["runtime"]],
        markersize=8,
        markeredgecolor=colour,
        markerfacecolor=filled,
    )


def _add_legend(figure: Figure, axes: Axes, colours: Mapping[str, tuple[float, ...]], runtimes: Sequence[str]) -> None:
    lines = [axes.plot([], [], "-", linewidth=4, color=colour, label=model)[0] for model, colour in colours.items()]
    lines += [axes.plot([], [], MARKERS[name], color="0.3", markerfacecolor="none", label=name)[0] for name in runtimes]
    for precision, filled in (("int8", "0.3"), ("bf16", "0.8")):
        lines += axes.plot([], [], "o", color="0.3", markerfacecolor=filled, label=precision)
    lines += axes.plot([], [], **_FRONT_STYLE, label="beaten by none")
    figure.legend(handles=lines, fontsize=8, loc="outside right upper")
