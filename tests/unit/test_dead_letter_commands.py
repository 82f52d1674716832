"""`fashion dead-letters` as an operator uses it, on the broker that needs no server."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import closing, suppress
from pathlib import Path

import click
import pytest
from click.testing import CliRunner, Result

from fashion import main
from handoff import dead_letters
from handoff.brokers.dead_letters import dead_letter
from handoff.brokers.urls import open_broker
from handoff.contracts.errors import ExitCode
from handoff.contracts.protocols import Backlog, Limits, Message
from handoff.contracts.topology import Topology
from handoff.dead_letter_commands import group
from handoff.dead_letters import Replayed, letter_of
from handoff.settings import REPOSITORY
from tests.fakes import FakeDelivery
from tests.unit.test_dead_letters import request

TOPOLOGY = Topology()
MALFORMED = Message(b"\x1b]0;owned\x07", {"ce-type": "fashion.analysis.requested.v1"})


@pytest.fixture(autouse=True)
def _brief_silence(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing else happens on these brokers."""
    monkeypatch.setattr(dead_letters, "LOCAL_SILENCE_S", 0.3)


@pytest.fixture
def url(folder: Path) -> str:
    """A broker with three letters: one malformed, one that is there twice."""
    url = f"embedded://{folder}/queue.db"
    bury(url, request("r-1"), request("r-2"), request("r-1"))
    bury(url, MALFORMED, code="malformed_message")
    return url


def bury(url: str, *messages: Message, code: str = "store_unavailable") -> None:
    """Publish dead letters."""
    with closing(open_broker(url, TOPOLOGY)) as broker:
        for message in messages:
            letter = dead_letter(message, code=code, reason="The store did not answer.", attempts=5)
            broker.publish(TOPOLOGY.dead_letters_topic, letter).result(30)


def run(*arguments: str) -> Result:
    """Run a command as a shell does."""
    return CliRunner().invoke(main, ["dead-letters", *arguments], prog_name="fashion")


def told(result: Result) -> dict[str, object]:
    """The JSON object on the last line of standard output."""
    found: dict[str, object] = json.loads(result.stdout.splitlines()[-1])
    return found


def left(url: str) -> tuple[Backlog, Backlog]:
    """What waits: letters and requests."""
    with closing(open_broker(url, TOPOLOGY)) as broker:
        return broker.backlog(TOPOLOGY.dead_letters), broker.backlog(TOPOLOGY.requests)


def counts(url: str) -> tuple[int | None, int | None]:
    """How many copies of letters wait, and how many requests."""
    letters, requests = left(url)
    return letters.count, requests.count


def id_of(message: Message) -> str:
    """What a letter is called."""
    return letter_of(FakeDelivery(message)).id


@pytest.mark.parametrize("name", list(group.commands))
def test_every_command_explains_itself(name: str) -> None:
    """A word on each of its flags."""
    result = run(name, "--help")
    assert result.exit_code == ExitCode.OK, result.output
    found = group.commands[name].params
    assert [each.name for each in found if isinstance(each, click.Option) and not (each.help or each.hidden)] == []


def test_a_list_takes_nothing_away(url: str) -> None:
    """Twice the same letters, for people and as JSON; the second copy is no second line."""
    first, second = run("list", "--json"), run("list", "--json")
    assert first.exit_code == second.exit_code == ExitCode.OK
    assert sorted(first.stdout.splitlines()[:-1]) == sorted(second.stdout.splitlines()[:-1])
    lines = first.stdout.splitlines()
    assert [line.split()[0] for line in lines[:2]] == ["id", id_of(request("r-1"))]
    assert lines[4] == "3 letters: 2 store_unavailable, 1 malformed_message; 1 in several copies."
    letters = told(first)["letters"]
    assert letters[0] == {  # type: ignore[index]
        "id": id_of(request("r-1")),
        "request_id": "r-1",
        "requested_at": "2026-01-02T03:04:05Z",
        "code": "store_unavailable",
        "reason": "The store did not answer.",
        "attempts": 5,
        "copies": 2,
    }
    assert counts(url) == (4, 0)


def test_a_list_of_one_code(url: str) -> None:
    """Only its letters are shown and counted."""
    del url
    assert "1 letter: 1 malformed_message." in run("list", "--code", "malformed_message").stdout
    assert run("list", "--code", "none\x1b").stdout == "No dead letters with the code none\\x1b.\n"


def test_an_empty_list_says_so(folder: Path) -> None:
    """On a broker that nobody used."""
    del folder
    result = run("list", "--json")
    assert (result.exit_code, result.stdout.splitlines()[0]) == (ExitCode.OK, "No dead letters.")
    assert told(result) == {"letters": [], "complete": True}


def test_a_list_ends_at_its_limit_and_says_so(url: str) -> None:
    """What was not looked at is spoken of."""
    result = run("list", "--limit", "2", "--json")
    assert "there may be more" in result.stdout
    assert told(result)["complete"] is False
    assert counts(url) == (4, 0)


def test_a_letter_is_shown_by_the_beginning_of_its_id(url: str, folder: Path) -> None:
    """With what the store has of it; its body can be had as it was."""
    result = run("show", id_of(MALFORMED)[:7], "--raw", "body", "--json")
    assert result.exit_code == ExitCode.OK, result.output
    assert (folder / "body").read_bytes() == MALFORMED.body
    assert "\x1b" not in result.output
    assert told(result)["body"] == MALFORMED.body.decode()
    assert told(result)["batch_is_there"] is None
    result = run("show", id_of(request("r-1")))
    assert "copies      2" in result.stdout
    assert "batch       outside the store: memory://store/requests/r-1/images.csv" in result.stdout
    assert f"answer      not there: file://{folder}/store/results/r-1/response.json" in result.stdout
    assert counts(url) == (4, 0)


def test_a_replay_publishes_once_what_is_there_twice(url: str) -> None:
    """The letter goes with its copies; the request is as it was, and says that it was published before."""
    result = run("replay", id_of(request("r-1")), "--json")
    assert result.exit_code == ExitCode.OK, result.output
    assert f"replayed  {id_of(request('r-1'))}  r-1  store_unavailable" in result.stdout
    assert told(result) == {"replayed": 1, "refused": 0, "malformed": 0, "unknown": []}
    assert counts(url) == (2, 1)
    with closing(open_broker(url, TOPOLOGY)) as broker:
        delivery = next(iter(broker.subscribe(TOPOLOGY.requests, Limits())))
        assert delivery.message == dead_letters.republication(request("r-1"))


def test_replaying_what_is_gone_is_said_after_the_rest_was_done(url: str) -> None:
    """So a command that was interrupted can be given again as it was."""
    assert run("replay", id_of(request("r-1"))).exit_code == ExitCode.OK
    result = run("replay", id_of(request("r-1")), id_of(request("r-2")), "--json")
    assert result.exit_code == ExitCode.DEAD_LETTER_UNKNOWN
    assert f"Error: No dead letter whose id begins with '{id_of(request('r-1'))}' is there now" in result.stderr
    assert told(result)["replayed"] == 1
    assert counts(url) == (1, 2)


def test_a_replay_of_all_leaves_what_is_malformed(url: str) -> None:
    """Unless it is forced; with nothing there it says so and succeeds."""
    result = run("replay", "--all")
    assert result.exit_code == ExitCode.OK
    assert "1 malformed left alone" in result.stdout
    assert counts(url) == (1, 2)
    result = run("replay", "--all", "--code", "store_unavailable")
    assert (result.exit_code, result.stdout) == (ExitCode.OK, "There is nothing to replay.\n")
    assert run("replay", "--all", "--force").exit_code == ExitCode.OK
    assert counts(url) == (0, 3)


def test_an_interrupted_replay_leaves_what_was_not_acked(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """After the first letter was done, the others are where they were, at once."""
    whole = dead_letters.replay

    def interrupted(*arguments: object) -> Iterator[Replayed]:
        yield next(iter(whole(*arguments)))  # type: ignore[arg-type]
        raise KeyboardInterrupt

    with monkeypatch.context() as during:
        during.setattr(dead_letters, "IN_FLIGHT", 1)
        during.setattr(dead_letters, "replay", interrupted)
        result = run("replay", "--all")
    assert (result.exit_code, result.stderr.splitlines()[-1]) == (ExitCode.INTERRUPTED, "Interrupted.")
    assert counts(url) == (2, 1)
    assert "2 letters" in run("list").stdout


def test_a_drop_saves_first_and_says_what_it_took(url: str, folder: Path) -> None:
    """A JSON object a line, appended, from which each message can be made again."""
    for name in (id_of(MALFORMED), id_of(request("r-1"))):
        assert f"dropped  {name}" in run("drop", name, "--yes", "--save", "letters.jsonl").stdout
    assert counts(url) == (1, 0)
    saved = [json.loads(line) for line in (folder / "letters.jsonl").read_bytes().splitlines()]
    assert [each["body"].encode() for each in saved] == [MALFORMED.body, request("r-1").body]
    assert saved[1]["attributes"] == dict(request("r-1").attributes)
    assert saved[1]["copies"] == 2


def test_what_cannot_be_saved_is_not_dropped(url: str) -> None:
    """The sentence names the file."""
    result = run("drop", "--all", "--yes", "--save", "none/letters.jsonl")
    assert result.exit_code == ExitCode.SETTINGS_INVALID
    assert "The file none/letters.jsonl cannot be written: No such file or directory." in result.stderr
    assert counts(url) == (4, 0)


def test_a_drop_of_one_code(url: str) -> None:
    """The others stay; a second time there is nothing."""
    assert run("drop", "--all", "--code", "malformed_message", "--yes").exit_code == ExitCode.OK
    assert counts(url) == (3, 0)
    result = run("drop", "--all", "--code", "malformed_message", "--yes", "--json")
    assert result.stdout.splitlines()[0] == "There is nothing to drop."
    assert told(result) == {"dropped": 0, "unknown": []}


@pytest.mark.parametrize(("answer", "letters"), [(b"n\n", 4), (b"y\n", 0), (b"\x03", 4)])
def test_a_drop_asks_where_there_is_a_terminal(url: str, answer: bytes, letters: int) -> None:
    """No, yes, and Ctrl-C at the question."""
    terminal, theirs = pty.openpty()
    try:
        command = [sys.executable, str(REPOSITORY / "fashion.py"), "dead-letters", "drop", "--all"]
        with subprocess.Popen(
            command, stdin=theirs, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True
        ) as process:
            assert process.stdout
            asked = b""
            while not asked.endswith(b"[y/N]: "):
                more = os.read(process.stdout.fileno(), 1_000)
                assert more, asked
                asked += more
            if answer != b"\x03":
                os.write(terminal, answer)
            while answer == b"\x03" and process.poll() is None:
                # Without a controlling terminal Ctrl-C is a byte like any other, so the signal is sent; again, for
                # one that comes just before the program waits for its answer is not heard.
                process.send_signal(signal.SIGINT)
                with suppress(subprocess.TimeoutExpired):
                    process.wait(1)
            said, _ = process.communicate(timeout=30)
    finally:
        os.close(terminal)
        os.close(theirs)
    assert b"Drop 3 letters: 2 store_unavailable, 1 malformed_message" in asked
    assert (b"dropped  " in said, counts(url)[0]) == (letters == 0, letters)


@pytest.mark.parametrize(
    ("arguments", "code", "sentence"),
    [
        (["replay"], 2, "Name the letters by their ids, or all of them with --all."),
        (["replay", "abc", "--all"], 2, "Name the letters by their ids, or all of them with --all."),
        (["drop", "abc", "--code", "x", "--yes"], 2, "--code goes with --all."),
        (["drop", "--all"], 2, "--yes drops without asking"),
        (["list", "--limit", "0"], 2, "Invalid value for '--limit'"),
        (["list", "--idle-timeout", "0"], 2, "Invalid value for '--idle-timeout'"),
        (["show", "abc\x1b"], 12, "Error: No dead letter whose id begins with 'abc\\x1b' is there now"),
        (["show", ""], 12, "Error: '' begins the ids of 3 dead letters; give more digits of"),
        (["show", "abc", "--limit", "1"], 12, "is among those read; raise --limit."),
        (["list", "--broker", "amqp://x"], 3, "Error: The broker URL 'amqp://x' has an unknown scheme"),
        (["list", "--broker", "embedded:."], 6, "The queue file could not be used"),
    ],
)
def test_a_users_error_is_one_sentence_and_an_exit_code(
    url: str, arguments: Sequence[str], code: int, sentence: str
) -> None:
    """And nothing is taken away."""
    result = run(*arguments)
    assert (result.exit_code, "Traceback" in result.output) == (code, False), result.output
    assert sentence in result.stderr
    assert counts(url) == (4, 0)
