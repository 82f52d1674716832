"""A small dose of `make chaos`: workers, client and broker killed at random while requests flow."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from chaos.run import SERVER_ABSENT
from tests.e2e.programs import REPOSITORY

CHAOS = REPOSITORY / "chaos" / "run.py"
WITHIN_S = 280.0


@pytest.mark.timeout(300)
@pytest.mark.parametrize(("broker", "kills", "requests"), [("embedded", 8, 600), ("pubsub", 5, 150)])
def test_every_request_is_answered_and_shown_once(broker: str, kills: int, requests: int) -> None:
    """As on a calm day, byte for byte, with nothing left behind; the last line says so as JSON."""
    command = [sys.executable, str(CHAOS), "--broker", broker, "--kills", str(kills), "--requests", str(requests)]
    run = subprocess.run(command, capture_output=True, text=True, timeout=WITHIN_S, check=False)
    if run.returncode == SERVER_ABSENT and os.environ.get("CI") != "true":
        pytest.skip(run.stderr)
    assert run.returncode == 0, run.stdout + run.stderr
    figures = json.loads(run.stdout.splitlines()[-1])
    assert {"kills": kills, "requests": requests, "answered": requests}.items() <= figures.items()
    assert {"lost": 0, "shown_twice": 0, "failed": 0, "differing": 0, "orphans": 0}.items() <= figures.items()
    assert set(figures["drained"]) == {0}
