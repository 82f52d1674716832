"""Text files of lines, compressed or not, with one sentence for all that can be wrong with them."""

from __future__ import annotations

import csv
import gzip
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, cast

from handoff.contracts.errors import DataSetUnavailable

# The longest row there can be: 4096x4096 RGB pixels with their commas. Memory stays bounded whatever a file holds.
_MAX_LINE_CHARACTERS = 4 * 3 * 4096 * 4096


@contextmanager
def open_text(path: Path) -> Iterator[Iterator[str]]:
    """Open a text file and give its lines, line ends kept, a byte order mark taken off.

    Raises: DataSetUnavailable: the file, or what is made of its lines, cannot be read
    """
    try:
        opened = gzip.open if path.suffix == ".gz" else open
        with opened(path, "rt", newline="", encoding="utf-8-sig") as file:
            yield _lines(cast("IO[str]", file), path)
    except (OSError, EOFError, UnicodeDecodeError, csv.Error, zlib.error) as error:
        raise DataSetUnavailable(f"{path} cannot be read as CSV: {error}.") from error


def _lines(file: IO[str], path: Path) -> Iterator[str]:
    while line := file.readline(_MAX_LINE_CHARACTERS + 1):
        if len(line) > _MAX_LINE_CHARACTERS:
            raise DataSetUnavailable(f"{path} has a line of over {_MAX_LINE_CHARACTERS} characters: no row of images.")
        yield line
