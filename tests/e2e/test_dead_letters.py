"""An operator's way with dead letters: see why, remove the cause, have them answered; and drop what is hopeless."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from classifiers.protocol import Images
from fashion_client.client import Client
from handoff.contracts.errors import ExitCode
from handoff.contracts.objects import response_uri
from handoff.contracts.protocols import Broker, Limits, Message, Store
from handoff.contracts.topology import Topology
from tests.conformance.consumer import Consumer
from tests.e2e.broken_batch import BrokenBatch
from tests.e2e.conftest import Start
from tests.e2e.programs import REPOSITORY, Program, script

Sample = tuple[Images, list[str]]

# Every command waits for a silence, up to ten seconds with its start and end.
pytestmark = pytest.mark.timeout(300)


class Operator:
    """Runs `fashion dead-letters` as somebody in a console does."""

    def __init__(self, start: Start) -> None:
        self._start = start
        self._count = 0

    def run(self, *arguments: str, code: ExitCode = ExitCode.OK) -> Program:
        """Run a command to its end."""
        self._count += 1
        command = script(REPOSITORY / "fashion.py", "dead-letters", *arguments, "--json")
        program = self._start(command, name=f"operator-{self._count}")
        assert program.wait() == code, program.log
        assert "Traceback" not in program.log
        return program

    def letters(self) -> list[dict[str, Any]]:
        """What is listed."""
        found: list[dict[str, Any]] = self.run("list").figures["letters"]
        return found

    def wait_for_letters(self, count: int) -> list[dict[str, Any]]:
        """List until there are so many; a broker may take its time to bury one."""
        for _ in range(20):
            found = self.letters()
            if len(found) >= count:
                return found
        raise AssertionError(f"{len(found)} of {count} letters came")


@pytest.fixture
def operator(start: Start) -> Operator:
    """Somebody in a console."""
    return Operator(start)


def test_what_its_workers_gave_back_is_answered_once_they_work(
    operator: Operator,
    start_worker: Start,
    client: Client,
    broker: Broker,
    topology: Topology,
    sample: Sample,
) -> None:
    """Every attempt was used up; its letter says so, and a replay to a worker that is well is answered, once."""
    submission = client.submit(sample[0][:20], labels=sample[1][:20], request_id="tired")
    broken_worker = Consumer(broker.subscribe(topology.requests, Limits()))
    for _ in range(topology.max_attempts):
        broken_worker.take(within_s=60)[0].nack()
    # A broker may bury a message only when it is asked for the next one: the broken worker still asks.
    (letter,) = operator.wait_for_letters(1)
    broken_worker.subscription.close()
    assert broken_worker.ends()
    assert (letter["request_id"], letter["code"], letter["attempts"]) == ("tired", "max_attempts", 5)
    assert "never acked" in letter["reason"]
    shown = operator.run("show", letter["id"][:6]).figures
    assert (shown["batch_is_there"], shown["answer_is_there"]) == (True, False)
    worker = start_worker("well")
    replayed = operator.run("replay", letter["id"])
    assert replayed.figures == {"replayed": 1, "refused": 0, "malformed": 0, "unknown": []}
    assert submission.response(60).status == "succeeded"
    again = operator.run("replay", letter["id"], code=ExitCode.DEAD_LETTER_UNKNOWN)
    assert f"No dead letter whose id begins with '{letter['id']}' is there now" in again.log
    assert worker.log.count("request=tired") == 1


def test_what_is_no_request_is_seen_shown_and_dropped(
    operator: Operator, start_worker: Start, broker: Broker, topology: Topology, tmp_path: Path
) -> None:
    """A replay leaves it alone; dropped, it is gone, and kept in a file."""
    start_worker("worker-a")
    body = b'{"request_id": "odd", "format": "\xc2\x9b31m"}'
    broker.publish(topology.requests_topic, Message(body, {"ce-type": "fashion.analysis.requested.v9"})).result(30)
    (letter,) = operator.wait_for_letters(1)
    assert (letter["request_id"], letter["code"], letter["attempts"]) == ("odd", "malformed_message", 1)
    assert "v9" in letter["reason"]
    shown = operator.run("show", letter["id"], "--raw", str(tmp_path / "body"))
    assert (tmp_path / "body").read_bytes() == body
    assert "\x9b" not in shown.output
    assert operator.run("replay", "--all").figures["malformed"] == 1
    operator.run("drop", letter["id"], code=ExitCode.USAGE)
    operator.run("drop", letter["id"], "--yes", "--save", str(tmp_path / "saved.jsonl"))
    assert letter["id"] in (tmp_path / "saved.jsonl").read_text(encoding="utf-8")
    assert operator.letters() == []


class TestStoreOutage:
    """The one deployment whose store can be broken object by object, from outside."""

    @pytest.fixture
    def deployment(self) -> tuple[str, str]:
        """A file and a folder."""
        return "embedded", "file"

    @pytest.fixture
    def topology(self, topology: Topology) -> Topology:
        """Two attempts: one retry, after about a second."""
        return replace(topology, max_attempts=2)

    def test_a_request_that_met_an_outage_is_answered_after_it(
        self, operator: Operator, start_worker: Start, client: Client, store: Store, sample: Sample
    ) -> None:
        """The letter says what the worker met; when the store is back, a replay is answered, once."""
        worker = start_worker("worker-a")
        unlucky = BrokenBatch(client, sample[0][:1], request_id="unlucky")
        worker.wait_for("outcome=dead-letter")
        (letter,) = operator.wait_for_letters(1)
        assert (letter["request_id"], letter["code"], letter["attempts"]) == ("unlucky", "store_unavailable", 2)
        unlucky.mend()
        operator.run("replay", "--all", "--code", "store_unavailable")
        assert unlucky.submission.response(60).status == "succeeded"
        assert store.read(response_uri(store.root, "unlucky"), max_bytes=100_000)
        assert worker.log.count("outcome=succeeded") == 1
        assert operator.letters() == []
