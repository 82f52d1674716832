"""Labels into files of their own, which `--labels` reads again: idx, npy, or a text with one a line."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import numpy as np

from fashion_client.image_writers import ArrayFile, open_text
from fashion_client.whole_outputs import WholeOutputs, refusals
from handoff.contracts.csv_cells import quote_cells
from handoff.contracts.errors import DataSetUnavailable, SettingsInvalid
from handoff.contracts.idx import idx_header
from handoff.contracts.images import excerpt
from handoff.image_files.kinds import kind_of_name

_BYTES = frozenset(map(str, range(256)))


class LabelWriter(Protocol):
    """Writes labels, in the order of their images."""

    def write(self, labels: Sequence[str]) -> None:
        """Write some labels.

        Raises: DataSetUnavailable: the format does not hold them; SettingsInvalid: the disk does not take them
        """

    def finish(self) -> None:
        """Complete what was written."""


class IdxLabels:
    """Labels as unsigned bytes."""

    def __init__(self, path: Path, outputs: WholeOutputs) -> None:
        self._file = ArrayFile(path, outputs, header=idx_header, packed=path.suffix == ".gz")

    def write(self, labels: Sequence[str]) -> None:
        """Write some labels."""
        other = next((label for label in labels if label not in _BYTES), None)
        if other is not None:
            said = excerpt(other) if other else "an image has none"
            raise DataSetUnavailable(
                f"An idx file holds labels from 0 to 255 ({said}); keep these with --labels-output labels.txt."
            )
        self._file.write(np.array(labels, np.uint8))

    def finish(self) -> None:
        """Complete the file."""
        self._file.finish()


class NpyLabels:
    """Labels as integers where all are, else as text; they are held until the end."""

    def __init__(self, path: Path, outputs: WholeOutputs) -> None:
        self._path = path
        self._file = outputs.open(path)
        self._labels: list[str] = []

    def write(self, labels: Sequence[str]) -> None:
        """Keep some labels."""
        self._labels += labels

    def finish(self) -> None:
        """Write the file."""
        are_numbers = all(label in _BYTES for label in self._labels)
        with refusals(self._path):
            np.save(self._file, np.array(self._labels, np.int64 if are_numbers else np.str_), allow_pickle=False)


class TextLabels:
    """One label a line below the heading `label`, quoted as CSV."""

    def __init__(self, path: Path, outputs: WholeOutputs) -> None:
        self._path = path
        self._file, self._is_packed = open_text(path, outputs)
        self._is_begun = False

    def write(self, labels: Sequence[str]) -> None:
        """Write some lines."""
        # A line without anything would be none at all.
        lines = ["label"] * (not self._is_begun) + [cell or '""' for cell in quote_cells(labels)]
        self._is_begun = True
        try:
            data = "\n".join([*lines, ""]).encode()
        except UnicodeEncodeError as error:
            raise DataSetUnavailable("A label is no text that a file could hold; rename its folder.") from error
        with refusals(self._path):
            self._file.write(data)

    def finish(self) -> None:
        """Complete the file."""
        if self._is_packed:
            with refusals(self._path):
                self._file.close()


def open_labels(path: Path, outputs: WholeOutputs) -> LabelWriter:
    """Open a file for labels, of the format that its name says.

    Raises: SettingsInvalid: it says none
    """
    match kind_of_name(path):
        case "idx":
            return IdxLabels(path, outputs)
        case "npy":
            return NpyLabels(path, outputs)
        case "csv":
            return TextLabels(path, outputs)
        case _:
            raise SettingsInvalid(f"{path} is no idx, .npy, .csv or .txt file, which labels can be kept in.")


def labels_beside(images: Path) -> Path:
    """Name the file of labels that goes with an idx file of images, as those of Fashion-MNIST are named."""
    name = images.name.replace("images", "labels").replace("idx3", "idx1").replace("idx4", "idx1")
    return images.with_name(name if name != images.name else f"labels-{name}")
