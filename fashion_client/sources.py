"""Where a client's images come from: idx, CSV and npy files, and folders of PNG or JPEG files."""

from __future__ import annotations

import csv
import gzip
import math
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
import numpy.typing as npt

from handoff.contracts.batches import Batch
from handoff.contracts.errors import DataSetUnavailable
from handoff.contracts.idx import decode_idx

SAMPLE = Path(__file__).parent / "sample"
SAMPLE_IMAGES = SAMPLE / "images.idx3-ubyte.gz"
SAMPLE_LABELS = SAMPLE / "labels.idx1-ubyte.gz"

PICTURE_ENDINGS = frozenset({".png", ".jpg", ".jpeg"})
PIXEL_LEVELS = 256
GRAY_MODES = frozenset({"1", "L", "LA", "I", "I;16", "I;16B"})
RGB_CHANNELS = 3
GRAY_DIMENSIONS = 3


@dataclass(frozen=True)
class Image:
    """One image with what is known of it.

    Shapes: pixels uint8 (H, W, C)
    """

    pixels: npt.NDArray[np.uint8]
    image_id: str
    label: str = ""


def read_images(path: Path, *, labels: Path | None = None) -> Iterator[Image]:
    """Read images one after another from a file or a folder, told apart by name.

    Raises: DataSetUnavailable: nothing there, an unknown kind of file, or one that cannot be read
    """
    if not path.exists():
        raise DataSetUnavailable(
            f"There is no file or folder {path}; name images as idx, CSV or npy, or a folder of them."
        )
    name = path.name.removesuffix(".gz")
    if path.is_file() and path.suffix == ".npy":
        return _array_images(_read_npy(path), path, labels)
    if path.is_file() and ("idx" in name or name.endswith("ubyte")):
        return _array_images(_read_idx(path), path, labels)
    if labels is not None:
        raise DataSetUnavailable(f"--labels goes with idx and npy images; {path} says its labels itself, if it does.")
    if path.is_dir():
        return _folder_images(path)
    if name.endswith((".csv", ".txt")):
        return _csv_images(path)
    if path.suffix.lower() in PICTURE_ENDINGS:
        return iter([_picture(path, path.name, "")])
    raise DataSetUnavailable(f"{path} is no idx, .csv, .npy, .png or .jpg file; convert it, or name another.")


def count_images(path: Path) -> int | None:
    """Say how many images `read_images` will find, where that takes no reading of them all; None for CSV files."""
    if path.is_dir():
        return len(_pictures(path))
    name = path.name.removesuffix(".gz")
    if name.endswith(".npy"):
        return len(_read_npy(path))
    if name.endswith((".csv", ".txt")) or not ("idx" in name or name.endswith("ubyte")):
        return None
    return len(_read_idx(path))


def batches(images: Iterable[Image], *, size: int) -> Iterator[Batch]:
    """Join images to batches of `size`, the last one perhaps smaller.

    Raises: DataSetUnavailable: images of different shapes
    """
    images = iter(images)
    while run := list(islice(images, size)):
        shape = run[0].pixels.shape
        odd = next((image for image in run if image.pixels.shape != shape), None)
        if odd is not None:
            raise DataSetUnavailable(
                f"The image {odd.image_id} is {_shape(odd.pixels)}, {run[0].image_id} is {_shape(run[0].pixels)}; "
                "make all images the same size first."
            )
        labels = [image.label for image in run]
        yield Batch(
            np.stack([image.pixels for image in run]),
            [image.image_id for image in run],
            labels if any(labels) else None,
        )


def _array_images(array: npt.NDArray[np.uint8], path: Path, labels_path: Path | None) -> Iterator[Image]:
    if array.ndim not in {GRAY_DIMENSIONS, GRAY_DIMENSIONS + 1}:
        raise DataSetUnavailable(f"{path} must hold images, (N, H, W) or (N, H, W, C); its shape is {array.shape}.")
    if array.ndim == GRAY_DIMENSIONS:
        array = array[..., np.newaxis]
    labels = _read_labels(labels_path, len(array)) if labels_path else [""] * len(array)
    stem = path.name.partition(".")[0]
    for position, (pixels, label) in enumerate(zip(array, labels, strict=True)):
        yield Image(pixels, f"{stem}-{position}", label)


def _read_labels(path: Path, count: int) -> list[str]:
    array = _read_npy(path) if path.suffix == ".npy" else _read_idx(path)
    if array.ndim != 1 or len(array) != count:
        raise DataSetUnavailable(
            f"{path} holds {array.shape} labels for {count} images; name the file that belongs to them."
        )
    return [str(label) for label in array.tolist()]


def _read_idx(path: Path) -> npt.NDArray[np.uint8]:
    try:
        return decode_idx(path.read_bytes(), name=str(path))
    except OSError as error:
        raise DataSetUnavailable(f"{path} cannot be read: {error.strerror}.") from error


def _read_npy(path: Path) -> npt.NDArray[np.uint8]:
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise DataSetUnavailable(f"{path} is no .npy file of plain numbers: {error}.") from error
    if array.dtype.kind not in "ui" or (array.size and (array.min() < 0 or array.max() >= PIXEL_LEVELS)):
        raise DataSetUnavailable(f"{path} must hold integers from 0 to 255; it holds {array.dtype}.")
    found: npt.NDArray[np.uint8] = array.astype(np.uint8, copy=False)
    return found


def _csv_images(path: Path) -> Iterator[Image]:
    """Read rows of pixels below a header; `image_id` and `label` columns may stand among them."""
    try:
        opened = gzip.open if path.suffix == ".gz" else open
        with opened(path, "rt", newline="", encoding="utf-8-sig") as file:
            rows = csv.reader(file)
            header = [name.strip().lower() for name in next(rows, [])]
            pixel_columns = [column for column, name in enumerate(header) if name.startswith("pixel")]
            if not pixel_columns:
                raise DataSetUnavailable(f"{path} has no header with columns pixel_0, pixel_1 and so on; add one.")
            for number, row in enumerate(rows, 1):
                yield _csv_image(path, number, dict(zip(header, row, strict=False)), row, pixel_columns)
    except (OSError, EOFError, UnicodeDecodeError, csv.Error, zlib.error) as error:
        raise DataSetUnavailable(f"{path} cannot be read as CSV: {error}.") from error


def _csv_image(path: Path, number: int, named: dict[str, str], row: list[str], pixel_columns: list[int]) -> Image:
    try:
        pixels = np.array([int(row[column]) for column in pixel_columns])
    except (ValueError, IndexError) as error:
        raise DataSetUnavailable(
            f"{path}, row {number}: every pixel must be an integer from 0 to 255 ({error})."
        ) from error
    if pixels.min() < 0 or pixels.max() >= PIXEL_LEVELS:
        raise DataSetUnavailable(f"{path}, row {number}: every pixel must be an integer from 0 to 255.")
    identity = named.get("image_id") or f"{path.name.partition('.')[0]}-{number - 1}"
    return Image(pixels.astype(np.uint8).reshape(_shape_of(len(pixels))), identity, named.get("label", ""))


def _shape_of(pixel_count: int) -> tuple[int, int, int]:
    """Guess an image's shape from its size: square, gray or RGB; else one row, which a CSV request does not mind."""
    for channels in (1, RGB_CHANNELS):
        side = math.isqrt(pixel_count // channels)
        if side * side * channels == pixel_count:
            return side, side, channels
    return 1, pixel_count, 1


def _folder_images(folder: Path) -> Iterator[Image]:
    """Read pictures in the order of their names; the folder right above a picture, where there is one, is its label."""
    paths = _pictures(folder)
    if not paths:
        raise DataSetUnavailable(f"The folder {folder} holds no .png or .jpg files; name one that does.")
    for path in paths:
        inside = path.relative_to(folder)
        yield _picture(path, inside.as_posix(), inside.parent.name)


def _pictures(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.suffix.lower() in PICTURE_ENDINGS)


def _picture(path: Path, image_id: str, label: str) -> Image:
    from PIL import Image as Picture
    from PIL import UnidentifiedImageError

    try:
        with Picture.open(path) as picture:
            gray = picture.mode in GRAY_MODES
            if picture.mode.startswith("I"):  # 16 bits a pixel
                pixels = (np.asarray(picture).astype(np.int64) >> 8).clip(0, PIXEL_LEVELS - 1).astype(np.uint8)
            else:
                pixels = np.asarray(picture.convert("L" if gray else "RGB"), np.uint8)
    except (OSError, UnidentifiedImageError, Picture.DecompressionBombError) as error:
        raise DataSetUnavailable(f"{path} is no picture that can be read: {error}.") from error
    return Image(pixels[..., np.newaxis] if gray else pixels, image_id, label)


def _shape(pixels: npt.NDArray[np.uint8]) -> str:
    return "x".join(map(str, pixels.shape))
