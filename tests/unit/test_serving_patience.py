"""Waiting for a server: how long, how it ends, and what is said of it meanwhile."""

from __future__ import annotations

import logging
import threading
import time

import pytest

from classifiers import serving_patience
from classifiers.serving_patience import Patience
from handoff.contracts.errors import RuntimeFailed, RuntimeUnavailable


class Flaky:
    """Answers after a number of failures."""

    def __init__(self, failures: float, error: Exception | None = None) -> None:
        self.failures = failures
        self.calls = 0
        self._error = error or RuntimeUnavailable("Nobody there.")

    def __call__(self) -> str:
        """Fail or answer."""
        self.calls += 1
        if self.calls <= self.failures:
            raise self._error
        return "answer"


@pytest.fixture(autouse=True)
def short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Waits a hundredth as long."""
    for name in ("_FIRST_WAIT_S", "_LONGEST_WAIT_S", "_TELL_AFTER_S"):
        monkeypatch.setattr(serving_patience, name, getattr(serving_patience, name) / 100)


def test_a_call_is_made_again_until_there_is_an_answer() -> None:
    """A few failures cost nothing but time."""
    call = Flaky(5)
    assert Patience("s", patience_s=10).wait_out(call) == "answer"
    assert call.calls == 6


def test_patience_has_an_end() -> None:
    """Then the last failure is raised; no patience at all means one try."""
    began_at = time.monotonic()
    with pytest.raises(RuntimeUnavailable, match="Nobody there"):
        Patience("s", patience_s=0.1).wait_out(Flaky(float("inf")))
    assert 0.05 < time.monotonic() - began_at < 5
    call = Flaky(1)
    with pytest.raises(RuntimeUnavailable):
        Patience("s", patience_s=0).wait_out(call)
    assert call.calls == 1


def test_a_call_may_ask_for_less_patience_and_never_gets_more() -> None:
    """A start waits shorter than a delivery."""
    for patience_s, most_s in ((60, 0.05), (0.05, 60)):
        began_at = time.monotonic()
        with pytest.raises(RuntimeUnavailable):
            Patience("s", patience_s=patience_s).wait_out(Flaky(float("inf")), most_s=most_s)
        assert time.monotonic() - began_at < 10


def test_other_failures_are_not_waited_out() -> None:
    """A server that answers wrongly will do so again."""
    call = Flaky(1, RuntimeFailed("no probabilities"))
    with pytest.raises(RuntimeFailed):
        Patience("s", patience_s=10).wait_out(call)
    assert call.calls == 1


def test_stopping_ends_every_wait_at_once() -> None:
    """Those under way, and those to come after one try each."""
    patience = Patience("s", patience_s=60)
    met: list[Exception] = []
    call = Flaky(float("inf"))

    def wait() -> None:
        try:
            patience.wait_out(call)
        except RuntimeUnavailable as error:
            met.append(error)

    threads = [threading.Thread(target=wait) for _ in range(3)]
    for thread in threads:
        thread.start()
    patience.stop()
    for thread in threads:
        thread.join(10)
    assert len(met) == 3
    later = Flaky(1)
    with pytest.raises(RuntimeUnavailable):
        patience.wait_out(later)
    assert later.calls == 1
    assert patience.wait_out(Flaky(0)) == "answer"


def test_a_stopped_worker_waits_for_silence_once() -> None:
    """A call that runs into its time limit takes seconds, and what is held may be many of them."""
    patience = Patience("s", patience_s=60)
    began = threading.Event()

    def hang() -> str:
        began.set()
        time.sleep(2 * serving_patience._TELL_AFTER_S)
        raise RuntimeUnavailable("Did not answer in time.")

    met: list[str] = []

    def wait() -> None:
        with pytest.raises(RuntimeUnavailable) as silence:
            patience.wait_out(hang)
        met.append(str(silence.value))

    waiting = threading.Thread(target=wait)
    waiting.start()
    assert began.wait(10)
    patience.stop()
    waiting.join(10)
    later = Flaky(0)
    with pytest.raises(RuntimeUnavailable, match=r"Did not answer in time\."):
        patience.wait_out(later)
    assert (met, later.calls) == (["Did not answer in time."], 0)


def test_an_outage_is_told_once_and_its_end_too(caplog: pytest.LogCaptureFixture) -> None:
    """One warning however many calls wait, and the fault can be asked for as long as it lasts."""
    patience = Patience("http://s", patience_s=30)
    faults: list[str] = []
    calls = Flaky(float("inf"))

    def call() -> str:
        faults.append(patience.fault)
        return calls()

    with caplog.at_level(logging.WARNING):
        threads = [threading.Thread(target=patience.wait_out, args=(call,)) for _ in range(2)]
        for thread in threads:
            thread.start()
        while "Nobody there." not in faults:
            assert threads[0].is_alive()
        calls.failures = 0
        for thread in threads:
            thread.join(10)
    assert patience.fault == ""
    told = [record.getMessage() for record in caplog.records]
    assert len(told) == 2
    assert told[0].startswith("Nobody there. Waiting for it, for ")
    assert told[1] == "http://s answers again."


def test_a_short_fault_is_nobodys_business(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    """A busy server that answers the second time is no outage."""
    monkeypatch.setattr(serving_patience, "_TELL_AFTER_S", 30.0)
    patience = Patience("s", patience_s=30)
    assert patience.wait_out(Flaky(3)) == "answer"
    assert (patience.fault, caplog.records) == ("", [])
