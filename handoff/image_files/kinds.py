"""Which kind of file or folder a path names."""

from __future__ import annotations

from pathlib import Path, PurePath
from typing import Literal

from handoff.contracts.errors import DataSetUnavailable

PICTURE_ENDINGS = frozenset({".png", ".jpg", ".jpeg"})

Kind = Literal["idx", "npy", "npz", "csv", "picture", "folder"]


def kind_of(path: Path) -> Kind:
    """Tell files apart by their names, gzip-compressed or not.

    Raises: DataSetUnavailable: nothing there, or a file of no known kind
    """
    try:
        is_folder, is_there = path.is_dir(), path.exists()
    except OSError as error:  # a folder above it that may not be entered, or a name that is too long
        raise DataSetUnavailable(f"{path} cannot be read: {error.strerror}; allow it, or name another.") from error
    if is_folder:
        return "folder"
    if not is_there:
        raise DataSetUnavailable(
            f"There is no file or folder {path}; name images as idx, CSV, npy or npz, or a folder of them."
        )
    kind = kind_of_name(path)
    if kind is None:
        raise DataSetUnavailable(f"{path} is no idx, .csv, .npy, .npz, .png or .jpg file; convert it, or name another.")
    return kind


def kind_of_name(path: PurePath) -> Kind | None:
    """Tell of a file by its name alone; None where that says nothing."""
    ending, name = path.suffix.lower(), path.name.lower().removesuffix(".gz")
    if ending == ".npy":
        return "npy"
    if ending == ".npz":
        return "npz"
    if name.endswith((".csv", ".txt")):
        return "csv"
    if "idx" in name or name.endswith("ubyte"):
        return "idx"
    return "picture" if ending in PICTURE_ENDINGS else None
