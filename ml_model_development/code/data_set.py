"""Fashion-MNIST as arrays, verified."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from handoff.contracts.errors import DataSetUnavailable
from handoff.contracts.idx import decompress_idx, parse_idx

LABELS = (
    "T-shirt/top",
    "Trouser",
    "Pullover",
    "Dress",
    "Coat",
    "Sandal",
    "Shirt",
    "Sneaker",
    "Bag",
    "Ankle boot",
)

# SHA-256 of the decompressed files: gzip files of other origins hold the same bytes under other checksums.
DIGESTS: Mapping[str, str] = MappingProxyType(
    {
        "train-images-idx3-ubyte": "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
        "train-labels-idx1-ubyte": "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
        "t10k-images-idx3-ubyte": "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
        "t10k-labels-idx1-ubyte": "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
    }
)


@dataclass(frozen=True)
class Split:
    """Images with their labels.

    Shapes: images uint8 (N, H, W, C), labels int64 (N,)
    """

    images: NDArray[np.uint8]
    labels: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, which: NDArray[np.int64] | slice) -> Split:
        """The images at these places, in their order."""
        return Split(self.images[which], self.labels[which])


@dataclass(frozen=True)
class DataSet:
    """The two published splits, and where they were found."""

    train: Split
    test: Split
    source: str
    labels: tuple[str, ...] = LABELS


def read_data_set(folder: Path, *, digests: Mapping[str, str] = DIGESTS) -> DataSet:
    """Read and verify the four IDX files of a folder, gzip-compressed or not.

    Raises: DataSetUnavailable: a file is missing, broken, or not the published one
    """
    return DataSet(_read_split(folder, "train", digests), _read_split(folder, "t10k", digests), str(folder))


def find_file(folder: Path, name: str) -> Path | None:
    """The file of this name in a folder, with or without `.gz`; None where there is neither."""
    return next((path for path in (folder / f"{name}.gz", folder / name) if path.is_file()), None)


def verify(content: bytes, digest: str, *, name: str) -> None:
    """Hold decompressed bytes to their published digest.

    Raises: DataSetUnavailable: they differ
    """
    if hashlib.sha256(content).hexdigest() != digest:
        raise DataSetUnavailable(
            f"{name} is not Fashion-MNIST's file as published (its digest differs); fetch it again."
        )


def _read_split(folder: Path, prefix: str, digests: Mapping[str, str]) -> Split:
    images = _read_file(folder, f"{prefix}-images-idx3-ubyte", digests)
    labels = _read_file(folder, f"{prefix}-labels-idx1-ubyte", digests)
    if images.ndim != 3 or labels.shape != images.shape[:1]:  # noqa: PLR2004 - (N, H, W)
        raise DataSetUnavailable(f"{prefix} images {images.shape} and labels {labels.shape} in {folder} do not match.")
    return Split(images[..., np.newaxis], labels.astype(np.int64))


def _read_file(folder: Path, name: str, digests: Mapping[str, str]) -> NDArray[np.uint8]:
    path = find_file(folder, name)
    if path is None:
        raise DataSetUnavailable(f"{folder} holds neither {name}.gz nor {name}; name a folder with all four IDX files.")
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise DataSetUnavailable(f"{path} cannot be read ({error.strerror}); check its permissions.") from error
    content = decompress_idx(raw, name=str(path))
    verify(content, digests[name], name=str(path))
    return parse_idx(content, name=str(path))
