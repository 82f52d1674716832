"""From the service's predictions of one batch to rows of the output: the client's ids in place of the batch's."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from fashion_client.bulk_batches import Origin
from handoff.contracts.csv_cells import quote_cells
from handoff.contracts.errors import PayloadCorrupt
from handoff.contracts.images import default_image_ids


@dataclass(frozen=True)
class Rows:
    """A header and as many rows as the batch has images, each line ended."""

    header: bytes
    lines: bytes


def make_rows(predictions: bytes, origins: Sequence[Origin], *, with_file: bool) -> Rows:
    """Name each row after its image; `with_file` puts a column before the id that says which file it is in.

    Nothing but the first cell of a row is looked at: what the service wrote goes on as it is.

    Raises: PayloadCorrupt: no row for every image
    """
    try:
        text = predictions.decode()
        header, *rows = _quoted_lines(text) if '"' in text else text.split("\n")[:-1]
    except (ValueError, csv.Error) as error:
        raise PayloadCorrupt(f"The predictions file cannot be read: {error}.") from error
    cut = [row.partition(",") for row in rows]
    if [cell for cell, _, _ in cut] != default_image_ids(sum(origin.count for origin in origins)):
        raise PayloadCorrupt("The predictions file does not hold one row for each image of the batch, in its order.")
    lines = [f"{name},{rest}" for name, (_, _, rest) in zip(_names(origins, with_file=with_file), cut, strict=True)]
    return Rows((("file," if with_file else "") + header + "\n").encode(), "\n".join([*lines, ""]).encode())


def _quoted_lines(text: str) -> list[str]:
    """One line a record, though a label may run over line ends."""
    return [",".join(quote_cells(record)) for record in csv.reader(io.StringIO(text, newline="\n"), strict=True)]


def _names(origins: Sequence[Origin], *, with_file: bool) -> Iterator[str]:
    for origin in origins:
        first = origin.place.position
        names: Sequence[str] = [str(position) for position in range(first, first + origin.count)]
        if origin.image_ids is not None:
            names = quote_cells([own or name for own, name in zip(origin.image_ids, names, strict=True)])
        if with_file:
            (file,) = quote_cells([origin.file])
            names = [f"{file},{name}" for name in names]
        yield from names
