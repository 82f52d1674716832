"""Images from one format into another: idx, PNG folders, the batch CSV and npy, in every direction."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Literal, get_args

from fashion_client.converted_images import ImageSource
from fashion_client.image_writers import ImageWriter, open_writer
from fashion_client.label_writers import labels_beside, open_labels
from fashion_client.picture_writer import PictureWriter
from fashion_client.whole_outputs import WholeOutputs
from handoff.contracts.errors import DataSetUnavailable, SettingsInvalid
from handoff.image_files.kinds import kind_of_name
from handoff.progress import Progress

Format = Literal["idx", "png", "csv", "npy"]
FORMATS: tuple[Format, ...] = get_args(Format)


@dataclass(frozen=True)
class Target:
    """Where images go; `labels` is a file for labels that the format itself does not hold, or holds otherwise."""

    path: Path
    format: Format
    labels: Path | None = None
    overwrite: bool = False


@dataclass(frozen=True)
class Converted:
    """What came of a conversion."""

    image_count: int
    labels: Path | None
    """The file of labels that was written."""
    notes: list[str]
    """What the format could not keep, a sentence each."""


def format_of(output: str) -> Format:
    """Say of an output's name which format it means; a folder, or a name without an ending, means PNG files.

    Raises: SettingsInvalid: it means none
    """
    path = Path(output)
    if path.is_dir() or output.endswith("/"):
        return "png"
    match kind_of_name(path):
        case "idx" | "csv" | "npy" as format:
            return format
        case None if not path.suffix:
            return "png"
    raise SettingsInvalid(
        f"{path} names no format that is written: end it with .csv, .csv.gz, .npy, idx3-ubyte or idx3-ubyte.gz, name a"
        f" folder for PNG files, or choose one with --to {'|'.join(FORMATS)}."
    )


def convert(source: ImageSource, target: Target, *, progress: Progress | None = None) -> Converted:
    """Convert images; what is written gets its name when all of it is whole, and nothing is left where that fails.

    Raises: DataSetUnavailable: the images cannot be read, or the format does not hold them; SettingsInvalid: the
        output is there already, or cannot be written
    """
    labels_path = target.labels or (labels_beside(target.path) if target.format == "idx" else None)
    _refuse_same([source.path, source.labels], [target.path, labels_path])
    with WholeOutputs(overwrite=target.overwrite) as outputs:
        chunks = source.chunks()
        first = next(chunks)
        if first.labels is None and target.labels is not None:
            raise DataSetUnavailable(f"{source.path} has no labels to be written; name theirs with --labels.")
        labels = open_labels(labels_path, outputs) if labels_path is not None and first.labels is not None else None
        images = _open_images(source, target, outputs)
        image_count = 0
        for chunk in chain([first], chunks):
            images.write(chunk)
            if labels is not None:
                labels.write(chunk.labels or [""] * len(chunk))
            image_count += len(chunk)
            if progress is not None:
                progress.advance(len(chunk))
        notes = images.finish()
        if labels is not None:
            labels.finish()
        elif first.labels is not None and target.format == "npy":
            notes.append("The labels are left out: an npy file has none. --labels-output FILE keeps them.")
    return Converted(image_count, labels_path if labels is not None else None, notes)


def _open_images(source: ImageSource, target: Target, outputs: WholeOutputs) -> ImageWriter:
    if target.format != "png":
        return open_writer(target.path, outputs, target.format)
    first, _ = source.span
    return PictureWriter(target.path, outputs, last_place=None if source.count is None else first + source.count - 1)


def _refuse_same(inputs: Sequence[Path | None], outputs: Sequence[Path | None]) -> None:
    """Refuse to write over what is read, or two files over each other."""
    there = [path for path in inputs if path is not None and path.exists()]
    written = [path for path in outputs if path is not None]
    for output in written:
        if output.exists() and any(output.samefile(each) for each in there):
            raise SettingsInvalid(f"{output} is what is to be read; name another file.")
    if len({output.absolute() for output in written}) < len(written):
        raise SettingsInvalid(f"{written[0]} cannot be both the images and their labels; name another file for one.")
