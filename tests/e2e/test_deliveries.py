"""Nothing is lost and nothing answered for another: crashes, drains, duplicates, clients side by side."""

from __future__ import annotations

import os
import re
import signal
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

import pytest

from classifiers.protocol import Images
from fashion_client.client import Client
from handoff.brokers.urls import open_broker
from handoff.contracts.envelope import parse_response
from handoff.contracts.errors import ExitCode
from handoff.contracts.objects import predictions_uri, response_uri
from handoff.contracts.protocols import Broker, Delivery, Limits, Store, Subscription
from handoff.contracts.topology import SubscriptionSpec
from handoff.settings import Settings
from handoff.stores.urls import open_store
from tests.e2e.conftest import DEPLOYMENTS, Start
from tests.e2e.programs import RECEIVE, WORKER, Program, is_running, script, wait_until

Sample = tuple[Images, list[str]]

# Answers come in milliseconds; a dead worker's requests after the ack deadline and a broker's own delays.
ANSWER_WITHIN_S = 90.0


@pytest.fixture(params=["embedded+file", "pubsub+gcs", "kafka+file"])
def deployment(request: pytest.FixtureRequest) -> tuple[str, str]:
    """Every kind of broker."""
    return DEPLOYMENTS[str(request.param)]


def outcomes(worker: Program) -> int:
    """How many deliveries a worker has ended."""
    return worker.log.count(" outcome=")


def test_a_killed_workers_requests_are_answered_once(
    start: Start, start_worker: Start, client: Client, sample: Sample
) -> None:
    """SIGKILL in mid-batch: what the worker held comes back to the other one, each request is shown once."""
    images, _ = sample
    # A thousand images are several micro-batches, and a worker holds four such requests: when it has answered one it
    # holds others, decoded or being classified, until it has answered all it can get.
    count, held = 24, {"max_in_flight": 4, "max_images": 100_000, "micro_batch_images": 64}
    receiving = start(script(RECEIVE, "--count", str(count), "--json"), name="receive")
    submissions = [client.submit(images, format="npy", request_id=f"r-{number}") for number in range(count)]
    dying = start_worker("dying", ready=False, **held)
    dying.wait_for(" outcome=succeeded")
    dying.kill()
    assert outcomes(dying) < count
    start_worker("living", **held)
    responses = [submission.response(ANSWER_WITHIN_S) for submission in submissions]
    assert {response.status for response in responses} == {"succeeded"}
    assert {response.worker for response in responses} == {"dying", "living"}
    assert max(response.attempt for response in responses) >= 2
    assert receiving.wait(within_s=ANSWER_WITHIN_S) == ExitCode.OK, receiving.log
    shown = Counter(line.split()[0] for line in receiving.output.splitlines() if line.startswith("r-"))
    assert shown == Counter(f"r-{number}" for number in range(count))
    assert receiving.figures["responses"] == count


def test_a_drained_worker_finishes_what_it_holds(start_worker: Start, client: Client, sample: Sample) -> None:
    """SIGTERM under load: exit code 0 and a word in the log; the next worker gets what it gave back, nothing else."""
    images, _ = sample
    leaving = start_worker("leaving", max_in_flight=4)
    submissions = [client.submit(images[:500], format="npy") for _ in range(40)]
    leaving.wait_for(" outcome=succeeded")
    leaving.terminate()
    assert leaving.wait() == ExitCode.OK, leaving.log
    assert "worker=leaving drained" in leaving.log
    assert "Traceback" not in leaving.log
    done = leaving.log.count(" outcome=succeeded")
    assert outcomes(leaving) == done < len(submissions)
    staying = start_worker("staying")
    responses = [submission.response(ANSWER_WITHIN_S) for submission in submissions]
    assert Counter(response.worker for response in responses) == {
        "leaving": done,
        "staying": len(submissions) - done,
    }
    # No request that was answered came again: each has one line in one log.
    rest = {response.request_id for response in responses if response.worker == "staying"}
    staying.wait_for(" outcome=", times=len(rest))
    assert set(re.findall(r"request=(\w+)", staying.log)) == rest
    assert not rest & set(re.findall(r"request=(\w+)", leaving.log))


def test_a_supervisor_restarts_and_drains_its_workers(start: Start, client: Client, sample: Sample) -> None:
    """A worker that is killed is replaced; SIGTERM ends all of them, with nothing lost."""
    images, labels = sample
    supervisor = start(script(WORKER, "--workers", "2"), name="supervisor")
    supervisor.wait_for("ready_s=", times=2)
    children = supervisor.children()
    assert len(children) == 2
    submissions = [client.submit(images[:100], labels=labels[:100]) for _ in range(10)]
    os.kill(children[0], signal.SIGKILL)
    supervisor.wait_for("ended with exit code -9; a new one starts")
    supervisor.wait_for("ready_s=", times=3)
    assert {submission.response(ANSWER_WITHIN_S).status for submission in submissions} == {"succeeded"}
    children = supervisor.children()
    assert len(children) == 2
    supervisor.terminate()
    assert supervisor.wait() == ExitCode.OK, supervisor.log
    assert supervisor.log.count(" drained") == 2
    assert [pid for pid in children if is_running(pid)] == []


def test_workers_end_with_a_killed_supervisor(start: Start) -> None:
    """Nobody is left to look after them, so they drain and go."""
    supervisor = start(script(WORKER, "--workers", "2"), name="supervisor")
    supervisor.wait_for("ready_s=", times=2)
    children = supervisor.children()
    supervisor.kill()
    wait_until(lambda: supervisor.log.count(" drained") == 2, what=f"two workers drained:\n{supervisor.log}")
    wait_until(lambda: not any(map(is_running, children)), what="the workers' end")


def test_the_same_request_again_gets_the_same_response(
    start_worker: Start, client: Client, store: Store, sample: Sample
) -> None:
    """Nothing is classified twice: the response is the first one's, and so are the objects, byte by byte."""
    images, labels = sample
    start_worker("first")
    first = client.submit(images[:20], labels=labels[:20], request_id="again").response(ANSWER_WITHIN_S)
    uris = [make(store.root, "again") for make in (predictions_uri, response_uri)]
    objects = [store.read(uri, max_bytes=1_000_000) for uri in uris]
    start_worker("second", max_in_flight=1)
    for _ in range(4):
        again = client.submit(images[:20], labels=labels[:20], request_id="again").response(ANSWER_WITHIN_S)
        assert again == first
    assert first.worker == "first"
    assert [store.read(uri, max_bytes=1_000_000) for uri in uris] == objects
    assert client.stored_response("again") == first


class OverheardBroker:
    """A broker connection that writes down whose responses its subscription delivered."""

    def __init__(self, broker: Broker) -> None:
        self.delivered: list[str] = []
        self.publish, self.declare, self.backlog, self.close = (
            broker.publish,
            broker.declare,
            broker.backlog,
            broker.close,
        )
        self._subscribe = broker.subscribe

    def subscribe(self, subscription: SubscriptionSpec, limits: Limits) -> Subscription:
        """Subscribe, listening in."""
        return OverheardSubscription(self._subscribe(subscription, limits), self.delivered)


class OverheardSubscription:
    """A subscription whose every delivery is written down."""

    def __init__(self, subscription: Subscription, delivered: list[str]) -> None:
        self._subscription = subscription
        self._delivered = delivered
        self.close = subscription.close

    def __iter__(self) -> Iterator[Delivery]:
        for delivery in self._subscription:
            self._delivered.append(parse_response(delivery.message).request_id)
            yield delivery


def test_two_clients_get_their_own_responses(start_worker: Start, settings: Settings, sample: Sample) -> None:
    """Fifty requests each, at once: each is delivered its own fifty and none of the other's."""
    images, _ = sample
    start_worker("worker-a")

    def run(name: str) -> tuple[set[str], set[str], list[str]]:
        broker = OverheardBroker(open_broker(settings.broker, settings.topology))
        client = Client(broker, store=open_store(settings.store), topology=settings.topology, client_id=name)
        with closing(client):
            submissions = [client.submit(images[k : k + 3], request_id=f"{name}-{k}") for k in range(50)]
            results = [submission.result(ANSWER_WITHIN_S) for submission in submissions]
        return {each.request_id for each in submissions}, {each.request_id for each in results}, broker.delivered

    with ThreadPoolExecutor(2) as threads:
        runs = list(threads.map(run, ["client-a", "client-b"]))
    for sent, received, delivered in runs:
        assert len(sent) == 50
        assert received == set(delivered) == sent
