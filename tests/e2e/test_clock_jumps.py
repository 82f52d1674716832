"""Programs whose calendar is put forward or back by a day while requests flow: nobody notices."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import urlsplit

import pytest
from msgspec.structs import replace

from classifiers.protocol import Images
from fashion_client.client import Client
from handoff.contracts.errors import ExitCode
from handoff.contracts.objects import RESULTS_FOLDER
from handoff.contracts.protocols import Broker, Store
from handoff.contracts.topology import DAY_S, Topology
from handoff.stores.responses import read_response
from tests.e2e.broken_batch import BrokenBatch
from tests.e2e.calendars import Calendar, calendar  # noqa: F401 - a fixture
from tests.e2e.conftest import Start
from tests.e2e.programs import RECEIVE, REQUEST, script, wait_until

Sample = tuple[Images, list[str]]

DAY = int(DAY_S)
JUMPS_S = (DAY, -DAY, 0)

# Far below the ack deadline here: a request whose lease has to run out first is too late.
ANSWER_WITHIN_S = 30.0


@pytest.fixture
def topology(topology: Topology) -> Topology:
    """Leases that do not run out within a test."""
    return replace(topology, ack_deadline_s=120.0)


def test_a_workers_calendar_that_jumps_is_not_noticed(
    start_worker: Start,
    client: Client,
    sample: Sample,
    calendar: Calendar,  # noqa: F811 - the fixture
) -> None:
    """Beside a worker that is right: each request is answered in time, at its first delivery."""
    images, _ = sample
    jumping = start_worker("jumping", environment=calendar.environment, max_in_flight=8)
    start_worker("steady", max_in_flight=8)
    for jump_s in JUMPS_S:
        # Large ones are held for a while, so that some are when the calendar jumps.
        submissions = [client.submit(images, format="npy") for _ in range(10)]
        done = jumping.log.count(" outcome=")
        wait_until(lambda done=done: jumping.log.count(" outcome=") > done, what="the first answer")  # type: ignore[misc]
        calendar.put(jump_s)
        submissions += [client.submit(images[:3]) for _ in range(20)]
        responses = [submission.response(ANSWER_WITHIN_S) for submission in submissions]
        assert {response.status for response in responses} == {"succeeded"}
        assert [response.attempt for response in responses] == [1] * len(responses)
    assert jumping.log.count(" outcome=") == jumping.log.count(" outcome=succeeded")


def test_all_programs_calendars_that_jump_are_not_noticed(
    start: Start,
    start_worker: Start,
    store: Store,
    calendar: Calendar,  # noqa: F811 - the fixture
) -> None:
    """Workers and both consoles: every request is shown once, and was delivered once."""
    told, count = calendar.environment, 200
    for name in ("worker-a", "worker-b"):
        start_worker(name, environment=told, max_in_flight=8)
    receiving = start(script(RECEIVE, "--count", str(count), "--json"), name="receive", environment=told)
    flow = ["--batch-size", "5", "--count", str(count), "--rate", "50", "--json"]
    requesting = start(script(REQUEST, *flow), name="request", environment=told)
    for shown, jump_s in zip((20, 80, 140), JUMPS_S, strict=True):
        wait_until(lambda shown=shown: receiving.output.count("\n") > shown, what=f"{shown} responses")  # type: ignore[misc]
        calendar.put(jump_s)
    assert requesting.wait(within_s=ANSWER_WITHIN_S) == ExitCode.OK, requesting.log
    assert receiving.wait(within_s=ANSWER_WITHIN_S) == ExitCode.OK, receiving.log
    assert (receiving.figures["responses"], receiving.figures["failed"]) == (count, 0)
    results = f"{store.root}/{RESULTS_FOLDER}/"
    ids = {each.uri.removeprefix(results).partition("/")[0] for each in store.list(results)}
    responses = [read_response(store, request_id) for request_id in ids]
    assert [response.attempt for response in responses if response] == [1] * count


@pytest.mark.parametrize("deployment", [("embedded", "file")])
@pytest.mark.parametrize("jump_s", [DAY, -DAY])
def test_a_retry_comes_in_time_whatever_the_calendar(
    start_worker: Start,
    client: Client,
    broker: Broker,
    store: Store,
    sample: Sample,
    calendar: Calendar,  # noqa: F811 - the fixture
    jump_s: int,
) -> None:
    """What was given back for a second is due after a second, though the calendar was put back by a day in between."""
    del broker
    worker = start_worker("jumping", environment=calendar.environment)
    late = BrokenBatch(client, sample[0][:1], request_id="late")
    worker.wait_for("request=late")
    calendar.put(jump_s)
    late.mend()
    assert late.submission.response(ANSWER_WITHIN_S).status == "succeeded"
    assert Path(urlsplit(store.root).path).is_dir()
