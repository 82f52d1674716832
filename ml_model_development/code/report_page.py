"""The page that a report fills in: one file, no script, nothing fetched from anywhere."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from string import Template
from typing import Final

# The policy makes a browser refuse what the page never asks for: scripts, and anything from another place.
PAGE: Final = Template("""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; img-src data:; style-src 'unsafe-inline'">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>$title</title>
<style>$style</style>
</head>
<body>
<header><h1>$title</h1></header>
<main>
$body
</main>
</body>
</html>
""")

STYLE: Final = """
:root { --ink: #1b1f24; --soft: #57606a; --paper: #ffffff; --card: #f6f8fa; --line: #d0d7de; --bar: #b6dcf3; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e6edf3; --soft: #9da7b1; --paper: #0d1117; --card: #161b22; --line: #3d444d; --bar: #1f4b6e; }
}
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 1rem; max-width: 62rem; background: var(--paper); color: var(--ink);
  font: 1rem/1.5 system-ui, sans-serif; overflow-wrap: anywhere; }
h1 { font-size: 1.6rem; margin: 0.5rem 0 1rem; }
h2 { font-size: 1.2rem; margin: 2.2rem 0 0.6rem; padding-bottom: 0.2rem; border-bottom: 1px solid var(--line); }
p, figcaption { margin: 0.4rem 0; color: var(--soft); }
.headline { display: grid; grid-template-columns: repeat(auto-fit, minmax(11rem, 1fr)); gap: 0.8rem; }
.headline div { background: var(--card); border: 1px solid var(--line); border-radius: 0.5rem; padding: 0.7rem 0.9rem; }
.headline b { display: block; font-size: 1.6rem; line-height: 1.3; }
.headline span { color: var(--soft); font-size: 0.85rem; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }
th, td { text-align: left; padding: 0.25rem 0.7rem 0.25rem 0.3rem; border-bottom: 1px solid var(--line);
  vertical-align: top; }
td.number, th.number { text-align: right; white-space: nowrap; }
th[scope=row] { font-weight: 400; min-width: 7rem; }
.facts th[scope=row] { color: var(--soft); width: 14rem; }
tr.average > * { font-weight: 600; }
td.bar { width: 30%; min-width: 5rem; }
td.bar div { height: 0.9rem; margin-top: 0.3rem; border-radius: 0.2rem; background: var(--bar);
  print-color-adjust: exact; -webkit-print-color-adjust: exact; }
figure { margin: 0; }
figure img { display: block; margin: 0 auto; max-width: max(100%, var(--least));
  background: #ffffff; border-radius: 0.4rem; }
@media (max-width: 40rem) {
  table { font-size: 0.85rem; }
  th, td { padding-right: 0.3rem; }
  th[scope=row] { min-width: 4.5rem; }
  .facts th[scope=row] { width: 7rem; }
  .by-label td.bar, .by-label th:last-child { display: none; }
}
@media print {
  :root { --ink: #000000; --soft: #333333; --paper: #ffffff; --card: #ffffff; --line: #999999; --bar: #b6dcf3; }
  body { max-width: none; padding: 0; font-size: 10pt; }
  h2 { break-after: avoid; }
  figure, tr, .headline div { break-inside: avoid; }
  figure img { max-width: 100%; max-height: 23cm; }
  .wide { overflow: visible; }
}
"""


def percent(fraction: float) -> str:
    """Write a fraction as people read it: 93.71 %, without a line break before the sign."""
    return f"{100 * fraction:.2f}\N{NO-BREAK SPACE}%"


def section(title: str, content: str) -> str:
    """A part of the page under a heading."""
    return f"<section>\n<h2>{escape(title)}</h2>\n{content}\n</section>"


def facts_table(facts: Mapping[str, str]) -> str:
    """A table of names and what each says."""
    rows = "".join(
        f'<tr><th scope="row">{escape(name)}</th><td>{escape(value)}</td></tr>\n' for name, value in facts.items()
    )
    return f'<table class="facts">\n{rows}</table>'


def bar_cell(share: float) -> str:
    """A cell with a bar as long as a share of it."""
    return f'<td class="bar"><div style="width: {100 * share:.1f}%"></div></td>'


def lines_list(lines: Sequence[str]) -> str:
    """Lines, one below the other."""
    return "<ul>\n" + "".join(f"<li>{escape(line)}</li>\n" for line in lines) + "</ul>"


def picture(title: str, path: Path, *, alt: str, how: str, least: str) -> str:
    """A picture in the page itself, never narrower than can be read: a phone scrolls it sideways."""
    encoded = base64.b64encode(path.read_bytes()).decode("ascii")
    image = f'<img alt="{escape(alt)}" style="--least: {least}" src="data:image/png;base64,{encoded}">'
    caption = f"<figcaption>{escape(how)}</figcaption>"
    return section(title, f'<figure>{caption}\n<div class="wide">{image}</div></figure>')
