"""File names made of what strangers call their images and labels: one name each, never a path."""

from __future__ import annotations

import re
import unicodedata

from handoff.image_files.kinds import PICTURE_ENDINGS

# Together with a number and an ending they fit the 255 bytes that ext4, XFS and APFS allow (NAME_MAX).
MAX_NAME_BYTES = 120
MAX_LABEL_BYTES = 80

NAMELESS = "unnamed"
"""What is called something of which no file name can be made."""

# Separators of some system, and what others or their shells do not take.
_REFUSED = frozenset('/\\:*?"<>|')
_SEPARATORS = re.compile(r"[/\\]+")


def file_name(text: str, *, most_bytes: int = MAX_NAME_BYTES) -> str:
    """Make a file name of a text: hidden files, paths, options and control characters are none.

    Texts that are such names already come back as they are; two others may well become the same.
    """
    text = unicodedata.normalize("NFC", text[:most_bytes])
    shown = "".join(each if each.isprintable() and each not in _REFUSED else "-" for each in text)
    return shown.encode()[:most_bytes].decode(errors="ignore").lstrip(" .-").rstrip(" .") or NAMELESS


def image_name(image_id: str) -> str:
    """Make a file name of an image's id: the last part of a path, without a picture's ending."""
    last = _SEPARATORS.split(image_id.rstrip("/\\"))[-1]
    stem, dot, ending = last.rpartition(".")
    return file_name(stem if f"{dot}{ending}".lower() in PICTURE_ENDINGS else last)


def label_name(label: str) -> str:
    """Make a file name, or a part of one, of a label."""
    return file_name(label, most_bytes=MAX_LABEL_BYTES)
