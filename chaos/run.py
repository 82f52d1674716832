"""`make chaos`: kills workers, the client and the broker while requests flow; a calm run says what should come of it.

    python chaos/run.py --broker embedded --kills 200 --requests 20000

Its last line is one JSON object; it exits 0 where every request was answered and shown exactly once, 1 otherwise.
"""

from __future__ import annotations

import argparse
import json
import random
import sqlite3
import sys
import time
from collections import Counter
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from chaos.killing import drawn_victims, kill_all
from chaos.service import ACK_DEADLINES_S, Service, running_service
from chaos.verdict import Verdict, digest_of, judged
from fashion_client.journal import read_journal
from handoff.brokers.urls import open_broker
from handoff.dead_letters import read as read_dead_letters
from handoff.progress import Progress
from handoff.stores.urls import open_store
from tests import servers

BATCH_SIZE = 10
SAMPLE_COUNT = 1_000
# Every batch of the sample once: what a request is answered with on a calm day.
DISTINCT_BATCHES = SAMPLE_COUNT // BATCH_SIZE
# After the last kill a request waits for ack deadlines and for its client's patience, several times over at worst.
SETTLED_WITHIN_S = 600.0
CALM_WITHIN_S = 120.0
POLL_S = 0.2

SERVER_ABSENT = 2
"""The exit code where this machine has no such broker."""


def requesting(count: int) -> list[str]:
    """The arguments of `fashion request` for so many requests of the sample images."""
    repeat = -(-count // DISTINCT_BATCHES)
    return ["--batch-size", str(BATCH_SIZE), "--count", str(count), "--repeat", str(repeat)]


def calm_digests() -> dict[str, str]:
    """The digest of every batch's predictions by the batch's checksum, from a run in which nobody dies."""
    with running_service("embedded", requesting=requesting(DISTINCT_BATCHES)) as service:
        service.start_workers(1)
        service.start_client()
        wait_for_client(service, within_s=CALM_WITHIN_S)
        store = open_store(service.settings.store)
        found = {
            row.request.checksum: digest_of(store, row.response.predictions_uri or "")
            for row in read_journal(service.journal)
            if row.response
        }
    if len(found) != DISTINCT_BATCHES:
        raise RuntimeError(f"the calm run answered {len(found)} of {DISTINCT_BATCHES} batches")
    return found


def attack(kind: str, *, kill_count: int, request_count: int, seed: int) -> tuple[Verdict, dict[str, object]]:
    """Run the service, kill as the seed says, wait until it has settled; the verdict, and what else there is to say."""
    calm = calm_digests()
    chance = random.Random(seed)
    with running_service(kind, requesting=requesting(request_count)) as service:
        victims = drawn_victims(kill_count, broker_can_be_killed=service.broker_can_be_killed, chance=chance)
        service.start_workers()
        service.start_client()
        with Progress("answered", total=request_count, unit="requests") as progress:
            look = counted(service.journal, progress)
            killed = kill_all(service, victims, answered_count=look, request_count=request_count, chance=chance)
            wait_for_client(service, within_s=SETTLED_WITHIN_S, look=look)
        store = open_store(service.settings.store)
        rows = ((row.request, row.response, row.publications) for row in read_journal(service.journal))
        verdict = judged(rows, store=store, calm=calm, clients=service.clients, request_count=request_count)
        letters = dead_letter_codes(service)
        exit_codes = service.drain_workers()
        told = {"killed": dict(killed), "client_lives": len(service.clients), "drained": exit_codes}
        return verdict, {**told, "dead_letters": sum(letters.values()), "dead_letter_codes": dict(letters)}


def counted(journal: Path, progress: Progress) -> Callable[[], int]:
    """A look at how much is answered, which the progress follows."""
    shown = 0

    def look() -> int:
        nonlocal shown
        count = answered_count(journal)
        progress.advance(count - shown)
        shown = count
        return count

    return look


def answered_count(journal: Path) -> int:
    """How many requests the journal says are answered; the file may be about to be made."""
    try:
        with closing(sqlite3.connect(f"file:{journal}?mode=ro", uri=True)) as connection:
            return int(connection.execute("SELECT count(*) FROM request WHERE state = 'answered'").fetchone()[0])
    except sqlite3.OperationalError:
        return 0


def wait_for_client(service: Service, *, within_s: float, look: Callable[[], object] = lambda: None) -> None:
    """Wait until the client has every answer, starting it anew where it gives up."""
    deadline = time.monotonic() + within_s
    while service.tend():
        look()
        if time.monotonic() > deadline:
            print(f"not settled within {within_s:.0f} s:\n{service.clients[-1].log}", file=sys.stderr)
            return
        time.sleep(POLL_S)


def dead_letter_codes(service: Service) -> Counter[str]:
    """What lies among the dead letters, by its code; it stays there."""
    settings = service.settings
    with (
        closing(open_broker(settings.broker, settings.topology)) as broker,
        read_dead_letters(broker, settings.topology.dead_letters) as letters,
    ):
        return Counter(letter.burial.code for letter in letters)


def report(verdict: Verdict, told: dict[str, object], *, seconds: float) -> dict[str, object]:
    """The figures of the last line."""
    return {
        "kills": sum(told["killed"].values()),  # type: ignore[attr-defined]
        "requests": verdict.requests,
        "answered": verdict.answered,
        "lost": verdict.lost,
        "shown_twice": verdict.shown_twice,
        "dead_letters": told.pop("dead_letters"),
        "failed": verdict.failed,
        "differing": verdict.differing,
        "orphans": len(verdict.orphans),
        "republished": verdict.republished,
        **told,
        "seconds": round(seconds, 1),
    }


def main() -> int:
    """Attack, tell, and say by the exit code whether every promise was kept."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--broker", choices=list(ACK_DEADLINES_S), default="embedded")
    parser.add_argument("--kills", type=int, default=20, help="processes killed with SIGKILL")
    parser.add_argument("--requests", type=int, default=2_000)
    parser.add_argument("--seed", type=int, default=1, help="draws who is killed")
    arguments = parser.parse_args()
    started_at = time.monotonic()
    try:
        verdict, told = attack(
            arguments.broker, kill_count=arguments.kills, request_count=arguments.requests, seed=arguments.seed
        )
    except servers.ServerAbsent as absent:
        print(absent, file=sys.stderr)
        return SERVER_ABSENT
    figures = report(verdict, told, seconds=time.monotonic() - started_at)
    for name, figure in figures.items():
        print(f"{name:<20}{figure}")
    for uri in verdict.orphans[:20]:
        print(f"orphan: {uri}")
    print(json.dumps(figures))
    return 0 if verdict.holds else 1


if __name__ == "__main__":
    sys.exit(main())
