"""Runs of `fashion request` that are killed at every step: gone on with, each request is answered and shown once."""

from __future__ import annotations

import hashlib
import json
import threading
from collections import Counter
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result

from fashion_client.client import Client
from fashion_client.journal import Journal, Row, read_journal
from fashion_client.make_analysis_requests import NOTHING_TO_RESUME, command
from fashion_client.waiting import MOST_WAIT_S, Patience
from handoff.contracts.envelope import parse_request
from handoff.contracts.errors import BrokerUnavailable, ExitCode
from handoff.contracts.messages import AnalysisRequest, AnalysisResponse
from handoff.contracts.protocols import Message
from handoff.progress import Progress
from tests.answering import AnsweringBroker, AnsweringService, Incoming
from tests.fakes import FakeBroker, FakeStore

BATCHES = 12

POINTS = ["before upload", "before publish", "after publish", "before commit", "before show"]


class Killed(BaseException):
    """The process is gone."""


class Death:
    """Kills whoever reaches a point for the n-th time, and from then on everybody at every point."""

    def __init__(self) -> None:
        self.point, self.left = "", 0
        self.is_dead = False
        self._lock = threading.Lock()

    def reach(self, point: str) -> None:
        """Come to a point."""
        with self._lock:
            self.left -= point == self.point
            self.is_dead = self.is_dead or (point == self.point and not self.left)
            if self.is_dead:
                raise Killed(point)


class MortalStore(FakeStore):
    """A store whose client may die before an upload."""

    def __init__(self, death: Death) -> None:
        super().__init__()
        self._death = death

    def create(self, uri: str, data: bytes) -> bool:
        """Write an object; the worker's own are no matter of the client's life."""
        if "/requests/" in uri:
            self._death.reach("before upload")
        return super().create(uri, data)


class MortalBroker(AnsweringBroker):
    """A broker whose client may die before a publication, or before it hears of it."""

    def __init__(self, incoming: Incoming, answer: Callable[[AnalysisRequest], None], death: Death) -> None:
        super().__init__(incoming, answer)
        self._death = death

    def publish(self, topic: str, message: Message) -> Future[str]:
        """Keep a message and answer it."""
        self._death.reach("before publish")
        published = super().publish(topic, message)
        self._death.reach("after publish")
        return published


class MortalService(AnsweringService):
    """A service whose client may die; `republished` are the requests that said they had been published before."""

    def __init__(self) -> None:
        super().__init__()
        self.death = Death()
        self.store = MortalStore(self.death)
        self.connections: list[FakeBroker] = []

    def broker(self, incoming: Incoming) -> FakeBroker:
        """Connect."""
        self.connections.append(MortalBroker(incoming, self.take, self.death))
        return self.connections[-1]

    @property
    def republished(self) -> list[str]:
        """The last connection's requests that said so."""
        received = [parse_request(message) for _, message in self.connections[-1].published]
        return [each.request.request_id for each in received if each.republished]


@pytest.fixture
def service(folder: Path, monkeypatch: pytest.MonkeyPatch) -> MortalService:
    """What the console connects to, with images in `x.npy`; the client may also die before a commit or a line."""
    service = MortalService()
    np.save(folder / "x.npy", np.arange(BATCHES * 2 * 4, dtype=np.uint8).reshape(-1, 2, 2))

    def connect(*_urls: str, client_id: str, receive: str, **_: object) -> Client:
        return service.client(client_id=client_id, receive=receive)  # type: ignore[arg-type]

    answer, write = Journal.answer, Progress.write

    def mortal_answer(journal: Journal, response: AnalysisResponse) -> bool:
        service.death.reach("before commit")
        return answer(journal, response)

    def mortal_write(progress: Progress, line: str) -> None:
        service.death.reach("before show")
        write(progress, line)

    monkeypatch.setattr(Client, "open", connect)
    monkeypatch.setattr(Journal, "answer", mortal_answer)
    monkeypatch.setattr(Progress, "write", mortal_write)
    return service


def request(*arguments: str, exit_code: ExitCode = ExitCode.OK) -> Result:
    """Run the console on the images."""
    result = CliRunner().invoke(command, ["x.npy", "--batch-size", "2", *arguments])
    assert result.exit_code == exit_code, (result.output, result.exception)
    return result


def resume(*arguments: str, exit_code: ExitCode = ExitCode.OK) -> Result:
    """Run the console again."""
    result = CliRunner().invoke(command, ["--resume", *arguments])
    assert result.exit_code == exit_code, (result.output, result.exception)
    return result


def figures(result: Result) -> dict[str, object]:
    """The JSON object on the last line."""
    found: dict[str, object] = json.loads(result.stdout.splitlines()[-1])
    return found


def journalled(folder: Path) -> list[Row]:
    """What the one journal holds."""
    (path,) = (folder / "var" / "journals").glob("*.journal")
    return list(read_journal(path))


def shown(text: str, folder: Path) -> Counter[str]:
    """How often each request was shown."""
    ids = {row.request_id for row in journalled(folder)}
    return Counter(word for line in text.splitlines() for word in line.split()[:1] if word in ids)


@pytest.mark.parametrize("count", [1, 4, BATCHES])
@pytest.mark.parametrize("point", POINTS)
def test_a_killed_run_answers_and_shows_each_request_once(
    service: MortalService, folder: Path, capsys: pytest.CaptureFixture[str], point: str, count: int
) -> None:
    """At whatever step: nothing answered is published again, and nothing lies in the store for nobody."""
    service.death.point, service.death.left = point, count
    with pytest.raises(Killed):
        command.main(["x.npy", "--batch-size", "2", "--wait"])
    before = capsys.readouterr().out
    rows = journalled(folder)
    answered = {row.request_id for row in rows if row.state == "answered"}
    published = list(service.requested)
    service.death.__init__()  # type: ignore[misc]
    result = resume("--wait", "--json")
    rows = journalled(folder)
    assert [row.state for row in rows] == ["answered"] * BATCHES
    assert [row.response.request_id for row in rows if row.response] == [row.request_id for row in rows]
    asked_again = service.requested[len(published) :]
    assert not answered & set(asked_again)
    assert max(Counter(asked_again).values(), default=1) == 1
    assert set(published) & set(asked_again) <= set(service.republished)
    folders = {uri.split("/")[-2] for uri in service.store.objects if "/requests/" in uri}
    assert folders == {row.request_id for row in rows}
    seen = shown(before + result.stdout, folder)
    assert max(seen.values()) == 1
    # A response that was being shown when the process died is in the journal alone.
    assert BATCHES - 1 <= len(seen) <= BATCHES - (point == "before show")
    assert (figures(result)["published"], figures(result)["resumed"]) == (len(asked_again), True)
    # When the last one dies before it is shown, nothing is left to do.
    assert figures(result)["answered"] == (0 if NOTHING_TO_RESUME in result.stdout else BATCHES)


def test_a_run_killed_again_and_again_ends(service: MortalService, folder: Path) -> None:
    """Each attempt gets one step further, wherever it dies."""
    service.death.point, service.death.left = "after publish", 2
    with pytest.raises(Killed):
        command.main(["x.npy", "--batch-size", "2", "--wait"])
    for point in (POINTS * 3)[1:]:
        service.death.__init__()  # type: ignore[misc]
        service.death.point, service.death.left = point, 1
        try:
            command.main(["--resume", "--wait"], standalone_mode=False)
        except Killed:
            continue
    service.death.__init__()  # type: ignore[misc]
    resume("--wait")
    assert [row.state for row in journalled(folder)] == ["answered"] * BATCHES
    assert len([uri for uri in service.store.objects if "/requests/" in uri]) == BATCHES


def test_without_wait_answers_are_looked_up_later(service: MortalService, folder: Path) -> None:
    """The first console marks nothing answered; the next one finds all responses and publishes nothing."""
    result = request("--json")
    assert (figures(result)["published"], figures(result)["answered"], figures(result)["resumed"]) == (
        BATCHES,
        0,
        False,
    )
    assert {row.state for row in journalled(folder)} == {"published"}
    result = resume("--json")
    assert (figures(result)["published"], figures(result)["answered"]) == (0, BATCHES)
    assert len(shown(result.stdout, folder)) == BATCHES
    assert len(service.requested) == BATCHES
    assert NOTHING_TO_RESUME in resume("--wait").stdout


def test_without_wait_the_unanswered_are_published_again(service: MortalService, folder: Path) -> None:
    """Once a console, and never those that are answered."""
    service.ignored = {3, 7}
    request()
    for publications in (2, 3):
        result = resume("--json")
        assert (figures(result)["published"], figures(result)["answered"]) == (2, BATCHES - 2)
        rows = journalled(folder)
        assert [row.publications for row in rows if row.state == "published"] == [publications] * 2
    assert [name.rpartition("-")[2] for name in service.republished] == ["3", "7"]


def test_a_lost_response_is_found_in_the_store(service: MortalService, folder: Path) -> None:
    """When time is up, and without another publication."""
    service.lost = {5}
    result = request("--wait", "--timeout", "0.01", "--json")
    assert (figures(result)["published"], figures(result)["answered"]) == (BATCHES, BATCHES)
    assert shown(result.stdout, folder) == Counter(row.request_id for row in journalled(folder))


def test_a_request_that_is_never_answered_is_reported_missing(
    service: MortalService, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After so many publications, with a code of its own; a later --resume --wait asks again."""
    monkeypatch.setenv("FASHION_CLIENT_MAX_PUBLICATIONS", "3")
    service.ignored = {2, 9}
    result = request("--wait", "--timeout", "0.01", "--json", exit_code=ExitCode.RESPONSE_TIMEOUT)
    assert (figures(result)["missing"], figures(result)["answered"]) == (2, BATCHES - 2)
    assert figures(result)["published"] == BATCHES + 2 * 2
    assert f"Error: 2 of {BATCHES} requests have no response, asked for up to 3 times each" in result.stderr
    assert "`fashion request --resume --wait` asks again." in result.stderr
    service.ignored = set()
    result = resume("--wait", "--json")
    assert (figures(result)["missing"], figures(result)["published"]) == (0, 2)
    assert {row.state for row in journalled(folder)} == {"answered"}


def test_a_failed_response_makes_exit_code_1(service: MortalService) -> None:
    """It is an answer like any other; so says the console that goes on, too."""
    service.failing, service.ignored = {4}, {5}
    request("--wait", "--timeout", "0.01", exit_code=ExitCode.RESPONSE_TIMEOUT)
    service.ignored = set()
    result = resume("--wait", "--json", exit_code=ExitCode.PREDICTIONS_FAILED)
    assert (figures(result)["failed"], figures(result)["answered"]) == (1, BATCHES)


def test_patience_grows_up_to_a_bound() -> None:
    """Twice as long after each publication; a first wait over the bound stays as it is."""
    assert [Patience(60.0).wait_s(count) for count in range(1, 7)] == [60, 120, 240, 480, 600, 600]
    assert MOST_WAIT_S == 600
    assert [Patience(900.0).wait_s(count) for count in (1, 2, 9)] == [900] * 3


def test_a_subscription_that_fails_ends_the_wait(service: MortalService) -> None:
    """With the broker's own code, and a word on how to go on."""
    service.ignored = set(range(BATCHES))
    publish = service.take

    def take(request: AnalysisRequest) -> None:
        publish(request)
        if len(service.requested) == BATCHES:
            service.break_broker()

    service.take = take  # type: ignore[method-assign]
    result = request("--wait", exit_code=BrokerUnavailable.exit_code)
    assert result.stderr.splitlines()[-2:] == ["`fashion request --resume` goes on from there.", "Error: Gone."]


@pytest.mark.parametrize("name", ["own.journal", None])
def test_ctrl_c_says_how_to_go_on(service: MortalService, monkeypatch: pytest.MonkeyPatch, name: str | None) -> None:
    """One sentence, naming the journal where the user named it."""
    service.ignored = {BATCHES - 1}

    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("fashion_client.waiting.wait", interrupt)
    named = ["--journal", name] if name else []
    result = request("--wait", *named, exit_code=ExitCode.INTERRUPTED)
    again = "--resume" + (f" --journal {name}" if name else "")
    assert f"Interrupted; `fashion request {again}` goes on from there." in result.stderr
    monkeypatch.undo()


def change(folder: Path, images: np.ndarray) -> None:
    """Put other images in the place of the run's."""
    np.save(folder / "x.npy", images)


@pytest.mark.parametrize(
    "changed",
    [
        lambda images: images + 1,
        lambda images: np.concatenate([images[-2:], images]),
        lambda images: images[:3],
        lambda images: images[:4],
    ],
    ids=["other", "more in front", "fewer", "whole batches fewer"],
)
@pytest.mark.parametrize("point", ["before upload", "before publish", "after publish"])
def test_images_that_changed_are_refused(
    service: MortalService, folder: Path, changed: Callable[[np.ndarray], np.ndarray], point: str
) -> None:
    """Before anything else than what was written down goes out under this run's name."""
    service.death.point, service.death.left = point, 4
    with pytest.raises(Killed):
        command.main(["x.npy", "--batch-size", "2", "--wait"])
    service.death.__init__()  # type: ignore[misc]
    before = journalled(folder)
    change(folder, changed(np.load(folder / "x.npy")))
    result = resume("--wait", exit_code=ExitCode.DATA_SET_UNAVAILABLE)
    assert "The images are not those that the run in" in result.stderr
    assert [row.request for row in journalled(folder)] == [row.request for row in before]
    told = {row.request.batch_uri: row.request.checksum for row in before}
    for uri in (uri for uri in service.store.objects if "/requests/" in uri):
        assert told[uri] == "sha256:" + hashlib.sha256(service.store.objects[uri]).hexdigest()


def test_a_run_takes_nothing_from_the_command_line_but_its_own(service: MortalService, folder: Path) -> None:
    """The same arguments again are welcome, others are refused; without any, the journal knows them."""
    service.ignored = {0}
    request("--count", "3", "--journal", "own.journal")
    same = ["x.npy", "--batch-size", "2", "--count", "3", "--journal", "own.journal"]
    assert figures(resume(*same, "--json"))["requests"] == 3
    result = resume(*same, "--batch-size", "3", "--model", "m", exit_code=ExitCode.SETTINGS_INVALID)
    assert "was begun with other batch_size, model; leave the arguments out" in result.stderr
    service.ignored = set()
    result = resume("--journal", str(folder / "own.journal"), "--wait", "--json")
    assert (figures(result)["requests"], figures(result)["answered"]) == (3, 3)
    result = resume("--journal", "own.journal", "--wait", "--json")
    assert result.stdout.startswith(NOTHING_TO_RESUME)
    assert (figures(result)["answered"], figures(result)["published"]) == (3, 0)


@pytest.mark.parametrize(
    ("arguments", "exit_code", "sentence"),
    [
        (["--resume", "--journal", "none.journal"], ExitCode.SETTINGS_INVALID, "There is no journal none.journal"),
        (["--timeout", "3"], ExitCode.USAGE, "--timeout belongs to --wait"),
        (["nowhere.npy"], ExitCode.DATA_SET_UNAVAILABLE, "nowhere.npy"),
    ],
)
@pytest.mark.usefixtures("service")
def test_what_cannot_be_sent_leaves_no_journal(
    folder: Path, arguments: list[str], exit_code: ExitCode, sentence: str
) -> None:
    """A sentence, and nothing that a later --resume would stumble over."""
    result = CliRunner().invoke(command, arguments)
    assert result.exit_code == exit_code, result.output
    assert sentence in result.stderr
    assert list(folder.glob("**/*.journal*")) == []


@pytest.mark.usefixtures("service")
def test_nothing_to_resume_is_no_error() -> None:
    """Whether nothing was ever sent, or all is answered."""
    assert resume().stdout.strip() == NOTHING_TO_RESUME
    request("--wait")
    assert resume().stdout.strip() == NOTHING_TO_RESUME


def test_a_repeated_source_is_gone_on_with(service: MortalService, folder: Path) -> None:
    """In its second turn, with batches that end where the images do."""
    service.death.point, service.death.left = "after publish", 10
    change(folder, np.load(folder / "x.npy")[:13])
    with pytest.raises(Killed):
        command.main(["x.npy", "--batch-size", "2", "--repeat", "2"])
    service.death.__init__()  # type: ignore[misc]
    result = resume("--wait", "--json")
    assert (figures(result)["requests"], figures(result)["images"]) == (14, 26)
    assert [row.request.image_count for row in journalled(folder)] == ([2] * 6 + [1]) * 2
