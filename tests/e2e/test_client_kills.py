"""A request console that is killed, or whose responses are lost: what it began is answered, once."""

from __future__ import annotations

import signal
from collections import Counter
from pathlib import Path

import pytest

from fashion_client.journal import Row, read_journal
from handoff.contracts.envelope import parse_request
from handoff.contracts.errors import ExitCode
from handoff.contracts.protocols import Broker, Limits, Store
from handoff.contracts.topology import Topology
from tests.conformance.consumer import Consumer
from tests.e2e.conftest import Start
from tests.e2e.mortal_request import STEPS
from tests.e2e.programs import Program, script, wait_until

MORTAL = Path(__file__).with_name("mortal_request.py")

REQUESTS = 40
# Neither the first nor the last: some are answered before, some not yet begun after.
KILLED_AT = 7


class Console:
    """The request console on one journal, as often as it is started."""

    def __init__(self, start: Start, folder: Path) -> None:
        self.journal = folder / "run.journal"
        self.output = ""
        self._start = start
        self._log = folder / "published.log"
        self._starts = 0

    def begin(self, flaw: str, count: int, *arguments: str) -> Program:
        """Start it."""
        self._starts += 1
        named = [str(self._log), flaw, str(count), *arguments, "--journal", str(self.journal), "--wait", "--json"]
        return self._start(script(MORTAL, *named), name=f"request-{self._starts}")

    def rows(self) -> list[Row]:
        """What its journal holds."""
        return list(read_journal(self.journal))

    def published(self) -> list[str]:
        """Every publication so far, by the request's id."""
        return self._log.read_text(encoding="utf-8").split() if self._log.exists() else []


@pytest.fixture
def console(start: Start, tmp_path: Path) -> Console:
    """A console with a journal of its own."""
    return Console(start, tmp_path)


def test_a_client_killed_at_every_step_answers_each_request_once(
    console: Console, start_worker: Start, store: Store
) -> None:
    """SIGKILL six times: nothing answered is published again, shown again, or left in the store for nobody."""
    start_worker("w-1")
    arguments, shown = ["--batch-size", "5", "--count", str(REQUESTS)], ""
    for step in STEPS:
        answered = {row.request_id for row in console.rows() if row.state == "answered"} if shown else set()
        before = len(console.published())
        dying = console.begin(step, KILLED_AT if step != "before-upload" else 2, *arguments)
        assert dying.wait() == -signal.SIGKILL, dying.log
        assert not answered & set(console.published()[before:])
        arguments, shown = ["--resume"], shown + dying.output + "\n"
    answered, before = {row.request_id for row in console.rows() if row.state == "answered"}, len(console.published())
    last = console.begin("none", 0, "--resume")
    assert last.wait() == ExitCode.OK, last.log
    rows = console.rows()
    assert [row.state for row in rows] == ["answered"] * REQUESTS
    assert {row.response.status for row in rows if row.response} == {"succeeded"}
    assert not answered & set(console.published()[before:])
    assert {item.uri for item in store.list(f"{store.root}/requests/")} == {row.request.batch_uri for row in rows}
    ids = {row.request_id for row in rows}
    words = [line.split()[0] for line in (shown + last.output).splitlines() if line.split()]
    seen = Counter(word for word in words if word in ids)
    assert max(seen.values()) == 1
    assert len(seen) >= REQUESTS - len(STEPS)
    assert (last.figures["answered"], last.figures["missing"], last.figures["failed"]) == (REQUESTS, 0, 0)


def test_lost_responses_are_found_in_the_store(console: Console, start_worker: Start) -> None:
    """Noticed after the stated time; nothing is published again, for the answer is there."""
    start_worker("w-1")
    losing = console.begin("lose", 3, "--batch-size", "5", "--count", "8", "--timeout", "2")
    assert losing.wait() == ExitCode.OK, losing.log
    assert [(row.state, row.publications) for row in console.rows()] == [("answered", 1)] * 8
    assert (losing.figures["answered"], losing.figures["published"]) == (8, 8)


def test_lost_requests_are_published_again(
    console: Console, start_worker: Start, broker: Broker, topology: Topology
) -> None:
    """Somebody took them and never answered: after the stated time they are asked for again, until a worker comes."""
    losing = console.begin("none", 0, "--batch-size", "5", "--count", "3", "--timeout", "2")
    subscription = broker.subscribe(topology.requests, Limits())
    consumer = Consumer(subscription)
    taken = consumer.take(3, within_s=60)
    for delivery in taken:
        assert not parse_request(delivery.message).republished
        delivery.ack()
    wait_until(lambda: len(console.published()) > len(taken), what="the requests asked for again")
    subscription.close()
    for delivery in consumer.take_up_to(3, within_s=0.1):
        delivery.nack()
    start_worker("w-1")
    assert losing.wait() == ExitCode.OK, losing.log
    assert {row.state for row in console.rows()} == {"answered"}
    assert min(row.publications for row in console.rows()) > 1
    assert losing.figures["missing"] == 0
