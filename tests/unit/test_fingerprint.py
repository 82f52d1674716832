"""What tells two requests of one id apart."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import msgspec
import pytest

from handoff.contracts.fingerprint import answer_fingerprint, request_fingerprint
from handoff.contracts.messages import AnalysisRequest, ModelReference
from tests.fakes import NOW

REQUEST = AnalysisRequest(
    request_id="r-1",
    batch_uri="memory://store/requests/r-1/images.csv",
    format="csv",
    image_count=2,
    checksum="sha256:" + 64 * "a",
    deadline=NOW,
)
MODEL = ModelReference("fashion", "1", "sha256:" + 64 * "b")


@pytest.mark.parametrize(
    "changes",
    [
        {"checksum": "sha256:" + 64 * "c"},
        {"format": "npy"},
        {"image_count": 3},
        {"model": "fashion"},
        {"labels": ["Bag", "Coat"]},
        {"labels": []},
    ],
    ids="-".join,
)
def test_what_the_answer_depends_on_makes_another_request(changes: dict[str, Any]) -> None:
    """The batch, how it is read, its labels and the model asked for."""
    assert request_fingerprint(msgspec.structs.replace(REQUEST, **changes)) != request_fingerprint(REQUEST)


@pytest.mark.parametrize(
    "changes",
    [
        {"batch_uri": "memory://store/elsewhere.csv"},
        {"deadline": NOW + timedelta(hours=1)},
        {"deadline": None},
        {"request_id": "r-2"},
    ],
    ids=["address", "later", "no deadline", "id"],
)
def test_where_and_until_when_make_no_other_request(changes: dict[str, Any]) -> None:
    """A request may be published again with more time, or its batch elsewhere."""
    assert request_fingerprint(msgspec.structs.replace(REQUEST, **changes)) == request_fingerprint(REQUEST)


def test_a_fingerprint_never_changes_from_release_to_release() -> None:
    """It is stored with every response, to be compared by later versions."""
    assert request_fingerprint(REQUEST) == "sha256:2314d25f4d72663ae0a4001986c5a7a4fa72709292056a24f846facbdaf75af8"


def test_an_answer_is_of_a_request_and_a_model() -> None:
    """The graph's digest is what counts: its name and version may be given twice."""
    ours = answer_fingerprint(REQUEST, MODEL)
    assert ours == answer_fingerprint(REQUEST, msgspec.structs.replace(MODEL, version="2"))
    assert ours != answer_fingerprint(REQUEST, msgspec.structs.replace(MODEL, digest="sha256:" + 64 * "c"))
    assert ours != answer_fingerprint(msgspec.structs.replace(REQUEST, format="npy"), MODEL)


def test_a_model_without_a_digest_is_told_from_others_by_name_and_version() -> None:
    """A remote runtime says no more of what it has classified with."""
    remote = msgspec.structs.replace(MODEL, digest="")
    ours = answer_fingerprint(REQUEST, remote)
    assert ours == answer_fingerprint(REQUEST, msgspec.structs.replace(remote))
    assert ours != answer_fingerprint(REQUEST, MODEL)
    assert ours != answer_fingerprint(REQUEST, msgspec.structs.replace(remote, version="2"))
    assert ours != answer_fingerprint(REQUEST, msgspec.structs.replace(remote, name="other"))
