"""Processes are kept alive, given up on or drained; stand-ins for workers, so that each takes milliseconds."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from handoff.contracts.errors import ExitCode
from ml_server import supervisor as module
from ml_server.supervisor import Supervisor, worker_command

# Says that it is there, and ends with 0 when it is asked to.
OBEDIENT = """
import os, pathlib, signal, sys
signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
(pathlib.Path(sys.argv[1]) / f"{sys.argv[2]}-{os.getpid()}").touch()
signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGTERM])
while True:
    signal.pause()
"""
# Has not come as far as to listen to signals.
STARTING = "import pathlib, signal, sys; pathlib.Path(sys.argv[1], sys.argv[2]).touch(); signal.pause()"
# Holds on to its work whatever it is asked.
DEAF = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN);" + STARTING
# Ends when it is asked to and its file says "go"; asked twice, it ends badly.
SLOW = """
import os, pathlib, signal, sys, time
asked = []
def ask(*_):
    asked.append(1)
signal.signal(signal.SIGTERM, ask)
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
mine = pathlib.Path(sys.argv[1]) / f"{sys.argv[2]}-{os.getpid()}"
mine.touch()
signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGTERM])
while not asked or not mine.read_text():
    time.sleep(0.005)
sys.exit(len(asked) - 1)
"""
# Ends when its standard input does, as a supervised worker.
WATCHING = "import pathlib, sys; pathlib.Path(sys.argv[1], sys.argv[2]).touch(); sys.stdin.read(); sys.exit(0)"


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Restart at once."""
    monkeypatch.setattr(module, "FIRST_WAIT_S", 0.001)
    monkeypatch.setattr(module, "LONGEST_WAIT_S", 0.001)


class Running:
    """A supervisor in a thread."""

    def __init__(self, folder: Path, program: str, *, workers: int = 2) -> None:
        self._folder = folder
        self.supervisor = Supervisor(
            lambda name: [sys.executable, "-c", program, str(folder), name],
            worker_count=workers,
            environment=dict(os.environ),
        )
        self.codes: list[int] = []
        self._thread = threading.Thread(target=lambda: self.codes.append(self.supervisor.run()))
        self._thread.start()

    def started(self) -> list[str]:
        """What has been started so far, by name."""
        return sorted(path.name for path in self._folder.iterdir())

    def wait_until(self, true: Callable[[], bool]) -> None:
        """Look until it is so, within a bound."""
        tick = threading.Event()
        assert any(true() or tick.wait(0.01) for _ in range(3000))

    def ends_with(self) -> int:
        """Wait for the end."""
        self._thread.join(30)
        assert not self._thread.is_alive()
        return self.codes[0]


def test_draining_ends_every_worker(tmp_path: Path) -> None:
    """Each is asked once, and none is started again."""
    running = Running(tmp_path, OBEDIENT)
    running.wait_until(lambda: len(running.started()) == 2)
    assert [name.rpartition("-")[0] for name in running.started()] == ["worker-1", "worker-2"]
    running.supervisor.drain()
    assert running.ends_with() == ExitCode.OK
    assert len(running.started()) == 2


def test_a_dead_worker_is_replaced(tmp_path: Path) -> None:
    """By one of the same name; the others go on."""
    running = Running(tmp_path, OBEDIENT)
    running.wait_until(lambda: len(running.started()) == 2)
    first, other = running.started()
    os.kill(int(first.rpartition("-")[2]), signal.SIGKILL)
    running.wait_until(lambda: len(running.started()) == 3)
    (new,) = set(running.started()) - {first, other}
    assert new.startswith("worker-1-")
    running.supervisor.drain()
    assert running.ends_with() == ExitCode.OK


def test_a_worker_drained_while_it_starts_is_no_failure(tmp_path: Path) -> None:
    """It held nothing, so that the signal ended it outright is as good as a drain."""
    running = Running(tmp_path, STARTING)
    running.wait_until(lambda: len(running.started()) == 2)
    running.supervisor.drain()
    assert running.ends_with() == ExitCode.OK


@pytest.mark.parametrize("code", [ExitCode.ARTIFACT_INVALID, ExitCode.SETTINGS_INVALID, ExitCode.MISSING_PACKAGE])
def test_what_would_fail_again_is_not_started_again(tmp_path: Path, code: ExitCode) -> None:
    """The supervisor ends with the worker's own exit code."""
    running = Running(tmp_path, f"import sys; sys.exit({int(code)})")
    assert running.ends_with() == code


def test_one_hopeless_worker_drains_the_others(tmp_path: Path) -> None:
    """All share the settings, so none can do better for long."""
    hopeless = f"import sys; sys.argv[2] == 'worker-1' and sys.exit({int(ExitCode.ARTIFACT_INVALID)});"
    running = Running(tmp_path, hopeless + STARTING)
    assert running.ends_with() == ExitCode.ARTIFACT_INVALID


def test_a_worker_that_fails_while_draining_is_told(tmp_path: Path) -> None:
    """The exit code says that not all of them ended well."""
    failing = OBEDIENT.replace("sys.exit(0)", "sys.exit(9)")
    running = Running(tmp_path, failing)
    running.wait_until(lambda: len(running.started()) == 2)
    running.supervisor.drain()
    assert running.ends_with() == ExitCode.WORKERS_FAILED


def test_killing_ends_those_that_do_not_listen(tmp_path: Path) -> None:
    """A second signal to the supervisor leaves no worker behind."""
    running = Running(tmp_path, DEAF)
    running.wait_until(lambda: len(running.started()) == 2)
    running.supervisor.drain()
    running.supervisor.kill()
    assert running.ends_with() == ExitCode.WORKERS_FAILED


def test_nothing_is_started_after_a_drain(tmp_path: Path) -> None:
    """Draining before the run leaves nothing to do."""
    supervisor = Supervisor(lambda name: ["false", name], worker_count=2, environment={})
    supervisor.drain()
    assert supervisor.run() == ExitCode.OK
    assert list(tmp_path.iterdir()) == []


def test_a_worker_sees_when_its_supervisor_is_gone(tmp_path: Path) -> None:
    """Its standard input stays open as long as the supervisor lives, and ends with it."""
    running = Running(tmp_path, WATCHING, workers=1)
    running.wait_until(lambda: running.started() == ["worker-1"])
    popen = running.supervisor._processes[1]._popen
    assert popen.stdin is not None
    assert popen.poll() is None
    running.supervisor._draining = True
    popen.stdin.close()
    popen.wait()
    running.supervisor.drain()
    assert running.ends_with() == ExitCode.OK


def names(running: Running) -> list[str]:
    """The workers started so far, without their process ids."""
    return [name.rpartition("-")[0] for name in running.started()]


def test_more_workers_are_started_and_the_last_ones_drained(tmp_path: Path) -> None:
    """One drained on demand is not replaced; the others go on, and a free number is used again."""
    running = Running(tmp_path, OBEDIENT, workers=1)
    assert running.supervisor.scale_to(3)
    running.wait_until(lambda: len(running.started()) == 3)
    assert names(running) == ["worker-1", "worker-2", "worker-3"]
    first = running.supervisor._processes[1]._popen
    assert running.supervisor.scale_to(1)
    last = [running.supervisor._processes[number]._popen for number in (2, 3)]
    running.wait_until(lambda: all(popen.poll() == ExitCode.OK for popen in last))
    assert running.supervisor.worker_count == 1
    assert running.supervisor.scale_to(2)
    running.wait_until(lambda: len(running.started()) == 4)
    assert names(running) == ["worker-1", "worker-2", "worker-2", "worker-3"]
    assert first.poll() is None
    running.supervisor.drain()
    assert running.ends_with() == ExitCode.OK
    assert len(running.started()) == 4


def test_a_worker_wanted_again_while_it_drains_ends_first(tmp_path: Path) -> None:
    """Never two of one name; and however often it is asked, it hears of it once, for a second time would force."""
    running = Running(tmp_path, SLOW, workers=1)
    running.supervisor.scale_to(2)
    running.wait_until(lambda: len(running.started()) == 2)
    leaving = running.supervisor._processes[2]._popen
    for wanted in (1, 2, 1, 2):
        assert running.supervisor.scale_to(wanted)
    assert leaving.poll() is None
    assert len(running.started()) == 2
    (file,) = tmp_path.glob("worker-2-*")
    file.write_text("go")
    running.wait_until(lambda: len(running.started()) == 3)
    assert leaving.returncode == ExitCode.OK
    assert names(running) == ["worker-1", "worker-2", "worker-2"]
    running.supervisor.drain()
    for path in tmp_path.iterdir():
        path.write_text("go")
    assert running.ends_with() == ExitCode.OK


def test_a_worker_that_is_draining_already_is_not_forced_by_the_end(tmp_path: Path) -> None:
    """The supervisor waits for it too."""
    running = Running(tmp_path, SLOW)
    running.wait_until(lambda: len(running.started()) == 2)
    running.supervisor.scale_to(1)
    running.supervisor.drain()
    running.supervisor.drain()
    for path in tmp_path.iterdir():
        path.write_text("go")
    assert running.ends_with() == ExitCode.OK


def test_a_worker_killed_while_it_drains_is_not_replaced(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Nobody wants another; the log says how it ended."""
    running = Running(tmp_path, DEAF)
    running.wait_until(lambda: len(running.started()) == 2)
    running.supervisor.scale_to(1)
    running.supervisor._processes[2].kill()
    running.wait_until(lambda: "worker-2 was to drain and ended with exit code -9" in caplog.text)
    running.supervisor.kill()
    assert running.ends_with() == ExitCode.WORKERS_FAILED
    assert len(running.started()) == 2


def test_the_number_of_workers_may_be_set_before_they_run(tmp_path: Path) -> None:
    """Who scales need not wait for `run`, which then keeps that number."""
    supervisor = Supervisor(
        lambda name: [sys.executable, "-c", OBEDIENT, str(tmp_path), name],
        worker_count=1,
        environment=dict(os.environ),
    )
    supervisor.scale_to(2)
    thread = threading.Thread(target=supervisor.run)
    thread.start()
    tick = threading.Event()
    assert any(len(list(tmp_path.iterdir())) == 2 or tick.wait(0.01) for _ in range(3000))
    supervisor.drain()
    thread.join(30)
    assert not thread.is_alive()
    assert supervisor.worker_count == 2


def test_draining_ends_scaling(tmp_path: Path) -> None:
    """Whoever scales is told, and nothing is started any more."""
    running = Running(tmp_path, OBEDIENT, workers=1)
    assert not running.supervisor.wait_for_drain(0)
    running.wait_until(lambda: len(running.started()) == 1)
    running.supervisor.drain()
    assert running.supervisor.wait_for_drain(0)
    assert not running.supervisor.scale_to(3)
    assert running.ends_with() == ExitCode.OK
    assert len(running.started()) == 1


@pytest.mark.parametrize(("verbose", "flag"), [(True, "--verbose"), (False, "--quiet")])
def test_a_supervised_worker_is_told_how_to_log(*, verbose: bool, flag: str) -> None:
    """Quiet means every worker too; each knows its name and how many share the machine."""
    command = worker_command("worker-7", worker_count=3, verbose=verbose)
    assert command[0] == sys.executable
    assert Path(command[1]).is_file()
    assert command[command.index("--name") + 1] == "worker-7"
    assert command[command.index("--peers") + 1] == "3"
    assert "--supervised" in command
    assert flag in command


def test_each_supervised_worker_has_a_port_of_its_own() -> None:
    """The first has the one that is set, the others those after it; without one, none has any."""
    ports = {}
    for name in ("worker-1", "worker-2", "worker-12"):
        command = worker_command(name, worker_count=12, verbose=True, first_port=8080)
        ports[name] = command[command.index("--health-port") + 1]
    assert ports == {"worker-1": "8080", "worker-2": "8081", "worker-12": "8091"}
    assert "--health-port" not in worker_command("worker-1", worker_count=1, verbose=True)
