"""Which objects a store may touch: those below its root, spelled in exactly one way."""

from __future__ import annotations

import unicodedata

from handoff.contracts.errors import PayloadForbidden

# The longest object name Cloud Storage takes, in UTF-8: https://cloud.google.com/storage/docs/objects#naming
MAX_KEY_BYTES = 1024
# The longest file name ext4, XFS and APFS take (NAME_MAX).
MAX_SEGMENT_BYTES = 255

# `%` could hide a dot or a slash from one reader and not from the next; `?` and `#` end a path for some readers;
# a backslash separates segments on Windows and in browsers.
_REFUSED_CHARACTERS = frozenset("%?#\\")
# Control characters, lone surrogates, and the line and paragraph separators that would split a log line.
_REFUSED_CATEGORIES = frozenset({"Cc", "Cs", "Zl", "Zp"})


def key_below(root: str, uri: str) -> str:
    """Say which object below `root` a URI names, without the slash between them.

    The URI has to begin with the root as it is written, and nothing in the rest is decoded or normalised, so that no
    two readers can disagree about what it means.

    Raises: PayloadForbidden: the URI lies elsewhere, or could be read as lying elsewhere
    """
    key = _after_root(root, uri)
    if not key:
        raise PayloadForbidden(f"{_shown(uri)} names the store itself, not an object in it")
    _check(key, uri)
    return key


def prefix_below(root: str, prefix: str) -> str:
    """Say with what the keys of a listing begin: `""` for the root itself; a trailing slash is kept.

    Raises: PayloadForbidden: as `key_below`
    """
    if prefix == root.rstrip("/"):
        return ""
    key = _after_root(root, prefix)
    if key:
        _check(key.removesuffix("/"), prefix)
    return key


def _after_root(root: str, uri: str) -> str:
    inside = root.rstrip("/") + "/"
    if not uri.startswith(inside):
        raise PayloadForbidden(f"{_shown(uri)} lies outside the store {root}")
    return uri[len(inside) :]


def _check(key: str, uri: str) -> None:
    if any(c in _REFUSED_CHARACTERS or unicodedata.category(c) in _REFUSED_CATEGORIES for c in key):
        raise PayloadForbidden(f"{_shown(uri)} holds a character that no object's address may hold")
    segments = key.split("/")
    if any(segment in {"", ".", ".."} for segment in segments):
        raise PayloadForbidden(f"{_shown(uri)} holds an empty or relative segment")
    if len(key.encode()) > MAX_KEY_BYTES or any(len(segment.encode()) > MAX_SEGMENT_BYTES for segment in segments):
        raise PayloadForbidden(f"{_shown(uri)} is longer than a store can keep")


def _shown(uri: str) -> str:
    """Quote a stranger's text for a sentence or a log line: escaped, and never long."""
    return ascii(uri if len(uri) <= 120 else uri[:117] + "...")  # noqa: PLR2004 - a line of a terminal
