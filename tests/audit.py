"""`make check`'s look for known vulnerabilities in what the lock files pin.

Findings fail. An index that does not answer, or has no such answers, is said and fails nothing: it says nothing about
this project. One package is asked about first, so that a silent index costs seconds.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).resolve().parents[1]
LOCKS = tuple(ROOT / "requirements" / name for name in ("run.lock", "dev.lock"))
# Both together stay under a minute.
PROBE_WITHIN_S = 10.0
WITHIN_S = 45.0
_PIN = re.compile(r"^[A-Za-z0-9._-]+==.*(?:\n {4}--hash=.*)+", re.MULTILINE)


class Verdict(NamedTuple):
    """What an audit came to."""

    audited: int
    findings: list[str]


def main() -> int:
    """Audit; the exit code of `make check`'s step."""
    with tempfile.TemporaryDirectory() as folder:
        probe = Path(folder, "probe.lock")
        probe.write_text(first_pin(LOCKS[0].read_text(encoding="utf-8")), encoding="utf-8")
        report = audit([probe], within_s=PROBE_WITHIN_S)
    if report is not None and verdict(report).audited:
        report = audit(LOCKS, within_s=WITHIN_S)
    found = Verdict(0, []) if report is None else verdict(report)
    if not found.audited:
        print("not audited: the index did not answer")  # noqa: T201 - a script
        return 0
    for finding in found.findings:
        print(finding)  # noqa: T201 - a script
    print(f"{found.audited} packages audited, {len(found.findings)} vulnerabilities known")  # noqa: T201 - a script
    return int(bool(found.findings))


def audit(locks: Sequence[Path], *, within_s: float) -> dict[str, Any] | None:
    """Have pip-audit ask the index about every pin; None where it did not answer in time, or not at all."""
    command = [sys.executable, "-m", "pip_audit", "--disable-pip", "--require-hashes", "--progress-spinner", "off"]
    command += ["--format", "json", "--timeout", "5", *(part for lock in locks for part in ("-r", str(lock)))]
    try:
        ended = subprocess.run(command, capture_output=True, timeout=within_s, check=False)
        report: dict[str, Any] = json.loads(ended.stdout)
    except (subprocess.TimeoutExpired, json.JSONDecodeError):
        return None
    return report


def verdict(report: dict[str, Any]) -> Verdict:
    """Read a report: how many packages were looked up, and a sentence for each vulnerability."""
    audited = [package for package in report["dependencies"] if "skip_reason" not in package]
    return Verdict(len(audited), [_sentence(package, known) for package in audited for known in package["vulns"]])


def first_pin(lock: str) -> str:
    """The first pinned package of a lock file, with its hashes."""
    found = _PIN.search(lock)
    if found is None:
        raise SystemExit("The lock file pins nothing; run `make lock`.")
    return found[0].rstrip(" \\\n") + "\n"


def _sentence(package: dict[str, Any], known: dict[str, Any]) -> str:
    fixed = ", ".join(known.get("fix_versions", [])) or "no version yet"
    return f"{package['name']} {package['version']}: {known['id']}, fixed in {fixed}"


if __name__ == "__main__":
    sys.exit(main())
