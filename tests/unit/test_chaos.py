"""The judge of `make chaos` is itself on trial: every broken promise has to be seen."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import dataclass, replace
from typing import Any

import msgspec
import pytest

from chaos.killing import drawn_victims
from chaos.verdict import Verdict, digest_of, judged
from handoff.contracts.messages import AnalysisRequest, AnalysisResponse
from handoff.contracts.objects import predictions_uri, response_uri
from tests.fakes import FakeStore, batch_of, upload

ROUNDS = 2


@dataclass
class Shown:
    """A client's output."""

    output: str


class Run:
    """Two requests that were answered as on a calm day, each shown once."""

    def __init__(self) -> None:
        self.store = FakeStore()
        self.rows = [self._answered(f"r-{number}", number) for number in range(ROUNDS)]
        self.calm = {
            request.checksum: digest_of(self.store, predictions_uri(self.store.root, request.request_id))
            for request, _, _ in self.rows
        }
        self.clients = [Shown("r-0  1 images\n\n"), Shown("r-1  1 images\nPublished 2 requests.\n")]

    def judge(self) -> Verdict:
        """Judge it."""
        clients: Any = self.clients
        return judged(self.rows, store=self.store, calm=self.calm, clients=clients, request_count=ROUNDS)

    def _answered(self, request_id: str, level: int) -> tuple[AnalysisRequest, AnalysisResponse | None, int]:
        request = upload(self.store, request_id, batch_of(level))
        uri = predictions_uri(self.store.root, request_id)
        self.store.objects[uri] = b"predictions of %d" % level
        self.store.objects[response_uri(self.store.root, request_id)] = b"{}"
        response = AnalysisResponse(
            request_id=request_id, status="succeeded", image_count=1, worker="w", attempt=1, predictions_uri=uri
        )
        return request, response, 1


@pytest.fixture
def run() -> Run:
    """A run in which every promise was kept."""
    return Run()


def test_a_run_that_kept_every_promise_holds(run: Run) -> None:
    """All answered, all shown once, nothing else in the store."""
    verdict = run.judge()
    assert verdict.holds
    assert replace(verdict, shown=Counter()) == Verdict(requests=2, answered=2)
    assert verdict.shown == {"r-0": 1, "r-1": 1}


def test_a_request_without_an_answer_is_lost(run: Run) -> None:
    """And what lies in the store for it is explained by nothing."""
    request, _, _ = run.rows[1]
    run.rows[1] = (request, None, 3)
    verdict = run.judge()
    assert (verdict.lost, verdict.republished, verdict.holds) == (1, 2, False)
    assert [uri.rpartition("/")[2] for uri in verdict.orphans] == ["images.csv", "predictions.csv", "response.json"]


def test_an_answer_shown_by_two_lives_is_shown_twice(run: Run) -> None:
    """Whether the same client or the next one printed it again."""
    run.clients.append(Shown("r-0  1 images\n"))
    assert (run.judge().shown_twice, run.judge().holds) == (1, False)


def test_other_predictions_than_on_a_calm_day_are_told(run: Run) -> None:
    """One byte is enough."""
    run.store.objects[predictions_uri(run.store.root, "r-0")] += b" "
    assert (run.judge().differing, run.judge().holds) == (1, False)


def test_a_failed_answer_breaks_the_promise_here(run: Run) -> None:
    """Every batch of the run is a good one."""
    request, response, _ = run.rows[0]
    assert response is not None
    run.rows[0] = (request, msgspec.structs.replace(response, status="failed", predictions_uri=None), 1)
    assert (run.judge().failed, run.judge().holds) == (1, False)


@pytest.mark.parametrize("name", ["results/r-0/predictions-0123456789abcdef.csv", "requests/r-9/images.csv", "stray"])
def test_an_object_that_no_request_explains_is_an_orphan(run: Run, name: str) -> None:
    """Beside an answer, of a request that nobody knows, or anywhere else."""
    run.store.objects[f"{run.store.root}/{name}"] = b"?"
    verdict = run.judge()
    assert (verdict.orphans, verdict.holds) == ([f"{run.store.root}/{name}"], False)


@pytest.mark.parametrize("broker_can_be_killed", [True, False])
@pytest.mark.parametrize("kill_count", [1, 2, 5, 50, 200])
def test_as_many_are_killed_as_were_asked_for(kill_count: int, broker_can_be_killed: bool) -> None:  # noqa: FBT001
    """The same ones for the same seed; mostly workers, at least one client, and a broker where there is one."""
    drawn = [
        drawn_victims(kill_count, broker_can_be_killed=broker_can_be_killed, chance=random.Random(7)) for _ in range(2)
    ]
    assert drawn[0] == drawn[1]
    count = Counter(drawn[0])
    assert count.total() == kill_count
    assert count["client"] >= 1
    assert (count["broker"] > 0) == (broker_can_be_killed and kill_count > 1)
    assert kill_count < 5 or count["worker"] > kill_count / 2
