"""From a URL to the adapter its scheme names, and to the path that a local one names."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from types import ModuleType
from urllib.parse import urlsplit

from handoff.contracts.errors import MissingPackage, SettingsInvalid


def import_adapter(url: str, adapters: Mapping[str, str], *, kind: str) -> ModuleType:
    """Import the module that serves a URL's scheme; `kind` (broker, store) is for the sentence of a refusal.

    Raises: SettingsInvalid: unknown scheme; MissingPackage: the adapter's SDK is not installed
    """
    scheme = urlsplit(url).scheme
    if scheme not in adapters:
        known = ", ".join(f"{name}:" for name in adapters)
        raise SettingsInvalid(f"The {kind} URL {url!r} has an unknown scheme; use one of {known} (see README.md).")
    try:
        return import_module(adapters[scheme])
    except ModuleNotFoundError as error:
        raise MissingPackage(error.name or "?", needed_for=f"the {kind} {scheme}:") from error


def local_path(url: str) -> str | None:
    """The path of `scheme:///absolute` or `scheme:relative`; None where it names none, or another machine's."""
    # Not `urlsplit`: a folder's name may hold what ends the path of a web address, as `c#` does.
    path = url.partition(":")[2]
    if path.startswith("//"):
        path = path.removeprefix("//")
        path = path if path.startswith("/") else ""
    return path if path.strip("/") else None
