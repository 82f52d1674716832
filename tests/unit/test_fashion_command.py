"""The one command: every error of a user ends in a sentence and a named exit code, and nothing is imported unasked."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import click
import pytest
from click.testing import CliRunner, Result
from PIL import Image as Picture

import handoff.operations
from fashion import PROGRAMS, main
from fashion_client.demo import command as demo_command
from handoff.brokers.embedded import EmbeddedBroker
from handoff.contracts.errors import ExitCode
from handoff.contracts.protocols import UNKNOWN_BACKLOG
from handoff.settings import REPOSITORY

SERVED = "http://127.0.0.1:9/v1/models/fashion"

pytestmark = pytest.mark.usefixtures("folder")


def run(*arguments: str) -> Result:
    """Run the command as a shell does."""
    return CliRunner().invoke(main, list(arguments), prog_name="fashion")


def last_line(result: Result) -> dict[str, object]:
    """The JSON object on the last line."""
    found: dict[str, object] = json.loads(result.output.splitlines()[-1])
    return found


@pytest.mark.parametrize(
    ("arguments", "code", "sentence"),
    [
        (["config", "--config", "none.yaml"], 3, "Error: The settings file none.yaml cannot be read"),
        (["status", "--broker", "amqp://x"], 3, "Error: The broker URL 'amqp://x' has an unknown scheme"),
        (["status", "--broker", "queue.db"], 3, "use one of embedded:, pubsub:"),
        (["init", "--store", "s3://bucket"], 3, "Error: The store URL 's3://bucket' has an unknown scheme"),
        (["init", "--store", "gs://"], 3, "names no bucket; use gs://BUCKET/PREFIX"),
        (["init", "--store", "file:file/store"], 7, "Error: The store could not serve"),
        (["init", "--broker", "embedded:file/queue.db"], 3, "cannot be made"),
        (["init", "--broker", "embedded:file"], 3, "is no queue file; name another"),
        (["init", "--broker", "embedded:folder"], 6, "The queue file could not be used"),
        (["request", "none.csv"], 5, "none.csv; name images as idx, CSV, npy or npz, or a folder of them."),
        (["request", "file"], 5, "is no idx, .csv, .npy, .npz, .png or .jpg file"),
        (["request", "--format", "png"], 2, "Invalid value for '--format'"),
        (["request", "--batch-size", "0"], 2, "Invalid value for '--batch-size'"),
        (["request", "--rate", "0"], 2, "Invalid value for '--rate'"),
        (["request", "--count", "many"], 2, "Invalid value for '--count'"),
        (["classify", "file", "--output", "x.csv"], 5, "is no idx, .csv, .npy, .npz, .png or .jpg file"),
        (["classify", "none.npy", "--output", "x.csv"], 5, "Error: There is no file or folder none.npy"),
        (["classify", "file:///elsewhere/", "--output", "x.csv"], 5, "name a prefix below it, or another store"),
        (["classify", "none.npy"], 2, "Missing option '--output'"),
        (["classify", "--output", "x.csv"], 2, "Missing argument 'INPUT...'"),
        (["receive", "--images", "file/x", "--count", "1"], 3, "Error: The pictures cannot be written to file/x"),
        (["watch", "--input", "", "--published", "out"], 2, "Invalid value for '--input': it is empty; name a folder"),
        (["watch", "--input", "in", "--published", ""], 2, "Invalid value for '--published': it is empty"),
        (["receive", "--shape", "28"], 2, "Invalid value for '--shape'"),
        (["convert", "none.npy", "x.csv"], 5, "Error: There is no file or folder none.npy"),
        (["convert", "file", "x.csv"], 5, "is no idx, .csv, .npy, .npz, .png or .jpg file"),
        (["convert", "file", "x.pdf"], 3, "Error: x.pdf names no format that is written"),
        (["convert", "file"], 2, "Missing argument 'OUTPUT'"),
        (["receive", "--idle-timeout", "0"], 2, "Invalid value for '--idle-timeout'"),
        (["receive", "--predictions", "file/x.csv"], 3, "Error: The predictions cannot be written to file/x.csv"),
        (["receive", "--predictions", "/dev/full"], 3, "The predictions cannot be written to /dev/full"),
        (["worker", "--model", "none"], 4, "here is no artifact folder none"),
        (["worker", "--model", "folder", "--workers", "2"], 4, "manifest.json is missing"),
        (["worker", "--runtime", "torch"], 3, "worker.runtime (flag) has an unusable value 'torch'"),
        (["worker", "--runtime", "tf-serving"], 3, "The runtime tf-serving needs the URL of a model"),
        (
            ["worker", "--url", "http://s:8501/v1/models/m"],
            3,
            "(--url) goes with the runtime tf-serving, not with auto",
        ),
        (["worker", "--runtime", "tf-serving", "--url", "s:8501"], 3, "The model's URL 's:8501' names no server"),
        (["worker", "--runtime", "tf-serving", "--url", SERVED, "--model", "none"], 4, "is no artifact folder none"),
        (["export", "none", "there"], 4, "here is no artifact folder none"),
        (["export", "1"], 2, "Missing argument 'DIR'"),
        (["export", "1", "there", "--version", "-1"], 2, "Invalid value for '--version'"),
        (["worker", "--threads", "-1"], 3, "worker.threads is -1"),
        (["worker", "--log-format", "xml"], 3, "log_format (flag) has an unusable value 'xml': use one of text, json"),
        (["worker", "--health-port", "65536"], 3, "worker.health_port is 65536; it must be at most 65535"),
        (["worker", "--health-port", "1", "--health-host", "203.0.113.1"], 3, "cannot be asked at 203.0.113.1 port 1"),
        (["worker", "--workers", "9", "--health-port", "65530"], 3, "9 workers need the ports from worker.health_port"),
        (["worker", "--workers", "0"], 2, "Invalid value for '--workers'"),
        (["worker", "--workers", "many"], 2, "'many' is neither a whole number nor 'auto'"),
        (["worker", "--workers", "-1"], 2, "Invalid value for '--workers'"),
        (["worker", "--min-workers", "2"], 2, "--min-workers and --max-workers go with --workers auto"),
        (["worker", "--workers", "2", "--max-workers", "3"], 2, "go with --workers auto"),
        (["worker", "--workers", "auto", "--min-workers", "0"], 3, "scaling.min_workers is 0"),
        (["worker", "--workers", "auto", "--min-workers", "3", "--max-workers", "2"], 3, "which is below"),
        (["worker", "--workers", "auto", "--model", "folder"], 4, "manifest.json is missing"),
        (["worker", "--check", "--broker", "pubsub://"], 3, "Error: "),
        (["demo", "--folder", "file/x"], 3, "Error: The folder"),
        (["unknown"], 2, "No such command 'unknown'"),
    ],
)
def test_a_users_error_is_one_sentence_and_an_exit_code(
    folder: Path, arguments: list[str], code: int, sentence: str
) -> None:
    """No traceback, whatever was wrong; usage errors are click's own few lines."""
    (folder / "file").write_bytes(b"no database, no picture, no folder\n" * 100)
    (folder / "folder").mkdir()
    result = run(*arguments)
    assert result.exit_code == code, result.output
    assert sentence in result.output
    assert "Traceback" not in result.output
    assert isinstance(result.exception, SystemExit)
    if code != ExitCode.USAGE:
        assert result.output.count("\n") == 1, result.output


def test_a_missing_package_is_named(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether a program needs it to start or only for this input."""
    Picture.new("L", (4, 4)).save(folder / "x.png")
    monkeypatch.setitem(sys.modules, "PIL", None)
    result = run("request", "x.png")
    assert result.exit_code == ExitCode.MISSING_PACKAGE
    assert result.output.startswith("Error: The Python package 'PIL' is needed for `fashion request`")
    monkeypatch.setitem(sys.modules, "pandas", None)
    monkeypatch.delitem(sys.modules, "fashion_client.demo")
    result = run("demo")
    assert result.exit_code == ExitCode.MISSING_PACKAGE
    assert result.output.startswith("Error: The Python package 'pandas' is needed for `fashion demo`")


def test_an_interrupted_program_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C is no traceback either."""

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(handoff.operations, "settings_from", interrupted)
    result = run("config")
    assert (result.exit_code, result.output) == (ExitCode.INTERRUPTED, "Interrupted.\n")


def test_the_overview_imports_no_program() -> None:
    """So `fashion --help` is instant, and works where an extra is not installed."""
    look = "import sys; sys.argv = ['fashion', '--help']; import atexit; atexit.register(lambda: print(*sys.modules));"
    found = subprocess.run(
        [sys.executable, "-c", look + "from fashion import main; main()"],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=True,
    )
    modules = {name.partition(".")[0] for name in found.stdout.splitlines()[-1].split()}
    assert "click" in modules
    unasked = {"fashion_client", "ml_server", "ml_model_development", "numpy", "pandas", "onnxruntime", "google"}
    assert modules & unasked == set()


def test_the_overview_names_every_program() -> None:
    """In the order in which a newcomer meets them, each with a line."""
    text = " ".join(run("--help").output.split())
    for name, program in PROGRAMS.items():
        assert f"{name} {program.summary}" in text


@pytest.mark.parametrize("name", list(PROGRAMS))
def test_every_program_explains_itself(name: str) -> None:
    """Its help names each of its flags with a word on it, and where it is found it is itself."""
    result = run(name, "--help")
    assert result.exit_code == ExitCode.OK, result.output
    assert result.output.startswith(f"Usage: fashion {name}")
    found = main.get_command(click.Context(main), name)
    assert found is not None
    bare = [each.name for each in found.params if isinstance(each, click.Option) and not (each.help or each.hidden)]
    assert bare == []


def test_init_makes_what_is_missing_once() -> None:
    """Again it changes nothing; the last line of --json is one object."""
    first, second = run("init", "--json"), run("init", "--json")
    assert (first.exit_code, second.exit_code) == (ExitCode.OK, ExitCode.OK)
    assert "are ready." in first.output
    assert any("Created folder" in str(sentence) for sentence in last_line(first)["done"])  # type: ignore[attr-defined]
    assert last_line(second) == {"done": []}


def test_status_shows_what_waits() -> None:
    """Per subscription, for people and as JSON."""
    assert run("request", "--count", "3", "--batch-size", "2").exit_code == ExitCode.OK
    result = run("status", "--json")
    assert result.exit_code == ExitCode.OK
    backlogs = last_line(result)
    assert backlogs["read-analysis-requests"]["count"] == 3  # type: ignore[index]
    assert backlogs["read-analysis-outputs"] == {"count": 0, "oldest_unacked_age_s": None}
    assert "read-analysis-requests" in result.output.splitlines()[2]


def test_passwords_are_not_shown() -> None:
    """Neither by `fashion config`, which people paste into reports, nor by the refusal of a URL."""
    url = "pubsub://user:secret@project"
    assert "secret" not in run("config", "--broker", url, "--json").output
    assert "***@project" in run("config", "--broker", url).output
    refused = run("status", "--broker", url)
    assert refused.exit_code == ExitCode.SETTINGS_INVALID
    assert "secret" not in refused.output
    assert "***@project" in refused.output


def test_passwords_are_not_shown_where_all_is_well() -> None:
    """Who pastes a password into a URL does not find it in logs and terminals."""
    url = "embedded:var/password=secret.db"
    for command in (["init"], ["clean"], ["worker", "--check"]):
        result = run(*command, "--broker", url)
        assert result.exit_code == ExitCode.OK
        assert "password=***" in result.output
        assert "secret" not in result.output


def test_status_says_of_what_nothing_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    """A share group of Kafka, a bucket of Pub/Sub's figures that are not there: a dash alone could be a zero."""
    monkeypatch.setattr(EmbeddedBroker, "backlog", lambda *_: UNKNOWN_BACKLOG)
    said = run("status").output
    assert "This broker does not say how much waits on read-analysis-dead-letters and read-analysis-requests" in said
    monkeypatch.undo()
    assert "does not say" not in run("status").output


def test_config_shows_every_setting_with_its_origin(monkeypatch: pytest.MonkeyPatch) -> None:
    """A flag, a variable, the file: as they cover each other."""
    monkeypatch.setenv("FASHION_WORKER_THREADS", "3")
    result = run("config", "--broker", "pubsub://p", "--json")
    assert result.exit_code == ExitCode.OK
    figures = last_line(result)
    assert figures["broker"] == {"value": "pubsub://p", "origin": "flag"}
    assert figures["worker.threads"] == {"value": 3, "origin": "environment FASHION_WORKER_THREADS"}
    assert figures["client.format"] == {"value": "csv", "origin": "file config.yaml"}


def test_the_demo_says_why_its_workers_did_not_start(monkeypatch: pytest.MonkeyPatch) -> None:
    """The last line of their log, and where the rest is."""
    monkeypatch.setenv("FASHION_WORKER_MODEL", "none")
    result = CliRunner().invoke(demo_command, ["--folder", "demo"], prog_name="demo")
    assert result.exit_code == ExitCode.WORKERS_FAILED
    assert "here is no artifact folder none" in result.output
    assert "workers.log" in result.output
