"""Images that went through the service, as files: every one, once, under the label that it got."""

from __future__ import annotations

import subprocess
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as Picture

from classifiers.protocol import Images
from fashion_client.submission import Result
from handoff.contracts.envelope import response_message
from handoff.contracts.errors import ExitCode
from handoff.contracts.protocols import Broker, Store
from handoff.contracts.topology import Topology
from handoff.stores.responses import read_response
from tests.e2e.conftest import Start
from tests.e2e.programs import RECEIVE, REQUEST, script, wait_until
from tests.e2e.small_disk import mounted

REQUESTS = 3
BATCH = 20


@pytest.fixture
def deployment() -> tuple[str, str]:
    """What images are read from is the store's business, and has tests of its own."""
    return "embedded", "file"


def files(folder: Path) -> dict[str, int]:
    """Every file with its time of change."""
    return {path.name: path.stat().st_mtime_ns for path in folder.iterdir()}


def answered_ids(output: str) -> list[str]:
    """The requests whose responses a console has shown."""
    return [line.split()[0] for line in output.splitlines() if " images  " in line]


def publish_again(broker: Broker, store: Store, topology: Topology, request_ids: list[str]) -> None:
    """Publish stored responses once more, as a broker that delivers at least once may."""
    for request_id in request_ids:
        response = read_response(store, request_id)
        assert response is not None
        now = datetime.now(UTC)
        message = response_message(response, client_id="me", traceparent=None, source="/workers/w", now=now)
        broker.publish(topology.responses_topic, message).result(30)


def test_images_and_sheets_are_written_once(
    start: Start,
    start_worker: Start,
    broker: Broker,
    store: Store,
    topology: Topology,
    sample: tuple[Images, list[str]],
    tmp_path: Path,
) -> None:
    """As many as were sent, with their pixels and the labels of their predictions; a second run changes nothing."""
    start_worker("worker-a")
    told = ("--batch-size", str(BATCH), "--count", str(REQUESTS))
    requesting = start(script(REQUEST, *told), name="request")
    assert requesting.wait() == ExitCode.OK, requesting.log
    sinks = ("--images", "out", "--sheets", "sheets", "--json")
    receiving = start(script(RECEIVE, *sinks, "--count", str(REQUESTS)), name="receive")
    assert receiving.wait() == ExitCode.OK, receiving.log
    assert receiving.figures["images_written"] == REQUESTS * BATCH
    request_ids = answered_ids(receiving.output)
    assert set(files(tmp_path / "sheets")) == {f"{request_id}.png" for request_id in request_ids}
    expected = set()
    for request_id in request_ids:
        response = read_response(store, request_id)
        assert response is not None
        table = Result(response, store).predictions()
        for image_id, label in zip(table.image_ids, table.labels, strict=True):
            name = f"{image_id}-{label.replace('/', '-')}.png"
            expected.add(name)
            with Picture.open(tmp_path / "out" / name) as picture:
                assert np.array_equal(np.asarray(picture), sample[0][int(image_id.rpartition("-")[2]), ..., 0])
    before = files(tmp_path / "out"), files(tmp_path / "sheets")
    assert set(before[0]) == expected
    assert len(expected) == REQUESTS * BATCH
    publish_again(broker, store, topology, request_ids)
    again = start(script(RECEIVE, *sinks, "--count", str(REQUESTS)), name="again")
    assert again.wait() == ExitCode.OK, again.log
    assert again.figures["images_there_already"] == REQUESTS * BATCH
    assert (files(tmp_path / "out"), files(tmp_path / "sheets")) == before


def test_a_killed_console_writes_the_rest_when_it_is_started_again(
    start: Start, start_worker: Start, broker: Broker, topology: Topology, tmp_path: Path
) -> None:
    """What was written stays, what was not comes again, and nothing comes twice or half."""
    start_worker("worker-a")
    requesting = start(script(REQUEST, "--batch-size", "250"), name="request")
    assert requesting.wait() == ExitCode.OK, requesting.log
    out = tmp_path / "out"
    killed = start(script(RECEIVE, "--images", "out"), name="killed")
    wait_until(lambda: out.is_dir() and len(list(out.glob("*.png"))) > 100, what="100 images")
    killed.kill()
    resumed = start(script(RECEIVE, "--images", "out", "--idle-timeout", "5", "--json"), name="resumed")
    assert resumed.wait() == ExitCode.OK, resumed.log
    names = list(out.glob("*.png"))
    assert len(names) == 1000
    assert len({name.name.split("-")[1] for name in names}) == 1000
    assert broker.backlog(topology.responses).count == 0
    for name in names:
        with Picture.open(name) as picture:
            assert np.asarray(picture).shape == (28, 28)


def test_a_full_disk_leaves_the_delivery_to_the_next_run(
    start: Start, start_worker: Start, broker: Broker, topology: Topology, tmp_path: Path
) -> None:
    """No space is one sentence and a named exit code; with room the same command writes what is missing."""
    start_worker("worker-a")
    requesting = start(script(REQUEST, "--batch-size", "200", "--count", "1"), name="request")
    assert requesting.wait() == ExitCode.OK, requesting.log
    with mounted(tmp_path / "disk", size_bytes=100 * 4096) as disk:
        receive = script(RECEIVE, "--images", str(disk.folder), "--count", "1", "--json")
        refused = start(receive, name="refused")
        assert refused.wait() == ExitCode.SETTINGS_INVALID, refused.log
        assert f"Error: The pictures cannot be written to {disk.folder}: No space left on device; make" in refused.log
        assert "Traceback" not in refused.log
        assert broker.backlog(topology.responses).count == 1
        before = {path.name: path.read_bytes() for path in disk.folder.iterdir()}
        assert 0 < len(before) < 100
        subprocess.run(["mount", "-o", "remount,size=4m", str(disk.folder)], check=True)
        again = start(receive, name="again")
        assert again.wait() == ExitCode.OK, again.log
        assert (again.figures["images_written"], again.figures["images_there_already"]) == (
            200 - len(before),
            len(before),
        )
        after = {path.name: path.read_bytes() for path in disk.folder.iterdir()}
        assert len(after) == 200
        assert before.items() <= after.items()
