"""Signals drain first and force second; tried in processes of their own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from handoff.contracts.errors import ExitCode
from ml_server.draining import drained_by_signals

PROGRAM = """
import sys, threading
from ml_server.draining import drain_with_supervisor, drained_by_signals
drained = threading.Event()
def drain():
    print("draining", flush=True)
    if "deaf" not in sys.argv:
        drained.set()
if "supervised" in sys.argv:
    drain_with_supervisor(drain)
with drained_by_signals(drain, force=lambda: print("forced", flush=True)):
    print("ready", flush=True)
    drained.wait()
print("ended", flush=True)
"""


@contextmanager
def started(*arguments: str) -> Iterator[subprocess.Popen[str]]:
    """A program that waits to be drained."""
    command = [sys.executable, "-c", PROGRAM, *arguments]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
            yield process
        finally:
            process.kill()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_first_signal_drains(number: signal.Signals) -> None:
    """The program goes on to its own end."""
    with started() as process:
        process.send_signal(number)
        output, _ = process.communicate(timeout=30)
    assert output == "draining\nended\n"
    assert process.returncode == ExitCode.OK


@pytest.mark.parametrize("numbers", [(signal.SIGINT, signal.SIGINT), (signal.SIGTERM, signal.SIGINT)])
def test_the_second_signal_forces(numbers: tuple[signal.Signals, signal.Signals]) -> None:
    """Whatever it still holds, the program is gone, with an exit code that says so."""
    with started("deaf") as process:
        assert process.stdout is not None
        process.send_signal(numbers[0])
        assert process.stdout.readline() == "draining\n"
        process.send_signal(numbers[1])
        output, _ = process.communicate(timeout=30)
    assert output == "forced\n"
    assert process.returncode == ExitCode.INTERRUPTED


def test_a_worker_whose_supervisor_is_gone_drains() -> None:
    """The end of standard input is the sign."""
    with started("supervised") as process:
        output, _ = process.communicate(timeout=30)
    assert output == "draining\nended\n"
    assert process.returncode == ExitCode.OK


def test_without_a_signal_nothing_is_drained() -> None:
    """Leaving puts the former handlers back."""
    called, before = threading.Event(), signal.getsignal(signal.SIGTERM)
    with drained_by_signals(called.set):
        assert signal.getsignal(signal.SIGTERM) is not before
    assert not called.is_set()
    assert signal.getsignal(signal.SIGTERM) is before


def test_the_drain_runs_on_a_thread_of_its_own() -> None:
    """A handler interrupts the main thread wherever it stands, perhaps holding the very lock that draining needs."""
    lock, threads = threading.Lock(), []

    def drain() -> None:
        with lock:
            threads.append(threading.current_thread())

    with drained_by_signals(drain):
        with lock:
            os.kill(os.getpid(), signal.SIGTERM)
        tick = threading.Event()
        assert any(threads or tick.wait(0.01) for _ in range(3000))
    assert threads != [threading.main_thread()]


FIRST_PROCESS = """
import os, sys, threading
import click
from handoff.console import Command
pid = int(sys.argv.pop())
os.getpid = lambda: pid
@click.command(cls=Command)
def wait():
    print("ready", flush=True)
    threading.Event().wait()
wait()
"""


@pytest.mark.parametrize(("pid", "code"), [(1, ExitCode.INTERRUPTED), (2, -signal.SIGTERM)])
def test_the_first_process_of_a_container_hears_of_sigterm(pid: int, code: int) -> None:
    """A client, or a worker that still starts: the system would keep the signal from it, until it is killed."""
    command = [sys.executable, "-c", FIRST_PROCESS, str(pid)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        process.terminate()
        _, said = process.communicate(timeout=30)
    assert (process.returncode, said) == (code, "Interrupted.\n" if pid == 1 else "")
