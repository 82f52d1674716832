"""What an audit of the lock files comes to."""

from __future__ import annotations

from typing import Any

import pytest

from tests import audit
from tests.audit import LOCKS, first_pin, verdict

CLEAN = {"name": "a", "version": "1", "vulns": []}
VULNERABLE = {"name": "b", "version": "2", "vulns": [{"id": "PYSEC-1", "fix_versions": ["2.1"]}]}
UNKNOWN = {"name": "c", "skip_reason": "Dependency not found on PyPI"}


def test_a_vulnerability_is_named_with_its_remedy() -> None:
    """Package, version, name of the vulnerability, and the version without it."""
    assert verdict({"dependencies": [CLEAN, VULNERABLE]}) == (2, ["b 2: PYSEC-1, fixed in 2.1"])
    assert verdict({"dependencies": [UNKNOWN]}) == (0, [])


@pytest.mark.parametrize(
    ("packages", "exit_code", "said"),
    [
        (None, 0, "not audited: the index did not answer\n"),
        ([UNKNOWN], 0, "not audited: the index did not answer\n"),
        ([CLEAN, UNKNOWN], 0, "1 packages audited, 0 vulnerabilities known\n"),
        ([VULNERABLE], 1, "b 2: PYSEC-1, fixed in 2.1\n1 packages audited, 1 vulnerabilities known\n"),
    ],
)
def test_findings_fail_and_silence_does_not(
    packages: list[dict[str, Any]] | None,
    exit_code: int,
    said: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """An index without answers is no reason to stop everybody's work, and is said."""
    report = None if packages is None else {"dependencies": packages}
    monkeypatch.setattr(audit, "audit", lambda *_, **__: report)
    assert audit.main() == exit_code
    assert capsys.readouterr().out == said


@pytest.mark.parametrize("lock", LOCKS, ids=lambda lock: lock.name)
def test_every_lock_file_can_be_asked_about(lock: Any) -> None:  # noqa: ANN401 - a path
    """Its first pin comes with the hashes that pip-audit wants."""
    pin = first_pin(lock.read_text())
    assert "==" in pin.splitlines()[0]
    assert "--hash=sha256:" in pin.splitlines()[-1]
