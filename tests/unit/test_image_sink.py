"""Images and contact sheets of responses: in a folder, from Python and from the receive console."""

from __future__ import annotations

import errno
import json
import os
import resource
from collections.abc import Iterator
from pathlib import Path

import msgspec
import numpy as np
import pytest
from click.testing import CliRunner, Result
from PIL import Image as Picture

from fashion_client import picture_folder
from fashion_client.answered_batches import AnsweredBatches, BatchLimits
from fashion_client.get_analysis_outputs import command
from fashion_client.image_sink import save_images
from fashion_client.picture_folder import PictureFolder
from fashion_client.predictions_file import open_predictions
from handoff.brokers.urls import open_broker
from handoff.contracts.batches import Batch
from handoff.contracts.errors import (
    ExitCode,
    InvalidBatch,
    PayloadNotFound,
    PayloadTooLarge,
    RequestRefused,
    StoreUnavailable,
)
from handoff.contracts.images import ImageShape
from handoff.contracts.messages import AnalysisResponse, FailureReason, PayloadFormat
from handoff.contracts.objects import batch_uri
from handoff.contracts.protocols import Broker, Store
from handoff.contracts.topology import Topology
from handoff.stores.urls import open_store
from tests.answered import answer, answered, message_of
from tests.fakes import FakeStore

TOPOLOGY = Topology()
RNG = np.random.default_rng(13)
GRAY = RNG.integers(0, 256, (4, 3, 3, 1), np.uint8)
COLORS = RNG.integers(0, 256, (4, 3, 3, 3), np.uint8)
IDS = ["a", "b", "c", "d"]


def files(folder: Path) -> list[str]:
    """Every file below a folder."""
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def pixels(path: Path) -> np.ndarray:
    """What a file shows, gray with its one channel."""
    with Picture.open(path) as picture:
        found = np.asarray(picture)
    return found[..., None] if found.ndim == 2 else found


@pytest.mark.parametrize("images", [GRAY, COLORS])
@pytest.mark.parametrize("format", ["csv", "csv.gz", "npy"])
def test_every_image_becomes_a_file_called_after_its_label(tmp_path: Path, images: np.ndarray, format: str) -> None:
    """Gray and colour, in every payload format; an npy batch knows its images by their places."""
    batch = Batch(images, IDS)
    found = answered(FakeStore(), "r-1", batch, [0, 1, 2, 1], format=format)
    with PictureFolder(tmp_path) as folder:
        save_images(found, folder)
    called = IDS if format != "npy" else ["0", "1", "2", "3"]
    expected = [
        f"{name}-{label}.png"
        for name, label in zip(called, ("Bag", "T-shirt-top", "Ankle boot", "T-shirt-top"), strict=True)
    ]
    assert files(tmp_path) == sorted(expected)
    for name, image in zip(expected, images, strict=True):
        assert np.array_equal(pixels(tmp_path / name), image)


def test_hostile_ids_stay_in_the_folder(tmp_path: Path) -> None:
    """They come from other clients."""
    ids = ["../../a", "/etc/b", "..", "\x1b[2Jc"]
    found = answered(FakeStore(), "r-1", Batch(GRAY, ids), [0, 0, 0, 0], labels=["../../x/y", "z"])
    with PictureFolder(tmp_path / "out") as folder:
        save_images(found, folder)
    assert files(tmp_path) == [f"out/{name}-x-y.png" for name in ("[2Jc", "a", "b", "unnamed")]


@pytest.mark.parametrize(
    ("format", "shape", "sides"), [("csv", None, (1, 6)), ("csv", (2, 3, 1), (2, 3)), ("npy", None, (2, 3))]
)
def test_images_that_are_no_squares_have_the_shape_that_is_named(
    format: PayloadFormat, shape: ImageShape | None, sides: tuple[int, int]
) -> None:
    """CSV says how many pixels there are, no more; npy says it itself."""
    store, wide = FakeStore(), GRAY[:, :2]
    response = answer(store, "r-1", Batch(wide, ["0", "1", "2", "3"]), [0] * 4, format=format)
    images = AnsweredBatches(store, shape=shape).of(response).batch.images
    assert images.shape == (4, *sides, 1)
    assert np.array_equal(images.ravel(), wide.ravel())


def test_a_shape_that_does_not_fit_is_told() -> None:
    """With how many pixels there are."""
    store = FakeStore()
    response = answer(store, "r-1", Batch(GRAY, IDS), [0] * 4)
    with pytest.raises(InvalidBatch, match="images have 9 pixels, of a shape other than 5x5x1; name theirs with"):
        list(AnsweredBatches(store, shape=(5, 5, 1)).of(response))


@pytest.mark.parametrize(
    ("break_it", "error", "said"),
    [
        (lambda store, uri: store.delete(uri), PayloadNotFound, "its client has removed it"),
        (lambda store, uri: store.objects.update({uri: b"pixel_0\n1\n"}), InvalidBatch, "holds other images than"),
        (lambda store, uri: store.objects.update({uri: b"what is this"}), InvalidBatch, "header does not end with"),
        (lambda store, uri: store.objects.update({uri: b"pixel_99999999\n1"}), InvalidBatch, "header does not end"),
        (lambda store, uri: store.objects.update({uri: bytes(10_001)}), PayloadTooLarge, "at most 10000"),
    ],
)
def test_a_batch_that_is_none_is_a_sentence(break_it: object, error: type[RequestRefused], said: str) -> None:
    """Gone, another one's, broken or too large."""
    store = FakeStore()
    response = answer(store, "r-1", Batch(GRAY, IDS), [0] * 4)
    break_it(store, batch_uri(store.root, "r-1", "csv"))  # type: ignore[operator]
    with pytest.raises(error, match=said):
        list(AnsweredBatches(store, limits=BatchLimits(max_bytes=10_000)).of(response))


def test_images_of_two_channels_are_no_pictures() -> None:
    """A model may well take them."""
    found = answered(FakeStore(), "r-1", Batch(COLORS[..., :2], ["0", "1", "2", "3"]), [0] * 4, format="npy")
    with pytest.raises(InvalidBatch, match="2 channels; pictures have 1 or 3"):
        list(found)


def test_a_store_that_does_not_answer_is_not_taken_for_an_empty_one() -> None:
    """The delivery comes again."""
    store = FakeStore()
    found = answered(store, "r-1", Batch(GRAY, IDS), [0] * 4)
    store.failures = 1
    with pytest.raises(StoreUnavailable):
        list(found)


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


def publish(broker: Broker, *responses: AnalysisResponse) -> None:
    """Publish responses as workers do."""
    for response in responses:
        broker.publish(TOPOLOGY.responses_topic, message_of(response)).result(30)


def receive(*arguments: str) -> Result:
    """Run the receive console."""
    return CliRunner().invoke(command, [*arguments, "--json"])


def figures(result: Result) -> dict[str, object]:
    """The JSON object on the last line."""
    found: dict[str, object] = json.loads(result.stdout.splitlines()[-1])
    return found


def test_the_console_writes_images_and_sheets_once(broker: Broker, store: Store, folder: Path) -> None:
    """Two requests with the same ids, a duplicate, and a second run: no image over another, none twice."""
    first = answer(store, "r-1", Batch(GRAY, IDS, ["Bag", "1", "", "Bag"]), [0, 1, 2, 1])
    second = answer(store, "r-2", Batch(GRAY[::-1].copy(), IDS), [0, 1, 2, 1])
    publish(broker, first, second, first)
    told = ("--images", "out", "--sheets", "sheets", "--predictions", "all.csv")
    result = receive(*told, "--count", "2")
    assert result.exit_code == ExitCode.OK, result.output
    assert "images: 8 written, 0 there already" in result.stdout
    assert (figures(result)["images"], figures(result)["images_written"]) == (8, 8)
    names = [
        f"{name}-{label}.png"
        for name, label in zip(IDS, ("Bag", "T-shirt-top", "Ankle boot", "T-shirt-top"), strict=True)
    ]
    doubles = [f"{name[0]}-2-{name[2:]}" for name in names]
    assert files(folder / "out") == sorted(names + doubles)
    assert files(folder / "sheets") == ["r-1.png", "r-2.png"]
    assert all(np.array_equal(pixels(folder / "out" / name), image) for name, image in zip(names, GRAY, strict=True))
    assert len((folder / "all.csv").read_text(encoding="utf-8").splitlines()) == 1 + 8
    publish(broker, second, first)
    again = receive(*told, "--idle-timeout", "0.3")
    assert (figures(again)["images_written"], figures(again)["contact_sheets_written"]) == (0, 0)
    assert figures(again)["contact_sheets_there_already"] == 2
    assert files(folder / "out") == sorted(names + doubles)
    assert broker.backlog(TOPOLOGY.responses).count == 0


def test_what_cannot_be_read_is_told_and_acked(broker: Broker, store: Store, folder: Path) -> None:
    """A batch that is gone, a failed response: the next one's images are written, and the exit code is 1."""
    gone, good = (answer(store, name, Batch(GRAY, IDS), [0] * 4) for name in ("r-1", "r-2"))
    store.delete(batch_uri(store.root, "r-1", "csv"))
    failed = AnalysisResponse(
        request_id="r-3",
        status="failed",
        image_count=4,
        worker="w",
        attempt=1,
        error=FailureReason("invalid_batch", "No."),
    )
    outside = msgspec.structs.replace(good, request_id="r-4", predictions_uri="file:///etc/passwd")
    publish(broker, gone, failed, outside, good)
    result = receive("--images", "out", "--sheets", "sheets", "--count", "4")
    assert result.exit_code == ExitCode.PREDICTIONS_FAILED
    assert "r-3  FAILED  invalid_batch: No." in result.stdout
    assert len(files(folder / "out")) == 4
    assert files(folder / "sheets") == ["r-2.png"]
    assert broker.backlog(TOPOLOGY.responses).count == 0


def test_a_full_disk_ends_the_console_and_the_delivery_comes_again(
    broker: Broker, store: Store, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One sentence, a named exit code, and nothing acked that was not written."""
    publish(broker, *(answer(store, name, Batch(GRAY, IDS), [0] * 4) for name in ("r-1", "r-2")))

    def refuse(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(picture_folder, "write_flushed", refuse)
    result = receive("--images", "out", "--count", "2")
    assert result.exit_code == ExitCode.SETTINGS_INVALID
    assert "Error: The pictures cannot be written to out: No space left on device" in result.output
    assert "Traceback" not in result.output
    assert files(folder / "out") == []
    monkeypatch.undo()
    monkeypatch.chdir(folder)
    again = CliRunner(env={"FASHION_BROKER": f"embedded://{folder}/queue.db", "FASHION_STORE": store.root}).invoke(
        command, ["--images", "out", "--count", "2", "--json"]
    )
    assert again.exit_code == ExitCode.OK, again.output
    assert figures(again)["images_written"] == 4
    assert broker.backlog(TOPOLOGY.responses).count == 0


def test_a_predictions_file_that_cannot_grow_ends_it_too(broker: Broker, store: Store, folder: Path) -> None:
    """In the same sentence; what was shown before is in the file."""
    publish(broker, *(answer(store, name, Batch(GRAY, IDS), [0] * 4) for name in ("r-1", "r-2", "r-3")))
    out = folder / "out.csv"
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)

    def stop_growth(response: AnalysisResponse, _: object) -> str:
        if response.request_id == "r-2":  # shown when it is saved
            resource.setrlimit(resource.RLIMIT_FSIZE, (out.stat().st_size + 10, hard))
        return response.request_id

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("fashion_client.get_analysis_outputs.line_of", stop_growth)
        try:
            result = receive("--predictions", "out.csv", "--count", "3")
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert result.exit_code == ExitCode.SETTINGS_INVALID
    assert "Error: The predictions cannot be written to out.csv: File too large" in result.output
    assert "Traceback" not in result.output
    assert [row.split(",")[0] for row in out.read_text().splitlines()[1:]] == ["r-1"] * 4 + ["r-2"] * 4


def test_another_run_keeps_what_the_first_one_wrote(broker: Broker, store: Store, folder: Path) -> None:
    """Its responses are acked and do not come again; of a row in whose middle it was killed, nothing is left."""
    out = folder / "out.csv"
    publish(broker, answer(store, "r-1", Batch(GRAY, IDS), [0] * 4))
    receive("--predictions", "out.csv", "--count", "1")
    first = out.read_bytes()
    for torn in (b"", b"r-2,a", first[:20]):
        out.write_bytes(torn if torn == first[:20] else first + torn)  # the heading itself, at last
        kept = b"" if torn == first[:20] else first
        name = f"r-{2 + len(torn)}"
        publish(broker, answer(store, name, Batch(GRAY, IDS), [0] * 4))
        receive("--predictions", "out.csv", "--count", "1")
        lines = out.read_text().splitlines()
        assert out.read_bytes().startswith(kept)
        assert lines[0] == "request_id,image_id,label_id,label,probability"
        assert [row.split(",")[0] for row in lines[1:]] == ["r-1"] * 4 * bool(kept) + [name] * 4


def test_a_predictions_file_is_nobody_elses(broker: Broker, store: Store, folder: Path) -> None:
    """Neither another program's, nor that of another console at the same time; nothing is taken."""
    publish(broker, answer(store, "r-1", Batch(GRAY, IDS), [0] * 4))
    (folder / "mine.csv").write_text("image_id,label\na,Bag\n")
    result = receive("--predictions", "mine.csv", "--count", "1")
    assert result.exit_code == ExitCode.SETTINGS_INVALID
    assert "mine.csv is there already and holds no predictions; name another file." in result.output
    assert (folder / "mine.csv").read_text() == "image_id,label\na,Bag\n"
    with open_predictions(folder / "out.csv"):
        result = receive("--predictions", "out.csv", "--count", "1")
    assert result.exit_code == ExitCode.SETTINGS_INVALID
    assert "Another console writes its predictions to out.csv; name another file." in result.output
    assert broker.backlog(TOPOLOGY.responses).count == 1


def test_predictions_go_to_a_device_or_a_pipe_too(broker: Broker, store: Store) -> None:
    """Which hold nothing that could be kept."""
    publish(broker, answer(store, "r-1", Batch(GRAY, IDS), [0] * 4))
    assert receive("--predictions", os.devnull, "--count", "1").exit_code == ExitCode.OK


def test_a_folder_that_cannot_be_used_is_told_before_anything_is_taken(
    broker: Broker, store: Store, folder: Path
) -> None:
    """It is a mistake of the command line, not of a response."""
    publish(broker, answer(store, "r-1", Batch(GRAY, IDS), [0] * 4))
    (folder / "file").touch()
    result = receive("--images", "file/out", "--count", "1")
    assert result.exit_code == ExitCode.SETTINGS_INVALID
    assert "cannot be written to file/out: Not a directory" in result.output
    assert broker.backlog(TOPOLOGY.responses).count == 1
