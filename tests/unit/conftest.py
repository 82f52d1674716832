"""What unit tests of the command lines share."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder to stand in, and a deployment in it."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FASHION_BROKER", f"embedded://{tmp_path}/queue.db")
    monkeypatch.setenv("FASHION_STORE", f"file://{tmp_path}/store")
    return tmp_path
