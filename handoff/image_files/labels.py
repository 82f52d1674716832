"""Labels in files of their own."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from handoff.contracts.errors import DataSetUnavailable
from handoff.image_files.arrays import read_idx, read_npy
from handoff.image_files.kinds import kind_of
from handoff.image_files.lines import open_text


def read_labels(path: Path, *, label_column: str = "label") -> list[str]:
    """Read one label an image: an idx or npy file, a text with one a line, or the column `label_column` of a CSV file.

    Raises: DataSetUnavailable
    """
    if not path.exists():
        raise DataSetUnavailable(f"{path} cannot be read: there is no such file.")
    match kind_of(path):
        case "idx":
            return labels_of(read_idx(path), name=str(path))
        case "npy":
            return labels_of(read_npy(path), name=str(path))
        case "csv":
            return _read_text(path, label_column)
        case kind:
            raise DataSetUnavailable(f"{path} ({kind}) holds no labels alone; name an idx, .npy, .csv or .txt file.")


def labels_of(array: NDArray[Any], *, name: str) -> list[str]:
    """Take an array as labels, numbers as their digits.

    Shapes: (N,) or (N, 1), of integers, whole floats or text
    Raises: DataSetUnavailable
    """
    if array.ndim == 2 and array.shape[1] == 1:  # noqa: PLR2004 - as Keras' CIFAR-10 has them
        array = array[:, 0]
    if array.ndim != 1:
        raise DataSetUnavailable(f"{name} must hold one label an image, (N,); its shape is {array.shape}.")
    if array.dtype.kind == "f":
        if not (np.isfinite(array).all() and (array == np.trunc(array)).all()):
            raise DataSetUnavailable(f"{name} must hold integers or text as labels; it holds fractions or NaN.")
        array = array.astype(np.int64)
    if array.dtype.kind not in "iubU":
        raise DataSetUnavailable(f"{name} must hold integers or text as labels; it holds {array.dtype}.")
    return [str(label) for label in (array.astype(np.uint8) if array.dtype.kind == "b" else array).tolist()]


def _read_text(path: Path, label_column: str) -> list[str]:
    with open_text(path) as lines:
        rows = csv.reader(lines)
        header = next(rows, None)
        if not header:
            raise DataSetUnavailable(f"{path} is empty, or begins with an empty line; it must hold one label a line.")
        names = [name.strip().lower() for name in header]
        if label_column.strip().lower() in names:
            column, labels = names.index(label_column.strip().lower()), []
        elif len(header) == 1:
            column, labels = 0, list(header)
        else:
            raise DataSetUnavailable(
                f"{path} has no column {label_column!r} among {', '.join(name[:40] for name in header[:8])};"
                " name it with --label-column."
            )
        for number, row in enumerate(rows, 2):
            if len(row) != len(header):
                raise DataSetUnavailable(f"{path}, line {number}: {len(row)} cells, the first line has {len(header)}.")
            labels.append(row[column])
    return labels
