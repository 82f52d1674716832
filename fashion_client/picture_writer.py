"""Images into a folder of PNG files, a sub-folder a label."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from itertools import chain, count
from pathlib import Path, PurePosixPath

import numpy as np
import numpy.typing as npt

from fashion_client.converted_images import Chunk
from fashion_client.file_names import file_name, image_name
from fashion_client.whole_outputs import WholeOutputs, refusals
from handoff.contracts.errors import DataSetUnavailable
from handoff.contracts.images import excerpt
from handoff.durability import flush_folder, write_flushed
from handoff.image_files.kinds import PICTURE_ENDINGS
from handoff.image_files.pictures import encode_png
from handoff.image_files.pixels import check_shape

# Pictures made and flushed at a time, in as many threads.
_WRITERS = 4
_TOGETHER = 64

# Digits of a place where nobody knows how many images there are: enough to sort a hundred million names.
_MOST_DIGITS = 8

# Labels under other names that are told one by one.
_MOST_NOTES = 8


class PictureWriter:
    """Writes each image below its label's folder, called after its id; labels and ids become file names.

    An id that is a path whose last folder is the label stays that path, so a folder of pictures keeps its names.
    """

    def __init__(self, path: Path, outputs: WholeOutputs, *, last_place: int | None) -> None:
        """`last_place` is that of the last image in its source, where that is known."""
        self._path = path
        self._folder = outputs.make_folder(path)
        self._digits = _MOST_DIGITS if last_place is None else len(str(last_place))
        self._labels: dict[str, str] = {}
        """By the folder that stands for them."""
        self._made = {self._folder}
        self._renamed_count = 0
        self._writers = outputs.enter(ThreadPoolExecutor(_WRITERS, "picture"))

    def write(self, chunk: Chunk) -> None:
        """Write some pictures."""
        height, width, channels = chunk.pixels.shape[1:]
        check_shape((height, width, channels), name=f"{chunk.image_ids[0]} (the first of some)")
        ids = chunk.image_ids if chunk.is_named else [_padded(each, self._digits) for each in chunk.image_ids]
        labels = chunk.labels or [""] * len(chunk)
        for start in range(0, len(chunk), _TOGETHER):
            some = slice(start, start + _TOGETHER)
            with refusals(self._path):
                places: dict[Path, None] = {}
                for image_id, label in zip(ids[some], labels[some], strict=True):
                    places[self._place(image_id, self._label_folder(label), taken=places)] = None
                for _ in self._writers.map(_write, places, chunk.pixels[some]):
                    pass

    def finish(self) -> list[str]:
        """Flush the folders."""
        with refusals(self._path):
            for folder in self._made:
                flush_folder(folder)
        changed = sorted((label, name) for name, label in self._labels.items() if name != label)
        notes = [f"The label {excerpt(label)} is the folder {name}." for label, name in changed[:_MOST_NOTES]]
        if len(changed) > _MOST_NOTES:
            notes.append(f"So are {len(changed) - _MOST_NOTES} more labels folders of other names.")
        if self._renamed_count:
            notes.append(f"{self._renamed_count} images got a number, for another one had their name.")
        return notes

    def _place(self, image_id: str, folder: str, *, taken: dict[Path, None]) -> Path:
        """Choose a file that is not there yet, and make its folder."""
        path = self._folder / (_kept_path(image_id, folder) or PurePosixPath(folder, f"{image_name(image_id)}.png"))
        for above in reversed(path.relative_to(self._folder).parents):
            if self._folder / above not in self._made:
                (self._folder / above).mkdir(exist_ok=True)
                self._made.add(self._folder / above)
        others = (path.with_stem(f"{path.stem}-{number}") for number in count(2))
        free = next(each for each in chain([path], others) if not (each in taken or os.path.lexists(each)))
        self._renamed_count += free != path
        return free

    def _label_folder(self, label: str) -> str:
        if not label:
            return ""
        name = file_name(label)
        other = self._labels.setdefault(name, label)
        if other != label:
            raise DataSetUnavailable(
                f"The labels {excerpt(other)} and {excerpt(label)} would both be the folder {name}; rename one."
            )
        return name


def _kept_path(image_id: str, folder: str) -> PurePosixPath | None:
    """The path that an image's id already is, where reading it gives the same label again."""
    path = PurePosixPath(image_id)
    if path.suffix.lower() not in PICTURE_ENDINGS or path.parent.name != folder or path.is_absolute():
        return None
    return path.with_suffix(".png") if all(file_name(part) == part for part in path.parts) else None


def _padded(image_id: str, digits: int) -> str:
    """Give an image's place so many digits that names sort as the images stand."""
    head, dash, place = image_id.rpartition("-")
    return f"{head}{dash}{place:0>{digits}}"


def _write(path: Path, pixels: npt.NDArray[np.uint8]) -> None:
    write_flushed(path, encode_png(pixels))
