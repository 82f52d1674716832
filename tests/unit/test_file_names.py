"""File names made of what strangers call their images."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fashion_client.file_names import MAX_LABEL_BYTES, MAX_NAME_BYTES, NAMELESS, file_name, image_name, label_name

HOSTILE = [
    "..",
    ".",
    "",
    "/",
    "../../etc/passwd",
    "/etc/passwd",
    "C:\\Windows\\system32",
    "a/../b",
    ".ssh",
    "-rf",
    "a\x00b",
    "a\nb",
    "\x1b[2J",
    "\u202egnp.exe",
    "\ud800",
    "x" * 5000,
    "\u00e4" * 5000,
    "\U0001f45f" * 300,
    "a" * 119 + "\u00e4",
    "~",
    "$(reboot)",
    "con<>:|?*",
    " . . ",
    "a\u2028b",
]


def check_harmless(name: str, most_bytes: int) -> None:
    """One name of one file, shown as it is, neither hidden nor an option."""
    assert 0 < len(name.encode()) <= most_bytes
    assert name.isprintable()
    assert not set(name) & set('/\\:*?"<>|')
    assert name[0] not in " .-"
    assert name[-1] not in " ."


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_names_become_harmless_ones(tmp_path: Path, text: str) -> None:
    """And a file of that name lies in the folder that was meant."""
    for name, most_bytes in ((image_name(text), MAX_NAME_BYTES), (label_name(text), MAX_LABEL_BYTES)):
        check_harmless(name, most_bytes)
        (tmp_path / f"{name}.png").touch()
    assert {Path(each).parent for each in map(os.fspath, tmp_path.iterdir())} == {tmp_path}


@given(st.text(st.characters()))
def test_whatever_the_text_the_name_is_harmless(text: str) -> None:
    """And making a name of it once more changes nothing."""
    name = file_name(text)
    check_harmless(name, MAX_NAME_BYTES)
    assert file_name(name) == name
    check_harmless(image_name(text), MAX_NAME_BYTES)


@pytest.mark.parametrize(
    ("image_id", "name"),
    [
        ("images-0", "images-0"),
        ("shoes/a.png", "a"),
        ("shoes/old/b.JPEG", "b"),
        ("a.v2", "a.v2"),
        ("jumper, green", "jumper, green"),
        ("C:\\photos\\c.jpg", "c"),
        (".png", NAMELESS),
        ("folder/", "folder"),
    ],
)
def test_an_image_is_called_by_the_last_part_of_its_id(image_id: str, name: str) -> None:
    """Without a picture's ending: another one follows."""
    assert image_name(image_id) == name


def test_a_label_keeps_its_words() -> None:
    """Only what separates folders is replaced."""
    assert label_name("T-shirt/top") == "T-shirt-top"
    assert label_name("Ankle boot") == "Ankle boot"
