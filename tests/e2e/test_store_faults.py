"""A Cloud Storage that answers badly, late or not at all while requests flow: each is answered once, and rightly."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import pytest

from classifiers.protocol import Images
from fashion_client.client import Client
from handoff.contracts.errors import ExitCode, StoreUnavailable
from handoff.contracts.objects import batch_uri, predictions_uri, response_uri
from handoff.contracts.protocols import Store
from handoff.settings import Settings
from tests.e2e.conftest import Start
from tests.e2e.programs import RECEIVE, Program, is_running, script, wait_until
from tests.fault_proxy import FaultProxy

Sample = tuple[Images, list[str]]

# Each of this many images, the micro-batch's size: then what is classified together does not depend on what broke.
IMAGES = 5
REQUESTS = 8
# A request that the store does not answer at all is given up after 15 s, and tried again.
ANSWER_WITHIN_S = 60.0

BATCH = r"^/download/.*requests"
RESULT = r"^/upload/"

FAULTS = {
    "too-many-requests": [{"kind": "status", "status": 429, "times": 12}],
    "too-many-requests-with-a-time": [{"kind": "status", "status": 429, "headers": {"Retry-After": "1"}, "times": 12}],
    "unavailable": [{"kind": "status", "status": 503, "times": 12}],
    "internal-error": [{"kind": "status", "status": 500, "times": 12}],
    "cut-in-a-download": [{"kind": "cut-body", "path": BATCH, "times": 6}],
    "lost-answer-to-an-upload": [{"kind": "lose-answer", "path": RESULT, "times": 9}],
    "short-body": [{"kind": "truncate", "path": BATCH, "times": 6}],
    "wrong-bytes": [{"kind": "wrong-bytes", "path": BATCH, "times": 6}],
    "reset": [{"kind": "reset", "times": 12}],
    "refused-connections": [{"kind": "refuse", "times": 6}],
    # Side by side, for each takes as long as an attempt may.
    "no-answer": [
        {"kind": "hang", "path": RESULT, "times": 2},
        {"kind": "hang", "path": BATCH, "times": 2},
        {"kind": "hang-body", "path": BATCH, "times": 1},
    ],
    "all-of-it": [
        {"kind": "status", "status": 429, "probability": 0.07},
        {"kind": "status", "status": 503, "probability": 0.07},
        {"kind": "cut-body", "probability": 0.07},
        {"kind": "lose-answer", "probability": 0.07},
        {"kind": "wrong-bytes", "path": BATCH, "probability": 0.07},
        {"kind": "reset", "probability": 0.07},
    ],
}


@pytest.fixture
def deployment() -> tuple[str, str]:
    """The one whose store can be reached through a proxy, and whose broker is not in its way."""
    return "embedded", "gcs"


@pytest.fixture
def proxy(store: Store, storage_server: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[FaultProxy]:
    """Where every program and client of the test finds the store; the test's own `store` has a way past it."""
    del store
    with FaultProxy(storage_server, seed=7) as proxy:
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", proxy.url)
        yield proxy


def submit_all(client: Client, images: Images, *, prefix: str) -> list[str]:
    """Send the same batches as any other call, at once; their request ids."""

    def submit(number: int) -> str:
        part = images[number * IMAGES : (number + 1) * IMAGES]
        for _ in range(5):
            # With bad luck an upload fails for the whole half minute that it is tried: then a person tries once more.
            with suppress(StoreUnavailable):
                return client.submit(part, request_id=f"{prefix}-{number}").response(ANSWER_WITHIN_S).request_id
        raise AssertionError(f"the store never took {prefix}-{number}")

    with ThreadPoolExecutor(REQUESTS) as threads:
        return list(threads.map(submit, range(REQUESTS)))


def predictions(store: Store, request_ids: list[str]) -> list[bytes]:
    """What was stored for them."""
    return [store.read(predictions_uri(store.root, each), max_bytes=1_000_000) for each in request_ids]


def check_no_orphans(store: Store, request_ids: list[str]) -> None:
    """Every object is one of an answered request, and none of those is missing."""
    made = [
        [batch_uri(store.root, each, "csv"), predictions_uri(store.root, each), response_uri(store.root, each)]
        for each in request_ids
    ]
    assert [each.uri for each in store.list(store.root)] == sorted(uri for uris in made for uri in uris)


def check_shown_once(receiving: Program, request_ids: list[str]) -> None:
    """The shared subscription's console showed each request one time."""
    assert receiving.wait() == ExitCode.OK, receiving.log
    shown = Counter(line.split()[0] for line in receiving.output.splitlines() if line.startswith(("calm", "faulty")))
    assert shown == Counter(request_ids)


@pytest.mark.parametrize("fault", FAULTS)
def test_a_store_that_fails_for_a_while_harms_no_request(
    start: Start,
    start_worker: Start,
    settings: Settings,
    store: Store,
    proxy: FaultProxy,
    sample: Sample,
    fault: str,
) -> None:
    """Uploads and downloads, the client's and the worker's: predictions are a calm run's, and nothing lies about."""
    images, _ = sample
    worker = start_worker("worker-a", micro_batch_images=IMAGES)
    receiving = start(script(RECEIVE, "--count", str(2 * REQUESTS), "--json"), name="receive")
    with Client.open(settings.broker, settings.store, topology=settings.topology) as client:
        calm = submit_all(client, images, prefix="calm")
        proxy.cut()
        rules = [proxy.fault(**each) for each in FAULTS[fault]]  # type: ignore[arg-type]
        faulty = submit_all(client, images, prefix="faulty")
    wait_until(lambda: worker.log.count(" outcome=succeeded") >= 2 * REQUESTS, what="the last ack")
    # A rule that meets a share of the requests may have met none.
    sure = [rule.hits for rule, told in zip(rules, FAULTS[fault], strict=True) if "times" in told]
    assert all(sure), proxy.counts
    assert sum(rule.hits for rule in rules) > 0
    proxy.clear()
    assert predictions(store, faulty) == predictions(store, calm)
    check_no_orphans(store, calm + faulty)
    check_shown_once(receiving, calm + faulty)
    assert is_running(worker.pid)
    assert "Traceback" not in worker.log


def test_a_store_that_is_away_is_waited_for(
    start: Start, start_worker: Start, settings: Settings, store: Store, proxy: FaultProxy, sample: Sample
) -> None:
    """Longer than a request is retried for: it is given back, delivered again, and answered by the same worker."""
    images, _ = sample
    worker = start_worker("worker-a", micro_batch_images=IMAGES)
    receiving = start(script(RECEIVE, "--count", str(REQUESTS), "--json"), name="receive")
    with Client.open(settings.broker, settings.store, topology=settings.topology) as client:
        submissions = []
        rule = proxy.fault("status", method="GET", path=BATCH)
        for number in range(REQUESTS):
            part = images[number * IMAGES : (number + 1) * IMAGES]
            submissions.append(client.submit(part, request_id=f"faulty-{number}"))
        worker.wait_for("outcome=retry")
        rule.clear()
        responses = [submission.response(ANSWER_WITHIN_S) for submission in submissions]
    assert {response.status for response in responses} == {"succeeded"}
    assert max(response.attempt for response in responses) > 1
    wait_until(lambda: worker.log.count(" outcome=succeeded") >= REQUESTS, what="the last ack")
    ids = [response.request_id for response in responses]
    check_no_orphans(store, ids)
    check_shown_once(receiving, ids)
    assert is_running(worker.pid)
