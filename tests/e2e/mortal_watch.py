"""`fashion watch` with a flaw, for tests: `mortal_watch.py STEP COUNT ARGUMENTS…`.

The process kills itself when it comes to a step for the COUNT-th time.
"""

from __future__ import annotations

import itertools
import os
import signal
import sys
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import ParamSpec, TypeVar

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from fashion_client.client import Client
from fashion_client.watch_folder import command
from fashion_client.watch_journal import WatchJournal
from fashion_client.watch_moves import Moves

P = ParamSpec("P")
R = TypeVar("R")

# Each is come to before what it is named after.
STEPS: dict[str, tuple[type, str]] = {
    "begin": (WatchJournal, "begin"),
    "upload": (Client, "upload"),
    "publish": (Client, "publish"),
    "mark": (WatchJournal, "mark_published"),
    "move": (Moves, "move"),
    "forget": (WatchJournal, "forget"),
}


def dying(call: Callable[P, R], count: int) -> Callable[P, R]:
    """Die before a call is made for the `count`-th time."""
    times = itertools.count(1)

    @wraps(call)
    def mortal(*args: P.args, **options: P.kwargs) -> R:
        if next(times) == count:
            os.kill(os.getpid(), signal.SIGKILL)
        return call(*args, **options)

    return mortal


def main(step: str, count: str, *arguments: str) -> None:
    """Run the console."""
    kind, name = STEPS[step]
    setattr(kind, name, dying(getattr(kind, name), int(count)))
    command.main(list(arguments))


if __name__ == "__main__":
    main(*sys.argv[1:])
