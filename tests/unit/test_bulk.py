"""Bulk classification: every image once and in order, whatever comes out of order, fails or is cut short."""

from __future__ import annotations

import csv
import json
import shutil
import threading
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result
from PIL import Image as Picture

import fashion_client.bulk_output
from fashion_client import classify_images
from fashion_client.bulk_flights import Patience
from fashion_client.bulk_output import OutputFile
from handoff.contracts.errors import ExitCode
from handoff.contracts.idx import encode_idx
from handoff.contracts.protocols import Store
from tests.answering import AnsweringService
from tests.fakes import images_of

COUNT = 24
BATCH = 3
# For batches that are never answered: long beside what a fake service needs.
IMPATIENT = Patience(notice_s=0.1, timeout_s=0.2, most_repeats=2)


class Crash(BaseException):
    """The process ends here, as by SIGKILL."""


class Console:
    """The console in a folder of its own, before a service in memory."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder = folder
        self.output = folder / "out.csv"
        self.service = AnsweringService()
        self.patience = Patience()
        monkeypatch.setattr(classify_images, "open_store", self._store)
        monkeypatch.setattr(classify_images.Client, "open", lambda *_, **__: self.service.client())
        monkeypatch.setattr(classify_images, "Patience", lambda **_: self.patience)
        np.save(folder / "x.npy", images_of(*range(COUNT)))

    def run(self, *arguments: str) -> Result:
        """Classify; without arguments the 24 images of x.npy in batches of 3."""
        names = arguments if any(not each.startswith("-") for each in arguments[:1]) else ("x.npy", *arguments)
        return CliRunner().invoke(
            classify_images.command,
            [*names, "--output", "out.csv", "--batch-size", str(BATCH)],
            catch_exceptions=False,
        )

    def rows(self) -> list[dict[str, str]]:
        """The output."""
        with self.output.open(encoding="utf-8", newline="") as file:
            return list(csv.DictReader(file))

    def failed(self) -> list[dict[str, str]]:
        """The list of failed batches."""
        with (self.folder / "out.csv.failed.csv").open(encoding="utf-8", newline="") as file:
            return list(csv.DictReader(file))

    @property
    def progress(self) -> Path:
        """The progress file."""
        return self.folder / "out.csv.progress"

    def _store(self, url: str) -> Store:
        del url
        return self.service.store


@pytest.fixture
def console(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Console:
    """A console, and x.npy."""
    return Console(folder, monkeypatch)


def ids(rows: list[dict[str, str]]) -> list[str]:
    """The ids of rows."""
    return [row["image_id"] for row in rows]


def test_every_image_gets_a_row_in_order_though_answers_come_in_any(console: Console) -> None:
    """Eight batches, answered four at a time in reverse; nothing stays in the store or beside the output."""
    console.service = AnsweringService(hold=4)
    result = console.run("--window", "4", "--json")
    assert result.exit_code == ExitCode.OK, result.output
    assert console.service.most_open == 4
    rows = console.rows()
    assert list(rows[0]) == ["image_id", "label_id", "label", "probability", "probability_dark", "probability_bright"]
    assert ids(rows) == [str(place) for place in range(COUNT)]
    assert [float(row["probability_bright"]) for row in rows] == pytest.approx(np.arange(COUNT) / 255, abs=1e-6)
    assert console.service.store.objects == {}
    assert sorted(path.name for path in console.folder.iterdir() if path.is_file()) == ["out.csv", "x.npy"]
    figures = json.loads(result.stdout.splitlines()[-1])
    assert (figures["images"], figures["labels"], figures["failed_batches"]) == (COUNT, {"dark": COUNT}, 0)
    assert figures["models"] == {"fashion:7": COUNT}


def test_no_more_is_in_flight_than_the_window(console: Console) -> None:
    """Where nothing is answered, nothing more is sent; the console says whom it waits for, asks again, and ends."""
    console.patience = IMPATIENT
    console.service.ignored = set(range(100))
    result = console.run("--window", "3")
    assert result.exit_code == ExitCode.RESPONSE_TIMEOUT
    assert len(set(console.service.requested)) == 3
    assert len(console.service.requested) == 3 + console.patience.most_repeats
    assert result.output.count("is a worker running (`fashion worker`)? Waiting") == 1
    assert "asked 3 times" in result.output
    console.service.ignored = set()
    assert console.run("--window", "3").exit_code == ExitCode.OK
    assert ids(console.rows()) == [str(place) for place in range(COUNT)]


def test_a_response_that_was_lost_is_found_in_the_store(console: Console) -> None:
    """Without asking again."""
    console.patience = IMPATIENT
    console.service.lost = {2, 5}
    assert console.run().exit_code == ExitCode.OK
    assert ids(console.rows()) == [str(place) for place in range(COUNT)]
    assert len(console.service.requested) == COUNT // BATCH


def test_a_batch_that_is_never_answered_fails_alone(console: Console) -> None:
    """The service answered everything else, so the fault is the batch's."""
    console.patience = IMPATIENT
    console.service.ignored = {1}
    result = console.run()
    assert result.exit_code == ExitCode.PREDICTIONS_FAILED
    assert [row["code"] for row in console.failed()] == ["response_timeout"]
    assert ids(console.rows()) == [str(place) for place in range(COUNT) if place not in {3, 4, 5}]


def test_failed_batches_are_listed_and_left_out(console: Console) -> None:
    """The job goes on, says how many failed and where they are named, and exits 1."""
    console.service.failing = {0, 4}
    result = console.run("--json")
    assert result.exit_code == ExitCode.PREDICTIONS_FAILED
    assert console.failed() == [
        {"file": "x.npy", "first_image": first, "last_image": last, "code": "unknown_model", "message": "Not here."}
        for first, last in (("0", "2"), ("12", "14"))
    ]
    assert ids(console.rows()) == [str(place) for place in range(COUNT) if place not in {0, 1, 2, 12, 13, 14}]
    figures = json.loads(result.stdout.splitlines()[-1])
    assert (figures["images"], figures["failed_batches"], figures["failed_images"]) == (COUNT - 6, 2, 6)
    assert "6 images failed, 2 batches whole: see out.csv.failed.csv" in result.output
    assert not console.progress.exists()


def test_a_model_of_other_labels_is_no_part_of_the_output(console: Console, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its rows would stand below a wrong header."""
    names = {4: ["a", "b", "c"][:2]}
    classify = console.service._classify

    def relabelled(request):  # type: ignore[no-untyped-def] # noqa: ANN001, ANN202
        console.service.labels = names.get(int(request.request_id.rpartition("-")[2]), ["dark", "bright"])
        return classify(request)

    monkeypatch.setattr(console.service, "_classify", relabelled)
    assert console.run().exit_code == ExitCode.PREDICTIONS_FAILED
    assert [(row["first_image"], row["code"]) for row in console.failed()] == [("12", "labels_differ")]


class CrashPoint:
    """Lets the process die at the second time of a step, and puts things as they lay then."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._store = console.service.store
        self._saved = console.folder / "saved"
        self._objects: dict[str, bytes] = {}
        self._passed = False
        self._lock = threading.Lock()
        self._patches = pytest.MonkeyPatch()

    def set(self, step: str) -> None:
        """Choose the step."""
        write, delete, append = fashion_client.bulk_output.write_progress, self._store.delete, OutputFile.append

        def append_half(file: OutputFile, data: bytes) -> None:
            if self._passed:
                file._file.write(data[: len(data) // 2])
                file._file.flush()
            self._pass()
            append(file, data)

        match step:
            case "in mid-append":
                self._patches.setattr(OutputFile, "append", append_half)
            case "before the progress is written":
                replaced = fashion_client.bulk_output
                self._patches.setattr(replaced, "write_progress", lambda *told: (self._pass(), write(*told)))
            case _:
                self._patches.setattr(self._store, "delete", lambda uri: (self._pass(), delete(uri)))

    def restore(self) -> None:
        """Put things as they were when the process died; what its other threads did since is undone."""
        self._patches.undo()
        for path in self._console.folder.glob("out.csv*"):
            path.unlink()
        for path in self._saved.iterdir():
            shutil.copy(path, self._console.folder)
        shutil.rmtree(self._saved)
        self._store.objects = dict(self._objects)

    def _pass(self) -> None:
        with self._lock:  # objects are deleted in several threads
            self._pass_or_die()

    def _pass_or_die(self) -> None:
        if not self._passed:
            self._passed = True
            return
        if not self._saved.exists():
            self._objects = dict(self._store.objects)
            self._saved.mkdir()
            for path in self._console.folder.glob("out.csv*"):
                shutil.copy(path, self._saved)
        raise Crash


@pytest.mark.parametrize("step", ["in mid-append", "before the progress is written", "before objects are deleted"])
def test_a_crash_costs_nothing_and_doubles_nothing(console: Console, step: str) -> None:
    """Wherever the process dies, the same command ends with the same bytes and leaves nothing in the store."""
    assert console.run().exit_code == ExitCode.OK
    undisturbed = console.output.read_bytes()
    console.output.unlink()
    crash = CrashPoint(console)
    crash.set(step)
    with pytest.raises(Crash):
        console.run("--window", "2")
    crash.restore()
    answered = {
        int(uri.split("/")[-2].rpartition("-")[2]) for uri in console.service.store.objects if "/results/" in uri
    }
    complete = json.loads(console.progress.read_bytes())["batches"]
    console.service.classifier.sizes.clear()
    result = console.run("--window", "2")
    assert result.exit_code == ExitCode.OK, result.output
    assert console.output.read_bytes() == undisturbed
    assert console.service.store.objects == {}
    assert sum(console.service.classifier.sizes) == COUNT - BATCH * len(answered | set(range(complete)))


def interrupt(console: Console) -> Result:
    """Press Ctrl-C after three batches."""
    take, calls = classify_images.Flights.take, [0]

    def interrupted(flights: classify_images.Flights) -> object:
        calls[0] += 1
        if calls[0] == 4:
            raise KeyboardInterrupt
        return take(flights)

    with pytest.MonkeyPatch.context() as patches:
        patches.setattr(classify_images.Flights, "take", interrupted)
        result = console.run("--window", "2")
    assert result.exit_code == ExitCode.INTERRUPTED
    return result


def test_a_second_start_says_where_it_goes_on(console: Console) -> None:
    """Ctrl-C ends with a sentence; what was complete stays so, what was requested is requested under the same id."""
    assert interrupt(console).output.endswith("Interrupted; the same command goes on from there.\n")
    assert json.loads(console.progress.read_bytes())["images"] == 9
    second = console.run("--window", "5")  # the window is no part of the job
    assert second.exit_code == ExitCode.OK
    assert "Resuming after 9 of 24 images." in second.output
    assert ids(console.rows()) == [str(place) for place in range(COUNT)]
    assert len(set(console.service.requested)) == COUNT // BATCH


@pytest.mark.parametrize(
    ("arguments", "said"),
    [(["--model", "other"], "with other options"), (["x.npy", "x.npy"], "with inputs that are others")],
)
def test_another_job_does_not_go_on(console: Console, arguments: list[str], said: str) -> None:
    """It is refused with a way out, and nothing is touched."""
    interrupt(console)
    before = console.output.read_bytes()
    result = console.run(*arguments)
    assert result.exit_code == ExitCode.SETTINGS_INVALID
    assert said in result.output
    assert "--overwrite" in result.output
    assert console.output.read_bytes() == before


def test_an_input_that_changed_is_refused(console: Console) -> None:
    """Its images need not be those of the rows already written; --overwrite begins anew, with other requests."""
    interrupt(console)
    run = json.loads(console.progress.read_bytes())["run"]
    np.save(console.folder / "x.npy", images_of(*range(COUNT + 1)))
    refused = console.run()
    assert (refused.exit_code, "have changed since" in refused.output) == (ExitCode.SETTINGS_INVALID, True)
    console.service.requested.clear()
    assert console.run("--overwrite").exit_code == ExitCode.OK
    assert ids(console.rows()) == [str(place) for place in range(COUNT + 1)]
    assert not any(run in request_id for request_id in console.service.requested)


def test_an_output_is_not_overwritten_unasked(console: Console) -> None:
    """Neither a finished one nor, whatever was asked, one that another process writes."""
    assert console.run().exit_code == ExitCode.OK
    again = console.run()
    assert again.exit_code == ExitCode.SETTINGS_INVALID
    assert "out.csv is there already" in again.output
    other = OutputFile.open(console.output, length=0)
    busy = console.run("--overwrite")
    other.close()
    assert (busy.exit_code, "Another process writes out.csv" in busy.output) == (ExitCode.SETTINGS_INVALID, True)


def test_an_output_that_was_cut_is_refused(console: Console) -> None:
    """Its rows are not all there any more."""
    interrupt(console)
    console.output.write_bytes(b"")
    result = console.run()
    assert result.exit_code == ExitCode.SETTINGS_INVALID
    assert "it was changed" in result.output


@pytest.mark.parametrize(
    ("output", "said"),
    [
        ("x.npy", "x.npy is one of the inputs"),
        ("none/out.csv", "There is no folder none"),
        ("out.csv.gz", "would be compressed"),
    ],
)
def test_an_unusable_output_is_a_sentence(console: Console, output: str, said: str) -> None:
    """Before anything is sent."""
    result = CliRunner().invoke(classify_images.command, ["x.npy", "--output", output, "--overwrite"])
    assert result.exit_code == ExitCode.SETTINGS_INVALID
    assert said in result.output
    assert console.service.requested == []


def test_several_inputs_are_told_apart(console: Console) -> None:
    """A column says which file a row is of; ids count within it, and a batch may hold images of several."""
    (console.folder / "y.idx").write_bytes(encode_idx(images_of(7, 8)[..., 0]))
    (console.folder / "z.csv").write_text(
        'image_id,pixel_0,pixel_1,pixel_2,pixel_3\n"a,b",1,1,1,1\n,2,2,2,2\n', encoding="utf-8"
    )
    (console.folder / "photos" / "Bag").mkdir(parents=True)
    Picture.new("L", (2, 2)).save(console.folder / "photos" / "Bag" / "1.png")
    result = console.run("y.idx", "z.csv", "photos", "y.idx")
    assert result.exit_code == ExitCode.OK, result.output
    found = [(row["file"], row["image_id"]) for row in console.rows()]
    assert found == [
        ("y.idx", "0"),
        ("y.idx", "1"),
        ("z.csv", "a,b"),
        ("z.csv", "1"),
        ("photos", "Bag/1.png"),
        ("y.idx", "0"),
        ("y.idx", "1"),
    ]
    assert console.service.classifier.sizes in ([3, 3, 1], [3, 1, 3], [1, 3, 3])


@pytest.mark.parametrize("unreadable", [{3}, {0, 1, 2, 3, 4}, {8}, set(range(9))])
def test_a_picture_that_cannot_be_read_is_listed(console: Console, unreadable: set[int]) -> None:
    """The others are classified, whether it is the first, the last, among them, or all there are."""
    (console.folder / "photos").mkdir()
    for number in range(9):
        path = console.folder / "photos" / f"{number}.png"
        if number in unreadable:
            path.write_bytes(b"no picture")
        else:
            Picture.new("L", (2, 2), number).save(path)
    result = console.run("photos", "--json")
    assert result.exit_code == ExitCode.PREDICTIONS_FAILED, result.output
    assert {(row["first_image"], row["last_image"], row["code"]) for row in console.failed()} == {
        (f"{number}.png", f"{number}.png", "unreadable") for number in unreadable
    }
    assert ids(console.rows()) == [f"{number}.png" for number in range(9) if number not in unreadable]
    figures = json.loads(result.stdout.splitlines()[-1])
    assert (figures["images"], figures["failed_images"]) == (9 - len(unreadable), len(unreadable))
    assert sum(console.service.classifier.sizes) == 9 - len(unreadable)


def test_a_prefix_of_the_store_is_an_input(console: Console) -> None:
    """Objects of known kinds in the order of their URIs, read as files are; the service's own are none."""
    store = console.service.store
    npy = (console.folder / "x.npy").read_bytes()
    store.objects = {
        f"{store.root}/data/b.npy": npy,
        f"{store.root}/data/a.idx.gz": encode_idx(images_of(9)[..., 0]),
        f"{store.root}/data/readme.md": b"none",
        f"{store.root}/requests/r/images.npy": npy,
        f"{store.root}/results/r/predictions.csv": b"none",
    }
    result = console.run(f"{store.root}/")
    assert result.exit_code == ExitCode.OK, result.output
    rows = console.rows()
    assert [row["file"].removeprefix(store.root) for row in rows] == ["/data/a.idx.gz"] + ["/data/b.npy"] * COUNT
    assert ids(rows[1:]) == [str(place) for place in range(COUNT)]
    assert len(store.objects) == 5


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("memory://elsewhere/x", "lies outside the store memory://store; name a prefix below it"),
        ("memory://store/none/", "No object of a known kind"),
        ("memory://store/big.npy", "divide it, or copy it here"),
        ("memory://store/bad.npy", "memory://store/bad.npy is no file of images"),
    ],
)
def test_objects_that_cannot_be_inputs_are_refused(
    console: Console, monkeypatch: pytest.MonkeyPatch, name: str, said: str
) -> None:
    """By their URI, whatever file they are held in."""
    monkeypatch.setenv("FASHION_WORKER_MAX_BATCH_BYTES", "1000")
    console.service.store.objects = {"memory://store/big.npy": bytes(1001), "memory://store/bad.npy": b"no"}
    result = console.run(name)
    assert result.exit_code == ExitCode.DATA_SET_UNAVAILABLE, result.output
    assert said in result.output


def test_an_input_that_is_broken_loses_nothing_before_the_fault(console: Console) -> None:
    """The rows of what could be read are written; the sentence names the fault."""
    rows = ["pixel_0,pixel_1,pixel_2,pixel_3", *["1,1,1,1"] * 200, "1,1,x,1"]
    (console.folder / "z.csv").write_text("\n".join(rows), encoding="utf-8")
    result = console.run("z.csv")
    assert result.exit_code == ExitCode.DATA_SET_UNAVAILABLE
    assert "row 201" in result.output
    assert len(console.rows()) >= 190


def test_kept_objects_stay(console: Console) -> None:
    """Three a batch."""
    assert console.run("--keep").exit_code == ExitCode.OK
    assert len(console.service.store.objects) == 3 * COUNT // BATCH


def test_a_store_that_fails_ends_the_job_until_the_next_start(console: Console) -> None:
    """With its own exit code; the same command goes on."""
    console.service.store.failures = 1
    assert console.run().exit_code == ExitCode.STORE_UNAVAILABLE
    assert console.run().exit_code == ExitCode.OK
    assert ids(console.rows()) == [str(place) for place in range(COUNT)]
