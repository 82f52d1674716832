"""The one place where a store's URL scheme is tied to its adapter."""

from __future__ import annotations

from importlib import import_module
from typing import cast
from urllib.parse import urlsplit

from handoff.contracts.errors import MissingPackage, SettingsInvalid
from handoff.contracts.protocols import Store

ADAPTERS = {
    "file": "handoff.stores.file",
    "gs": "handoff.stores.gcs",
}


def open_store(url: str) -> Store:
    """Connect to the object store a URL names; only its adapter, and so only its vendor's SDK, is imported.

    Raises: SettingsInvalid: unknown scheme or unusable URL; MissingPackage: its SDK is not installed
    """
    scheme = urlsplit(url).scheme
    if scheme not in ADAPTERS:
        known = ", ".join(f"{name}:" for name in ADAPTERS)
        raise SettingsInvalid(f"The store URL {url!r} has an unknown scheme; use one of {known} (see README.md).")
    try:
        adapter = import_module(ADAPTERS[scheme])
    except ModuleNotFoundError as error:
        raise MissingPackage(error.name or "?", needed_for=f"the store {scheme}:") from error
    return cast("Store", adapter.connect(url))
