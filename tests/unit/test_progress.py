"""Progress of long work, in a terminal and elsewhere."""

from __future__ import annotations

import pytest

from handoff import progress as module
from handoff.progress import Progress


class Clock:
    """Time as the test wants it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 100.0
        monkeypatch.setattr(module.time, "monotonic", lambda: self.now)


def test_elsewhere_a_line_comes_now_and_then(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Every five seconds and at the end, on standard error: a log stays short."""
    clock = Clock(monkeypatch)
    with Progress("requests", total=40, unit="requests") as progress:
        for _ in range(4):
            clock.now += 2.0
            progress.advance(10)
    assert capsys.readouterr().err.splitlines() == [
        "requests: 30 of 40 requests, 5/s, 0:00:02 left",
        "requests: 40 of 40 requests, 5/s",
    ]


def test_what_an_earlier_run_did_counts_and_has_no_rate(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nor does a run that failed before it did anything say how far that was; an estimate is called one."""
    clock = Clock(monkeypatch)
    with Progress("classified", total=100, unit="images", done=40, is_estimate=True) as progress:
        clock.now += 10.0
        progress.advance(20)
    assert capsys.readouterr().err.splitlines()[0] == "classified: 60 of about 100 images, 2/s, 0:00:20 left"


def test_an_unknown_total_is_left_out(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """A count and a rate remain."""
    clock = Clock(monkeypatch)
    with Progress("responses", total=None, unit="responses") as progress:
        clock.now += 1.0
        progress.advance(3)
    assert capsys.readouterr().err == "responses: 3 responses, 3/s\n"


@pytest.mark.parametrize(("done", "lines"), [(0, 0), (2, 1)])
def test_work_that_failed_shows_how_far_it_came(capsys: pytest.CaptureFixture[str], done: int, lines: int) -> None:
    """And nothing where it never began: the error speaks for itself."""

    def work() -> None:
        with Progress("requests", total=9, unit="requests") as progress:
            progress.advance(done)
            raise ValueError("broken")

    with pytest.raises(ValueError, match="broken"):
        work()
    assert len(capsys.readouterr().err.splitlines()) == lines


def test_a_terminal_shows_a_bar(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Lines written meanwhile go to standard output, whole."""
    monkeypatch.setattr(module.sys.stderr, "isatty", lambda: True, raising=False)
    with Progress("requests", total=2, unit="requests") as progress:
        progress.advance(1)
        progress.write("a line")
        progress.advance(1)
    captured = capsys.readouterr()
    assert captured.out == "a line\n"
    assert "2/2" in captured.err
    assert "requests" in captured.err


@pytest.mark.parametrize("terminal", [False, True])
def test_notes_go_to_standard_error(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *, terminal: bool
) -> None:
    """A word to whoever waits is no part of the output."""
    monkeypatch.setattr(module.sys.stderr, "isatty", lambda: terminal, raising=False)
    with Progress("requests", total=1, unit="requests") as progress:
        progress.note("a word")
    captured = capsys.readouterr()
    assert (captured.out, "a word\n" in captured.err) == ("", True)


def test_lines_go_to_standard_output(capsys: pytest.CaptureFixture[str]) -> None:
    """So that they can be piped, without the progress among them."""
    with Progress("requests", total=1, unit="requests") as progress:
        progress.write("a line")
    assert capsys.readouterr().out == "a line\n"
