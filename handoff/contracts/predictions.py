"""The predictions file: what the model says of every image of a batch, as CSV."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from handoff.contracts.csv_cells import quote_cells
from handoff.contracts.errors import PayloadCorrupt

_COLUMNS = ("image_id", "label_id", "label", "probability")
_PREFIX = "probability_"

# Six decimals tell apart what float32 softmax outputs mean; a millionth is one unit below.
_UNIT = 1_000_000
# The two halves of a fixed-point number, looked up: "0.123" and "456,".
_HIGH = np.array([b"%d.%03d" % divmod(thousandth, 1000) for thousandth in range(1001)])
_LOW = np.array([b"%03d," % millionth for millionth in range(1000)])


@dataclass(frozen=True)
class PredictionTable:
    """A predictions file in memory.

    Shapes: image_ids, label_ids (int32) and labels N, the best label of each image; label_names K, the model's
        labels by id; probabilities float32 (N, K)
    """

    image_ids: list[str]
    label_ids: npt.NDArray[np.int32]
    labels: list[str]
    label_names: list[str]
    probabilities: npt.NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.image_ids)


def encode_predictions(
    image_ids: Sequence[str], probabilities: npt.NDArray[np.float32], labels: Sequence[str]
) -> bytes:
    """Write what the classifier said of each image, with six decimals.

    Shapes: N ids, (N, K) probabilities, K labels
    Raises: ValueError: shapes that do not fit each other, or a value that is no probability
    """
    if probabilities.shape != (len(image_ids), len(labels)):
        raise ValueError(f"{len(image_ids)} ids and {len(labels)} labels do not fit {probabilities.shape}.")
    texts = _fixed_point(probabilities)
    best = probabilities.argmax(axis=1)
    names = quote_cells(labels)
    header = ",".join([*_COLUMNS, *quote_cells([_PREFIX + label for label in labels])])
    width = texts.shape[1] * texts.itemsize
    rows = texts.tobytes().decode("ascii")
    best_texts = texts[np.arange(len(best)), best].tolist()
    lines = [
        f"{image_id},{label_id},{names[label_id]},{probability.decode()}{rows[start : start + width - 1]}"
        for image_id, label_id, probability, start in zip(
            quote_cells(image_ids), best.tolist(), best_texts, range(0, len(rows), width), strict=True
        )
    ]
    return "\n".join([header, *lines, ""]).encode()


def _fixed_point(probabilities: npt.NDArray[np.float32]) -> npt.NDArray[np.bytes_]:
    """Write each probability as nine characters: one digit, a point, six digits, a comma."""
    units = np.rint(probabilities.astype(np.float64) * _UNIT)
    # A softmax in float32 may end a unit above 1; NaN compares as False and is refused too.
    if not ((units >= -1) & (units <= _UNIT + 1)).all():
        raise ValueError("The classifier gave a value that is no probability.")
    high, low = np.divmod(units.clip(0, _UNIT).astype(np.int32), 1000)
    return np.char.add(_HIGH.take(high), _LOW.take(low))


def decode_predictions(data: bytes) -> PredictionTable:
    """Read a predictions file.

    Raises: PayloadCorrupt: it is not what `encode_predictions` writes
    """
    try:
        header, *rows = csv.reader(io.StringIO(data.decode(), newline="\n"), strict=True)
        label_names = _label_names(header)
        (_, *image_ids), (_, *label_ids), (_, *labels), _, *columns = zip(header, *rows, strict=True)
        probabilities = np.ascontiguousarray(np.array([cells[1:] for cells in columns], np.float32).T)
        table = PredictionTable(image_ids, np.array(label_ids, np.int32), labels, label_names, probabilities)
        _check_values(table)
        return table
    except (ValueError, OverflowError, csv.Error) as error:
        raise PayloadCorrupt(f"The predictions file cannot be read: {error}.") from error


def _check_values(table: PredictionTable) -> None:
    if not ((table.label_ids >= 0) & (table.label_ids < len(table.label_names))).all():
        raise ValueError("a label_id is none of its labels'")
    # NaN compares as False and is refused too.
    if not ((table.probabilities >= 0) & (table.probabilities <= 1)).all():
        raise ValueError("a probability is not from 0 to 1")


def _label_names(header: list[str]) -> list[str]:
    leading, names = tuple(header[: len(_COLUMNS)]), header[len(_COLUMNS) :]
    if leading != _COLUMNS or not names or not all(name.startswith(_PREFIX) for name in names):
        raise ValueError("its header is another")
    return [name.removeprefix(_PREFIX) for name in names]
