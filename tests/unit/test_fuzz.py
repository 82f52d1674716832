"""What `make fuzz` feeds for minutes, for seconds: the same worker, readers, seeds and mutations."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from random import Random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fuzz.cases import TARGETS, Case, decode_case, encode_case
from fuzz.mutations import mutated, random_noise
from fuzz.readers import read_case
from fuzz.seeds import deliveries, seeds
from fuzz.served import ServedWorker, Unexpected, demand_sentence, documented_codes
from handoff.contracts.errors import FolderUnavailable, MalformedMessage, RequestRefused, RuntimeFailed, Unavailable
from ml_server.intake import Intake

SEEDS = [*seeds()]


@pytest.fixture(scope="module")
def worker() -> Iterator[ServedWorker]:
    """One worker for all inputs: it has to survive each."""
    with ServedWorker() as served:
        yield served


def feed(worker: ServedWorker, case: Case, folder: Path) -> list[str]:
    """Feed one case; how it ended."""
    return worker.serve(case) if case.target == "delivery" else [read_case(case, folder)]


@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.sampled_from(SEEDS), chosen=st.integers(0, 2**32), changes=st.integers(0, 4))
def test_no_input_ends_otherwise_than_promised(
    worker: ServedWorker, tmp_path: Path, seed: Case, chosen: int, changes: int
) -> None:
    """One ack and one documented end for a delivery; for a file what it holds, or a refusal."""
    random, case = Random(chosen), seed
    for _ in range(changes):
        case = mutated(case, random, random_noise(random))
    assert feed(worker, case, tmp_path)


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(body=st.binary(max_size=200), attributes=st.dictionaries(st.text(max_size=20), st.text(max_size=50), max_size=4))
def test_noise_becomes_a_dead_letter(worker: ServedWorker, body: bytes, attributes: dict[str, str]) -> None:
    """Without knowing anything of the contract one does not get far."""
    assert worker.serve(Case("delivery", body, attributes)) == ["dead letter malformed_message"]


def test_every_seed_ends_well_or_as_it_says(worker: ServedWorker, tmp_path: Path) -> None:
    """Fuzzing starts on the far side of the checks: good requests are answered, good files are read."""
    for case in deliveries():
        ends = worker.serve(case)
        if not case.stored:
            assert set(ends) == {"succeeded"}
    files = {target: {read_case(case, tmp_path) for case in SEEDS if case.target == target} for target in TARGETS[1:]}
    assert all(f"{target} read" in ends for target, ends in files.items())


def test_a_case_survives_its_encoding() -> None:
    """And whatever is no case is taken as a message's body."""
    assert [decode_case(encode_case(case)) for case in SEEDS] == SEEDS
    assert decode_case(b"\xc1noise").data == b"\xc1noise"


def test_the_contracts_table_names_every_code_of_a_request() -> None:
    """So that a code without a line in docs/CONTRACT.md is unexpected."""
    codes = documented_codes()
    kinds = {MalformedMessage, RuntimeFailed, *RequestRefused.__subclasses__(), *Unavailable.__subclasses__()}
    kinds -= {FolderUnavailable}  # a client's own
    assert codes == {kind.code for kind in kinds if kind.__module__.startswith("handoff")} | {"internal_error"}


def test_a_fault_of_the_worker_is_unexpected(worker: ServedWorker, monkeypatch: pytest.MonkeyPatch) -> None:
    """The judge itself: an error that no input may bring about is found, and so is a delivery that comes back."""

    def broken(*_: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(Intake, "_check_wanted", broken)
    for attempt, said in ((1, "ended in"), (5, "internal_error")):
        with pytest.raises(Unexpected, match=said):
            worker.serve(Case("delivery", SEEDS[0].data, SEEDS[0].attributes, SEEDS[0].payload, attempts=(attempt,)))


@pytest.mark.parametrize("text", ["", "two\nlines", "\x1b[2J", "x" * 1_001])
def test_what_is_no_sentence_is_unexpected(text: str) -> None:
    """The judge of reasons."""
    with pytest.raises(Unexpected):
        demand_sentence(text, most=1_000)
