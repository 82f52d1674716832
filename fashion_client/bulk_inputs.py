"""What a bulk classification reads: files, folders and objects of the store, in a fixed order."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory

import msgspec

from fashion_client.image_blocks import Block, Reading, picture_names, read_file, read_pictures
from handoff.contracts.errors import DataSetUnavailable, PayloadForbidden, PayloadNotFound, PayloadTooLarge
from handoff.contracts.objects import REQUESTS_FOLDER, RESULTS_FOLDER
from handoff.contracts.protocols import ObjectInfo, Store
from handoff.image_files.blocks import open_image_array
from handoff.image_files.kinds import kind_of, kind_of_name

# Written by clients and workers: never somebody's images.
_OWN_FOLDERS = (f"{REQUESTS_FOLDER}/", f"{RESULTS_FOLDER}/")


@dataclass(frozen=True)
class Input:
    """One file, one folder of pictures, or one object of the store."""

    name: str
    """As it was given; an object's URI."""
    mark: tuple[str, int, int]
    """What changes when it does: address, size in bytes, time of change in nanoseconds."""
    is_object: bool = False
    pictures: Sequence[str] | None = field(default=None, repr=False)
    """The names of a folder's pictures below it."""


@dataclass(frozen=True)
class Inputs:
    """Every input of a job, in order."""

    every: Sequence[Input]
    store: Store = field(repr=False)
    max_object_bytes: int
    has_several: bool
    """Whether the output has to say which file an image is of."""

    @property
    def digest(self) -> str:
        """Changes when an input does."""
        return hashlib.sha256(msgspec.json.encode([each.mark for each in self.every])).hexdigest()

    def blocks(self, place: int, reading: Reading, *, start: int, most: int) -> Iterator[Block]:
        """Read one input from its image `start` on.

        Raises: DataSetUnavailable
        """
        found = self.every[place]
        if found.pictures is not None:
            yield from read_pictures(Path(found.name), found.pictures, reading, start=start)
        elif not found.is_object:
            yield from read_file(Path(found.name), reading, start=start, most=most)
        else:
            with self._fetched(found) as path:
                for block in read_file(path, reading, start=start, most=most):
                    said = None if block.unreadable is None else block.unreadable.replace(str(path), found.name)
                    yield dataclasses.replace(block, unreadable=said)

    @contextmanager
    def _fetched(self, found: Input) -> Iterator[Path]:
        """Hold an object as a file, so that it is read like one; whatever is said of it names the object."""
        with TemporaryDirectory(prefix="fashion-classify-") as folder:
            path = Path(folder, PurePosixPath(found.name).name)
            try:
                path.write_bytes(self.store.read(found.name, max_bytes=self.max_object_bytes))
                yield path
            except (PayloadNotFound, PayloadTooLarge) as error:
                raise DataSetUnavailable(f"{error} It has changed since this job began.") from error
            except DataSetUnavailable as error:
                raise DataSetUnavailable(str(error).replace(str(path), found.name)) from error


def find_inputs(names: Sequence[str], store: Store, *, max_object_bytes: int) -> Inputs:
    """Find what each name stands for: a file, a folder, or the objects of the store whose URI begins with it.

    Raises: DataSetUnavailable: nothing there, of no known kind, or an object too large to be read; StoreUnavailable
    """
    every: list[Input] = []
    for name in names:
        every += _objects(name, store, max_object_bytes) if _is_uri(name) else [_local(Path(name))]
    return Inputs(every, store, max_object_bytes, has_several=len(names) > 1 or any(map(_is_uri, names)))


def count_images(inputs: Inputs) -> tuple[int | None, bool]:
    """Say how many images there are where that takes no reading of them all, and whether that is an estimate."""
    counts = [(None, False) if each.is_object else _count(each) for each in inputs.every]
    known = [count for count, _ in counts if count is not None]
    if len(known) < len(counts):
        return None, False
    return sum(known), any(estimated for _, estimated in counts)


def _is_uri(name: str) -> bool:
    return "://" in name


def _local(path: Path) -> Input:
    address = str(path.resolve())
    if kind_of(path) != "folder":
        found = path.stat()
        return Input(str(path), (address, found.st_size, found.st_mtime_ns))
    pictures = picture_names(path)
    digest, size_bytes, newest = hashlib.sha256(), 0, 0
    for name in pictures:
        found = (path / name).stat()
        digest.update(f"{name}\0{found.st_size}\0{found.st_mtime_ns}\0".encode(errors="surrogateescape"))
        size_bytes, newest = size_bytes + found.st_size, max(newest, found.st_mtime_ns)
    return Input(str(path), (f"{address}#{digest.hexdigest()}", size_bytes, newest), pictures=pictures)


def _objects(prefix: str, store: Store, max_object_bytes: int) -> list[Input]:
    try:
        listed = [found for found in store.list(prefix) if _is_input(found, store.root)]
    except PayloadForbidden as error:
        raise DataSetUnavailable(f"{error}; name a prefix below it, or another store with --store.") from error
    if not listed:
        raise DataSetUnavailable(f"No object of a known kind (idx, .csv, .npy, .npz, .png, .jpg) lies below {prefix}.")
    large = next((found for found in listed if found.size_bytes > max_object_bytes), None)
    if large is not None:
        raise DataSetUnavailable(
            f"The object {large.uri} has {large.size_bytes} bytes; at most {max_object_bytes} (worker.max_batch_bytes)"
            " are read of one: divide it, or copy it here and name the file."
        )
    return [Input(found.uri, (found.uri, found.size_bytes, 0), is_object=True) for found in listed]


def _is_input(found: ObjectInfo, root: str) -> bool:
    key = found.uri.removeprefix(root).lstrip("/")
    return not key.startswith(_OWN_FOLDERS) and kind_of_name(PurePosixPath(key)) is not None


def _count(found: Input) -> tuple[int | None, bool]:
    path = Path(found.name)
    if found.pictures is not None:
        return len(found.pictures), False
    match kind_of(path):
        case "csv":
            return _estimate_rows(path), True
        case "idx" | "npy" | "npz" as kind:
            return len(open_image_array(path, kind)), False
    return 1, False


def _estimate_rows(path: Path) -> int | None:
    """Estimate from the length of the first rows; None for a compressed file."""
    if path.suffix == ".gz":
        return None
    with path.open("rb") as file:
        header_bytes = len(file.readline())
        sample = file.read(1 << 20)
    rows = sample.count(b"\n")
    return None if not rows else round((path.stat().st_size - header_bytes) * rows / (sample.rindex(b"\n") + 1))
