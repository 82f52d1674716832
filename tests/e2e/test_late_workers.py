"""Two workers with the same request, after the first one's lease ran out while it was stopped: nobody can tell."""

from __future__ import annotations

import os
import signal
import sqlite3
from collections import Counter
from contextlib import closing

from msgspec.structs import replace

from classifiers.protocol import Images
from fashion_client.client import RESPONSE_LIMITS, Client
from handoff.adapters import local_path
from handoff.contracts.envelope import parse_response
from handoff.contracts.errors import ExitCode
from handoff.contracts.objects import predictions_uri, response_uri
from handoff.contracts.protocols import Broker, Store
from handoff.contracts.topology import Topology
from handoff.settings import Settings
from handoff.stores.responses import read_response
from tests.conformance.consumer import Consumer
from tests.e2e.conftest import Start
from tests.e2e.programs import RECEIVE, script, wait_until

Sample = tuple[Images, list[str]]

REQUESTS, AFTER = 16, 20
HELD = {"max_in_flight": 4, "max_images": 100_000, "micro_batch_images": 64}
# A stopped worker's requests after the ack deadline and the broker's own delays.
ANSWER_WITHIN_S = 90.0


def stopped(pid: int, settings: Settings) -> bool:
    """Stop a worker, unless it holds the lock of the queue file: everybody would have to wait for it then."""
    os.kill(pid, signal.SIGSTOP)
    if not settings.broker.startswith("embedded:"):
        return True
    with closing(sqlite3.connect(local_path(settings.broker) or "", timeout=0.5, isolation_level=None)) as probe:
        try:
            probe.execute("BEGIN IMMEDIATE")
        except sqlite3.OperationalError:
            os.kill(pid, signal.SIGCONT)
            return False
        probe.execute("ROLLBACK")
    return True


def test_a_worker_that_was_stopped_too_long_does_no_harm(
    start: Start,
    start_worker: Start,
    client: Client,
    broker: Broker,
    store: Store,
    settings: Settings,
    topology: Topology,
    sample: Sample,
) -> None:
    """It ends what another has answered: shown once, with the same response; objects unchanged, acks without effect."""
    images, _ = sample
    receiving = start(script(RECEIVE, "--count", str(REQUESTS + AFTER), "--json"), name="receive")
    own = topology.responses_for(client.client_id)
    overheard = Consumer(broker.subscribe(replace(own, name=f"{own.name}-overheard"), RESPONSE_LIMITS))
    submissions = [client.submit(images, format="npy", request_id=f"r-{number}") for number in range(REQUESTS)]
    late = start_worker("late", ready=False, **HELD)
    late.wait_for(" outcome=succeeded")
    wait_until(lambda: stopped(late.pid, settings), what="a moment at which the late worker does not write")
    try:
        start_worker("prompt", **HELD)
        responses = [submission.response(ANSWER_WITHIN_S) for submission in submissions]
        assert {response.status for response in responses} == {"succeeded"}
        taken_over = [response.request_id for response in responses if response.attempt > 1]
        assert taken_over
        ids = [response.request_id for response in responses]
        uris = [make(store.root, each) for each in ids for make in (predictions_uri, response_uri)]
        objects = [store.read(uri, max_bytes=10_000_000) for uri in uris]
        before = late.log.count(" outcome=")
    finally:
        os.kill(late.pid, signal.SIGCONT)
    wait_until(lambda: late.log.count(" outcome=") > before, what=f"the late worker's end of a request:\n{late.log}")
    # The console is still there: what comes twice comes before it has seen the last of these.
    after = [client.submit(images[:5], request_id=f"r-after-{number}") for number in range(AFTER)]
    ids += [submission.response(ANSWER_WITHIN_S).request_id for submission in after]
    assert receiving.wait(within_s=ANSWER_WITHIN_S) == ExitCode.OK, receiving.log
    shown = Counter(line.split()[0] for line in receiving.output.splitlines() if line.startswith("r-"))
    assert shown == Counter(ids)
    late.terminate()
    assert late.wait() == ExitCode.OK, late.log
    assert late.log.count(" outcome=") == late.log.count(" outcome=succeeded") > before
    assert [store.read(uri, max_bytes=10_000_000) for uri in uris] == objects
    heard = [parse_response(each.message) for each in overheard.take_up_to(10 * len(ids), within_s=2)]
    assert {response.request_id for response in heard} == set(ids)
    assert len(heard) > len(ids)
    assert all(response == read_response(store, response.request_id) for response in heard)
    assert broker.backlog(topology.dead_letters).count in {0, None}
