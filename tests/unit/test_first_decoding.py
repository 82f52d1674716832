"""Threads that read messages for the first time at once: a worker's do, when it starts and after an outage."""

from __future__ import annotations

import subprocess
import sys

# Each is a process of its own, for what is known of a class is written down once.
PROCESSES = 12

THREADS = """
import sys, threading
from handoff.contracts.envelope import parse_request, parse_response
from handoff.contracts.errors import MalformedMessage
from handoff.contracts.manifest import decode_manifest
from handoff.contracts.errors import ArtifactInvalid
from handoff.contracts.messages import REQUEST_TYPE, RESPONSE_TYPE
from handoff.contracts.protocols import Message

sys.setswitchinterval(1e-6)
together = threading.Barrier(8)

def read():
    together.wait(30)
    for parse, kind in ((parse_response, RESPONSE_TYPE), (parse_request, REQUEST_TYPE)):
        try:
            parse(Message(b'{"request_id": "r-1", "status": "succeeded", "format": "csv"}', {"ce-type": kind}))
        except MalformedMessage:
            pass
    try:
        decode_manifest(b'{"manifest_version": 1, "labels": ["a", "b"]}')
    except ArtifactInvalid:
        pass

threads = [threading.Thread(target=read) for _ in range(8)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
"""


def test_threads_may_be_the_first_together() -> None:
    """About one process in five crashed, where each thread had msgspec look at the class."""
    for _ in range(PROCESSES):  # one after another, for beside others threads are seldom at the same place
        ended = subprocess.run([sys.executable, "-c", THREADS], capture_output=True, timeout=60, check=False)
        assert (ended.returncode, ended.stderr) == (0, b"")
