"""A Pub/Sub that is frozen, cut off or away for seconds while requests flow: each is answered once."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterator

import pytest

from classifiers.protocol import Images
from fashion_client.client import Client
from handoff.contracts.errors import ExitCode
from handoff.contracts.protocols import Broker, Store
from handoff.settings import Settings
from handoff.stores.responses import read_response
from tests.e2e.conftest import Start
from tests.e2e.programs import RECEIVE, is_running, script, wait_until
from tests.wire import Wire

Sample = tuple[Images, list[str]]

REQUESTS = 30
FAULT_S = 5.0
# A connection gone silent is noticed after the ack deadline, here 10 s, and a call is given 20 s.
ANSWER_WITHIN_S = 90.0


@pytest.fixture
def deployment() -> tuple[str, str]:
    """The one whose broker is reached over connections, and whose store is not."""
    return "pubsub", "file"


@pytest.fixture
def wire(broker: Broker, pubsub_server: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Wire]:
    """What every program and client of the test reaches the broker by; the test's own `broker` has a way past it."""
    del broker
    with Wire(pubsub_server) as wire:
        monkeypatch.setenv("PUBSUB_EMULATOR_HOST", wire.address)
        yield wire


def frozen(wire: Wire) -> None:
    """Nothing passes for a while, and nobody is told."""
    wire.freeze()
    threading.Timer(FAULT_S, wire.thaw).start()


def cut(wire: Wire) -> None:
    """Every connection ends; new ones are taken."""
    wire.cut()


def away(wire: Wire) -> None:
    """Every connection ends, and new ones are refused for a while."""
    wire.take_away()
    threading.Timer(FAULT_S, wire.put_back).start()


@pytest.mark.parametrize("fault", [frozen, cut, away])
def test_a_broker_that_fails_for_a_while_loses_nothing(
    start: Start,
    start_worker: Start,
    settings: Settings,
    store: Store,
    wire: Wire,
    sample: Sample,
    fault: Callable[[Wire], None],
) -> None:
    """Publishing, pulling, acking, on both sides: every request is answered, shown once, and both programs live on."""
    images, _ = sample
    worker = start_worker("worker-a", max_in_flight=4)
    receiving = start(script(RECEIVE, "--count", str(REQUESTS), "--json"), name="receive")
    with Client.open(settings.broker, settings.store, topology=settings.topology) as client:
        submissions = [client.submit(images[:200], format="npy", request_id=f"r-{n}") for n in range(REQUESTS // 2)]
        worker.wait_for(" outcome=succeeded")
        fault(wire)
        rest = range(REQUESTS // 2, REQUESTS)
        submissions += [client.submit(images[:200], format="npy", request_id=f"r-{number}") for number in rest]
        responses = [submission.response(ANSWER_WITHIN_S) for submission in submissions]
        ids = [response.request_id for response in responses]
    assert {response.status for response in responses} == {"succeeded"}
    assert [read_response(store, each) for each in ids] == responses
    assert receiving.wait(within_s=ANSWER_WITHIN_S) == ExitCode.OK, receiving.log
    assert Counter(line.split()[0] for line in receiving.output.splitlines() if line.startswith("r-")) == Counter(ids)
    wait_until(lambda: worker.log.count(" outcome=succeeded") >= REQUESTS, what="the last ack")
    assert is_running(worker.pid)
    assert "Traceback" not in worker.log
    worker.terminate()
    assert worker.wait() == ExitCode.OK, worker.log
