"""The one place where a store's URL scheme is tied to its adapter."""

from __future__ import annotations

from typing import cast

from handoff.adapters import import_adapter
from handoff.contracts.protocols import Store

ADAPTERS = {
    "file": "handoff.stores.file",
    "gs": "handoff.stores.gcs",
}


def open_store(url: str) -> Store:
    """Connect to the object store a URL names; only its adapter, and so only its vendor's SDK, is imported.

    Raises: SettingsInvalid: unknown scheme or unusable URL; MissingPackage: its SDK is not installed
    """
    return cast("Store", import_adapter(url, ADAPTERS, kind="store").connect(url))
