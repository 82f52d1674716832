"""The folders of versions that a TensorFlow Serving looks through: whole numbers, each written once."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from handoff.contracts.errors import SettingsInvalid

LARGEST_VERSION: Final = 2**63 - 1
"""TensorFlow Serving's versions are of type int64."""


def serving_version(name: str) -> int | None:
    """The version that a folder of this name is to TensorFlow Serving; None for a name that is no whole number."""
    version = int(name) if name.isascii() and name.isdigit() else LARGEST_VERSION + 1
    return version if version <= LARGEST_VERSION else None


def new_serving_folder(base: Path, version: int) -> Path:
    """The folder of a version that is still to be written.

    Raises: SettingsInvalid: it is there
    """
    folder = base / str(version)
    if folder.exists():
        raise SettingsInvalid(f"{folder} is there already; a server may be serving it, so name another version.")
    return folder
