"""A folder of PNG files to which pictures are added: none twice, none over another, each whole or not at all.

A picture is written beside the others under a hidden name, flushed, then linked to its own name, which fails when the
name is taken: by the same picture, and then nothing is added, or by another one, and then the next number is tried.
"""

from __future__ import annotations

import hashlib
import os
import time
import uuid
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np
import numpy.typing as npt

from handoff.contracts.errors import SettingsInvalid
from handoff.durability import flush_folder, write_flushed
from handoff.image_files.pictures import encode_png, read_png

# Pictures made and flushed at a time, in as many threads: neither the encoder nor the disk needs the interpreter lock.
WRITERS = 4
_TOGETHER = 64

# 200 bytes each, with its name.
REMEMBERED_PICTURES = 100_000

_PARTIAL_PREFIX, _PARTIAL_SUFFIX = ".fashion-", ".partial"
# A partial file this old belongs to a writer that died; one takes milliseconds.
PARTIAL_LIFE_S = 3_600.0

Name = tuple[str, str]
"""What stands before the number and after it."""


@dataclass(frozen=True)
class NamedPicture:
    """A picture on its way into a folder; `name` and `label` are file names, the latter perhaps empty.

    Shapes: pixels uint8 (H, W, 1) or (H, W, 3)
    """

    pixels: npt.NDArray[np.uint8]
    name: str
    label: str = ""

    @cached_property
    def digest(self) -> bytes:
        """Tells pictures apart."""
        return _digest(self.pixels)


class PictureFolder:
    """Adds pictures as `<name>-<label>.png`, or `<name>-<number>-<label>.png` from 2 on; used as a `with` block."""

    def __init__(self, folder: Path) -> None:
        self.added_count = 0
        self.known_count = 0
        """Those that were there already."""
        self._folder = folder
        self._digests: dict[Name, list[bytes | None]] = {}
        self._remembered = 0

    def __enter__(self) -> Self:
        with self._written():
            self._folder.mkdir(parents=True, exist_ok=True)
            for path in self._folder.glob(f"{_PARTIAL_PREFIX}*{_PARTIAL_SUFFIX}"):
                with suppress(FileNotFoundError):  # finished meanwhile
                    if path.stat().st_mtime < time.time() - PARTIAL_LIFE_S:
                        path.unlink()
        self._writers = ThreadPoolExecutor(WRITERS, "picture")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._writers.shutdown()

    def add(self, pictures: Iterable[NamedPicture]) -> None:
        """Add those that are not there; on the disk when this returns.

        Raises: SettingsInvalid: the folder or its disk does not take them; what was added before stays
        """
        added_before, rest = self.added_count, iter(pictures)
        with self._written():
            while group := list(islice(rest, _TOGETHER)):
                self._add([picture for picture in group if not self._holds(picture)], len(group))
            if self.added_count > added_before:
                flush_folder(self._folder)

    def _add(self, fresh: Sequence[NamedPicture], count: int) -> None:
        partials = [self._folder / f"{_PARTIAL_PREFIX}{uuid.uuid4().hex}{_PARTIAL_SUFFIX}" for _ in fresh]
        try:
            writing = [self._writers.submit(_write, *pair) for pair in zip(partials, fresh, strict=True)]
            wait(writing)
            for written in writing:
                written.result()
            added = sum(self._give_name(picture, partial) for picture, partial in zip(fresh, partials, strict=True))
        finally:
            for partial in partials:
                partial.unlink(missing_ok=True)
        self.added_count += added
        self.known_count += count - added

    def _holds(self, picture: NamedPicture) -> bool:
        """Whether the very same picture is there under its name, with whatever number."""
        digests = self._known(picture)
        if picture.digest in digests:
            return True
        while os.path.lexists(path := self._path(picture, len(digests) + 1)):
            found = read_png(path)
            self._remember(digests, None if found is None else _digest(found))
            if digests[-1] == picture.digest:
                return True
        return False

    def _give_name(self, picture: NamedPicture, partial: Path) -> bool:
        """Give a picture the first number that is free; False where it turns out to be there."""
        while not self._holds(picture):
            digests = self._known(picture)
            with suppress(FileExistsError):  # another console was quicker: look what it has put there
                os.link(partial, self._path(picture, len(digests) + 1))
                self._remember(digests, picture.digest)
                return True
        return False

    def _known(self, picture: NamedPicture) -> list[bytes | None]:
        """The digests of the pictures of one name, by number; None for a file that is no such picture."""
        name = picture.name, picture.label
        if name not in self._digests:
            while self._remembered > REMEMBERED_PICTURES:  # what is forgotten is read again when it is needed
                self._remembered -= len(self._digests.pop(next(iter(self._digests))))
        return self._digests.setdefault(name, [])

    def _remember(self, digests: list[bytes | None], digest: bytes | None) -> None:
        digests.append(digest)
        self._remembered += 1

    def _path(self, picture: NamedPicture, number: int) -> Path:
        parts = [picture.name, str(number) if number > 1 else "", picture.label]
        return self._folder / ("-".join(filter(None, parts)) + ".png")

    @contextmanager
    def _written(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise SettingsInvalid(
                f"The pictures cannot be written to {self._folder}: {error.strerror}; make room or name another folder,"
                " then what was not written comes again."
            ) from error


def _write(path: Path, picture: NamedPicture) -> None:
    write_flushed(path, encode_png(picture.pixels))


def _digest(pixels: npt.NDArray[np.uint8]) -> bytes:
    digest = hashlib.blake2b(repr(pixels.shape).encode(), digest_size=16)
    digest.update(np.ascontiguousarray(pixels).data)
    return digest.digest()
