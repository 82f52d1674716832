"""A disk that is full for a while, under the queue file and under the store: nothing is lost, nothing half-written."""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from msgspec.structs import replace

from classifiers.protocol import Images
from fashion_client.client import Client
from handoff.contracts.errors import BrokerUnavailable, ExitCode, StoreUnavailable
from handoff.contracts.objects import predictions_uri, response_uri
from handoff.contracts.protocols import Broker, Message, Store
from handoff.contracts.topology import Topology
from handoff.stores.file import PARTIAL_FOLDER, SWEEP_LOCK
from tests.e2e.conftest import Start
from tests.e2e.programs import RECEIVE, is_running, script, wait_until
from tests.e2e.small_disk import Disk, mounted

Sample = tuple[Images, list[str]]

DISK_BYTES = 24 * 1024 * 1024
REQUESTS = 10
ANSWER_WITHIN_S = 90.0


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    """Where the deployment lies."""
    with mounted(tmp_path / "disk", size_bytes=DISK_BYTES) as disk:
        yield disk


@pytest.fixture
def deployment() -> tuple[str, str]:
    """The one that lies on a disk."""
    return "embedded", "file"


@pytest.fixture
def broker_url(disk: Disk) -> str:
    """On the small disk."""
    return f"embedded://{disk.folder}/queue.db"


@pytest.fixture
def store_url(disk: Disk) -> str:
    """On the small disk."""
    return f"file://{disk.folder}/store"


@pytest.fixture
def topology(topology: Topology) -> Topology:
    """More attempts than a full disk uses up within a test."""
    return replace(topology, max_attempts=100)


def check_sound(disk: Disk) -> None:
    """The queue file holds together."""
    with closing(sqlite3.connect(disk.folder / "queue.db")) as found:
        assert found.execute("PRAGMA integrity_check").fetchone() == ("ok",)


def partial_files(disk: Disk) -> list[str]:
    """What writers left, beside the sweep's lock."""
    return [each.name for each in (disk.folder / "store" / PARTIAL_FOLDER).iterdir() if each.name != SWEEP_LOCK]


def check_whole(store: Store, request_ids: list[str]) -> None:
    """Where there is an object it is a whole one."""
    for each in store.list(store.root):
        assert len(store.read(each.uri, max_bytes=DISK_BYTES)) == each.size_bytes > 0
    for request_id in request_ids:
        for uri in (predictions_uri(store.root, request_id), response_uri(store.root, request_id)):
            assert store.read(uri, max_bytes=DISK_BYTES).endswith((b"\n", b"}"))


def test_a_full_disk_delays_and_loses_nothing(
    start: Start, start_worker: Start, client: Client, store: Store, disk: Disk, sample: Sample
) -> None:
    """A worker that can neither store, publish nor take goes on when there is room: each request is answered once."""
    images, _ = sample
    receiving = start(script(RECEIVE, "--count", str(2 * REQUESTS), "--json"), name="receive")
    submissions = [client.submit(images, format="npy", request_id=f"r-{number}") for number in range(REQUESTS)]
    worker = start_worker("worker-a", max_in_flight=4)
    worker.wait_for(" outcome=succeeded")
    disk.fill()
    worker.wait_for("No space left on device")
    worker.wait_for("nothing taken", times=3)
    with pytest.raises(StoreUnavailable, match="No space left on device"):
        client.submit(images, format="npy", request_id="refused")
    assert list(store.list(f"{store.root}/requests/refused")) == []
    disk.free()
    submissions += [client.submit(images[:100], request_id=f"r-{REQUESTS + number}") for number in range(REQUESTS)]
    responses = [submission.response(ANSWER_WITHIN_S) for submission in submissions]
    assert {response.status for response in responses} == {"succeeded"}
    ids = [response.request_id for response in responses]
    assert receiving.wait(within_s=ANSWER_WITHIN_S) == ExitCode.OK, receiving.log
    assert Counter(line.split()[0] for line in receiving.output.splitlines() if line.startswith("r-")) == Counter(ids)
    check_whole(store, ids)
    assert is_running(worker.pid)
    assert "Traceback" not in worker.log
    worker.terminate()
    assert worker.wait() == ExitCode.OK, worker.log
    assert partial_files(disk) == []
    check_sound(disk)


def test_a_full_queue_file_says_so_and_stays_sound(
    start_worker: Start, client: Client, broker: Broker, disk: Disk, topology: Topology, sample: Sample
) -> None:
    """What was confirmed is there, what was not is said in a sentence, and the same connection goes on afterwards."""
    worker = start_worker("worker-a")
    disk.take(DISK_BYTES // 2)
    confirmed, refused = 0, None
    while refused is None:
        try:
            broker.publish(topology.dead_letters_topic, Message(body=b"x" * 100_000)).result(60)
            confirmed += 1
        except BrokerUnavailable as error:
            refused = str(error)
    assert "check that its disk has room and the file is writable" in refused
    assert "full" in refused
    check_sound(disk)
    assert broker.backlog(topology.dead_letters).count == confirmed
    disk.fill()
    for _ in range(3):
        with pytest.raises(BrokerUnavailable, match="check that its disk has room"):
            broker.publish(topology.dead_letters_topic, Message(body=b"x" * 100_000)).result(60)
    disk.free()
    assert client.submit(sample[0][:5]).response(ANSWER_WITHIN_S).status == "succeeded"
    wait_until(lambda: " outcome=succeeded" in worker.log, what="the worker's ack")
    assert broker.backlog(topology.dead_letters).count == confirmed
    assert is_running(worker.pid)
    check_sound(disk)
