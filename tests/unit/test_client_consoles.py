"""The request and receive consoles, on a deployment in a folder and without a worker."""

from __future__ import annotations

import csv
import json
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import numpy as np
import pytest
from click.testing import CliRunner, Result
from PIL import Image as Picture

from fashion_client import make_analysis_requests
from fashion_client.get_analysis_outputs import IdleWatch
from fashion_client.get_analysis_outputs import command as receive_command
from fashion_client.make_analysis_requests import command as request_command
from fashion_client.make_analysis_requests import paced
from fashion_client.summary import Summary, line_of
from handoff.brokers.urls import open_broker
from handoff.contracts.batches import decode_batch
from handoff.contracts.envelope import parse_request, response_message
from handoff.contracts.errors import ExitCode
from handoff.contracts.messages import AnalysisResponse, FailureReason
from handoff.contracts.objects import predictions_uri
from handoff.contracts.predictions import encode_predictions
from handoff.contracts.protocols import Broker, Limits, Store
from handoff.contracts.topology import Topology
from handoff.stores.urls import open_store
from tests.fakes import batch_of

TOPOLOGY = Topology()


pytestmark = pytest.mark.usefixtures("folder")


@pytest.fixture
def broker(folder: Path) -> Iterator[Broker]:
    """The deployment's broker."""
    broker = open_broker(f"embedded://{folder}/queue.db", TOPOLOGY)
    yield broker
    broker.close()


@pytest.fixture
def store(folder: Path) -> Store:
    """The deployment's store."""
    return open_store(f"file://{folder}/store")


def request(*arguments: str) -> Result:
    """Run the request console."""
    result = CliRunner().invoke(request_command, list(arguments))
    assert result.exit_code == ExitCode.OK, result.output
    return result


def receive(*arguments: str) -> Result:
    """Run the receive console."""
    return CliRunner().invoke(receive_command, list(arguments))


def figures(result: Result) -> dict[str, object]:
    """The JSON object on the last line."""
    found: dict[str, object] = json.loads(result.stdout.splitlines()[-1])
    return found


def published(broker: Broker, store: Store, count: int) -> list[tuple[str, int, list[str] | None]]:
    """Take so many requests: client, images and labels of each."""
    found = []
    deliveries = iter(broker.subscribe(TOPOLOGY.requests, Limits()))
    for _ in range(count):
        received = parse_request(next(deliveries).message)
        said = received.request
        data = store.read(said.batch_uri, max_bytes=10_000_000)
        batch = decode_batch(data, format=said.format, image_shape=(28, 28, 1), max_images=999, max_bytes=10_000_000)
        assert len(batch) == said.image_count
        found.append((str(received.client_id), said.image_count, said.labels or batch.labels))
    return found


def respond(broker: Broker, store: Store, request_id: str, *, failed: bool = False) -> None:
    """Store predictions of two images and publish the response, as a worker does."""
    uri = predictions_uri(store.root, request_id)
    probabilities = np.array([[0.9, 0.1], [0.2, 0.8]], np.float32)
    store.create(uri, encode_predictions(["a", "b"], probabilities, ["Bag", "Coat"]))
    response = AnalysisResponse(
        request_id=request_id,
        status="failed" if failed else "succeeded",
        image_count=2,
        worker="w-1",
        attempt=1,
        predictions_uri=None if failed else uri,
        label_counts={} if failed else {"Bag": 1, "Coat": 1},
        labelled_count=0 if failed else 2,
        correct_count=0 if failed else 1,
        requested_at=datetime.now(UTC),
        error=FailureReason("invalid_batch", "Data row 1: x.") if failed else None,
    )
    now = datetime.now(UTC)
    message = response_message(response, client_id="me", traceparent=None, source="/workers/w-1", now=now)
    broker.publish(TOPOLOGY.responses_topic, message).result(30)


def test_the_sample_is_sent_when_nothing_is_named(broker: Broker, store: Store) -> None:
    """In batches of the wished size, with labels, as many as wished, all from one client."""
    result = request("--batch-size", "4", "--count", "3", "--json")
    assert figures(result)["requests"] == 3
    assert figures(result)["images"] == 12
    sent = published(broker, store, 3)
    assert len({client for client, _, _ in sent}) == 1
    assert [count for _, count, _ in sent] == [4, 4, 4]
    assert all(labels and set(labels) <= set("0123456789") for _, _, labels in sent)


@pytest.mark.parametrize("format", ["csv", "csv.gz", "npy"])
def test_images_are_sent_again_and_again(broker: Broker, store: Store, folder: Path, format: str) -> None:
    """`--repeat` sends all images so often, each time as requests of their own."""
    np.save(folder / "x.npy", np.zeros((5, 28, 28), np.uint8))
    np.save(folder / "y.npy", np.array([1, 2, 3, 4, 5]))
    request("x.npy", "--labels", "y.npy", "--batch-size", "3", "--repeat", "2", "--format", format)
    sent = sorted((count, labels) for _, count, labels in published(broker, store, 4))
    assert sent == [(2, ["4", "5"])] * 2 + [(3, ["1", "2", "3"])] * 2


def test_photos_are_resized_and_sent(broker: Broker, store: Store, folder: Path) -> None:
    """A folder of pictures of differing sizes and colours becomes requests of one shape."""
    for name, mode, sides in (("Bag", "RGB", (40, 30)), ("Coat", "L", (9, 50))):
        (folder / "photos" / name).mkdir(parents=True)
        Picture.new(mode, sides).save(folder / "photos" / name / "1.png")
    request("photos", "--size", "28x28", "--channels", "1")
    assert [(count, labels) for _, count, labels in published(broker, store, 1)] == [(2, ["Bag", "Coat"])]


def test_the_rate_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """Batches go out evenly; time that others took is not waited for again, and without a rate nothing waits."""
    now, waits = [100.0], []

    def sleep(seconds: float) -> None:
        waits.append(round(seconds, 6))
        now[0] += seconds

    monkeypatch.setattr(make_analysis_requests.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(make_analysis_requests.time, "sleep", sleep)
    for number, _ in enumerate(paced(iter([batch_of(1)] * 4), 10)):
        now[0] += 0.04 if number != 1 else 0.25
    assert waits == [0.0, 0.06, 0.0, 0.0]
    waits.clear()
    assert len(list(paced(iter([batch_of(1)] * 4), None))) == 4
    assert waits == []


def test_responses_are_shown_summed_up_and_acked(broker: Broker, store: Store, folder: Path) -> None:
    """A line each, every prediction where asked, the figures last; what was shown does not come again."""
    for name in ("r-1", "r-2"):
        respond(broker, store, name)
    result = receive("--count", "2", "--predictions", "all.csv", "--json")
    assert result.exit_code == ExitCode.OK, result.output
    shown = [line for line in result.stdout.splitlines() if line.startswith("r-")]
    assert [line.split("  ")[0] for line in shown] == ["r-1", "r-2"]
    assert "2 images  50.0% right" in shown[0]
    assert (figures(result)["responses"], figures(result)["accuracy"]) == (2, 0.5)
    with (folder / "all.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.reader(file))
    assert rows == [
        ["request_id", "image_id", "label_id", "label", "probability"],
        ["r-1", "a", "0", "Bag", "0.9"],
        ["r-1", "b", "1", "Coat", "0.8"],
        ["r-2", "a", "0", "Bag", "0.9"],
        ["r-2", "b", "1", "Coat", "0.8"],
    ]
    assert broker.backlog(TOPOLOGY.responses).count == 0


def test_no_more_is_taken_than_was_asked_for(broker: Broker, store: Store) -> None:
    """What is left stays for the next console."""
    for number in range(5):
        respond(broker, store, f"r-{number}")
    assert figures(receive("--count", "2", "--json", "--quiet"))["responses"] == 2
    assert broker.backlog(TOPOLOGY.responses).count == 3
    assert figures(receive("--count", "3", "--json", "--quiet"))["responses"] == 3


def test_a_failed_prediction_makes_exit_code_1(broker: Broker, store: Store) -> None:
    """Its code and reason are shown; it is no row among the predictions."""
    respond(broker, store, "r-1", failed=True)
    respond(broker, store, "r-2")
    result = receive("--count", "2", "--predictions", "all.csv")
    assert result.exit_code == ExitCode.PREDICTIONS_FAILED
    assert "r-1  FAILED  invalid_batch: Data row 1: x." in result.stdout
    assert "2 responses, 1 failed" in result.stdout


def test_predictions_that_cannot_be_read_are_told_and_acked(broker: Broker, store: Store, folder: Path) -> None:
    """Whoever may publish responses may name any object; the console goes on with the next response."""
    response = AnalysisResponse(
        request_id="r-1", status="succeeded", image_count=1, worker="w", attempt=1, predictions_uri="file:///etc/passwd"
    )
    message = response_message(response, client_id="me", traceparent=None, source="/workers/w", now=datetime.now(UTC))
    broker.publish(TOPOLOGY.responses_topic, message).result(30)
    respond(broker, store, "r-2")
    result = receive("--count", "2", "--predictions", "all.csv")
    assert result.exit_code == ExitCode.PREDICTIONS_FAILED
    assert (folder / "all.csv").read_text().count("r-2") == 2
    assert receive("--idle-timeout", "0.05").exit_code == ExitCode.OK


def test_a_responses_text_does_not_steer_the_terminal() -> None:
    """It is one line, whatever its sender wrote."""
    response = AnalysisResponse(request_id="r", status="failed", image_count=0, worker="w\x1b[2J", attempt=1)
    failed = msgspec.structs.replace(response, error=FailureReason("x\n", "a\nr-2  FAILED \x1b[2J"))
    counted = msgspec.structs.replace(response, label_counts={"\u202eBag": 1})
    summary = Summary()
    summary.add(counted)
    for line in (line_of(failed, None), line_of(counted, None), *summary.text().splitlines()):
        assert line.isprintable()


def test_silence_ends_a_console_that_was_told_so() -> None:
    """Nothing came: nothing failed."""
    result = receive("--idle-timeout", "0.05", "--json")
    assert result.exit_code == ExitCode.OK
    assert figures(result)["responses"] == 0


def test_what_is_heard_puts_the_silence_off() -> None:
    """Only a whole silence stops; leaving stops nothing."""
    stopped = threading.Event()
    with IdleWatch(30, stopped.set) as watch, watch.handling():
        pass
    assert not stopped.is_set()
    with IdleWatch(None, stopped.set):
        pass
    assert not stopped.is_set()
    with IdleWatch(0.01, stopped.set):
        assert stopped.wait(30)


def test_what_takes_long_is_no_silence() -> None:
    """Writing a thousand images may well take longer than the silence that ends a console."""
    stopped = threading.Event()
    with IdleWatch(0.01, stopped.set) as watch:
        with watch.handling():
            assert not stopped.wait(0.2)
        assert stopped.wait(30)


def test_a_line_names_the_commonest_labels() -> None:
    """The rest is an ellipsis; without known labels nothing is said of them."""
    counts = {"Bag": 1, "Coat": 9, "Dress": 5, "Shirt": 2}
    response = AnalysisResponse(
        request_id="r", status="succeeded", image_count=17, worker="w", attempt=1, label_counts=counts
    )
    assert line_of(response, None) == "r  17 images  w  Coat 9, Dress 5, Shirt 2, …"
    assert line_of(response, 12.3) == "r  17 images  12 ms  w  Coat 9, Dress 5, Shirt 2, …"
