"""A file that lies still, read once: the pixels that are published, and by what its bytes are known again."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np
import numpy.typing as npt

from fashion_client.image_blocks import Reading
from fashion_client.watch_plan import Plan, WatchedFile
from fashion_client.watch_scan import Identity, identify, identity_of
from fashion_client.watch_settling import Sighting
from handoff.contracts.errors import DataSetUnavailable
from handoff.contracts.images import MAX_NAME_LENGTH, Batch
from handoff.contracts.sentences import as_sentence
from handoff.image_files.endings import reaches_end
from handoff.image_files.pictures import decode_picture

# The largest picture that is taken without a size, 4096x4096 in colour, is 50 MB when nothing is compressed.
MAX_FILE_BYTES = 256 * 1024 * 1024


@dataclass(frozen=True)
class Picture:
    """A file that holds an image; `is_whole` where it is there to its end mark too.

    Shapes: pixels uint8 (H, W, C)
    """

    file: WatchedFile
    pixels: npt.NDArray[np.uint8]
    is_whole: bool = True


@dataclass(frozen=True)
class Broken:
    """A file that holds none: not yet, or never."""

    reason: str


@dataclass(frozen=True)
class Changed:
    """A file that is another than the one that lay still, is gone, or could not be read just now (`fault`)."""

    fault: str = ""


Found = Picture | Broken | Changed


def read_found(folder: Path, sighting: Sighting, *, reading: Reading, labelled: bool) -> Found:
    """Read a file that lies still."""
    try:
        return _read(folder / sighting.name, sighting, reading=reading, labelled=labelled)
    except PermissionError as error:
        return Broken(f"{sighting.name} cannot be read: {error.strerror}.")
    except OSError as error:
        is_gone = isinstance(error, FileNotFoundError)
        return Changed("" if is_gone else f"{folder / sighting.name} cannot be read just now: {error.strerror}.")


def batch_of(pictures: Sequence[Picture]) -> Batch:
    """Join pictures of one shape; their names are the ids."""
    labels = [picture.file.label for picture in pictures]
    return Batch(
        np.stack([picture.pixels for picture in pictures]),
        [picture.file.name for picture in pictures],
        labels if any(labels) else None,
    )


def read_again(folder: Path, plan: Plan) -> Batch | None:
    """Read the images of a request that was begun; None where a file is gone, or has other bytes.

    Raises: OSError: the folder does not answer
    """
    pictures = []
    for file in plan.files:
        found = identify(folder / file.name)
        data = None if found is None or found[:2] != file.identity[:2] else _read_bytes(folder / file.name, found)
        if data is None or hashlib.sha256(data).hexdigest() != file.sha256:
            return None
        try:
            pictures.append(Picture(file, _decode(data, file.name, plan.reading)))
        except DataSetUnavailable:  # these bytes did decode: with another release of the decoder
            return None
    is_one_shape = len({picture.pixels.shape for picture in pictures}) == 1
    return batch_of(pictures) if is_one_shape else None


def _read(path: Path, sighting: Sighting, *, reading: Reading, labelled: bool) -> Found:
    fault = _name_fault(sighting.name)
    if fault:
        return Broken(fault)
    if sighting.identity.size_bytes > MAX_FILE_BYTES:
        size_bytes = sighting.identity.size_bytes
        return Broken(f"{sighting.name} has {size_bytes} bytes; at most {MAX_FILE_BYTES} are read.")
    data = _read_bytes(path, sighting.identity)
    if data is None:
        return Changed()
    try:
        pixels = _decode(data, sighting.name, reading)
    except DataSetUnavailable as error:
        return Broken(str(error))
    size_bytes, mtime_ns, inode = sighting.identity
    file = WatchedFile(
        name=sighting.name,
        size_bytes=size_bytes,
        mtime_ns=mtime_ns,
        inode=inode,
        sha256=hashlib.sha256(data).hexdigest(),
        label=PurePosixPath(sighting.name).parent.name if labelled else "",
    )
    return Picture(file, pixels, is_whole=reaches_end(data))


def _decode(data: bytes, name: str, reading: Reading) -> npt.NDArray[np.uint8]:
    return decode_picture(data, name=name, size=reading.size, channels=reading.channels)


def _name_fault(name: str) -> str:
    """Why a name can be no image's id."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return f"The name {as_sentence(name)} is no UTF-8, so that no response could name the file; rename it."
    if len(name) > MAX_NAME_LENGTH:
        return f"The name {as_sentence(name)} has {len(name)} characters; at most {MAX_NAME_LENGTH} are taken."
    return ""


def _read_bytes(path: Path, identity: Identity) -> bytes | None:
    """Read a file whole; None where it is another than the one expected, before or after.

    Raises: OSError
    """
    # No link is followed, and a pipe that took the name holds nobody up.
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    with open(descriptor, "rb") as file:  # noqa: PTH123 - it is open already
        if identity_of(os.fstat(descriptor)) != identity:
            return None
        data = file.read(identity.size_bytes)
        return data if identity_of(os.fstat(descriptor)) == identity and len(data) == identity.size_bytes else None
