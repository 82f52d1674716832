"""What a server tells of its model: which version it serves, and whether that is the manifest's."""

from __future__ import annotations

import json
import re
from typing import Any

import msgspec
import pytest

from classifiers.serving_status import find_mismatch, newest_version
from handoff.contracts.errors import RuntimeUnavailable
from tests.fakes import MANIFEST
from tests.scripted_serving import signature

MATCHING = signature([-1, 2, 2, 1], [-1, 2])


def status(**states: str) -> bytes:
    """The answer of a server with these versions (`v3="AVAILABLE"`)."""
    listed = [{"version": name[1:], "state": state, "status": {}} for name, state in states.items()]
    return json.dumps({"model_version_status": listed}).encode()


def test_the_newest_version_that_is_available_is_taken() -> None:
    """By number, whatever their order; one that is loading or going is not served."""
    assert newest_version(status(v3="AVAILABLE"), server="s") == "3"
    assert newest_version(status(v9="AVAILABLE", v10="AVAILABLE", v11="LOADING"), server="s") == "10"
    assert newest_version(status(v2="AVAILABLE", v1="UNLOADING"), server="s") == "2"


def test_a_server_without_versions_tells_none() -> None:
    """KServe says that its model is ready, and no more."""
    assert newest_version(b'{"name": "fashion", "ready": true}', server="s") is None


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (status(v3="LOADING", v2="END"), r"no version to serve now \(version 3 is LOADING, version 2 is END\)"),
        (status(), "it lists none"),
        (b'{"name": "fashion", "ready": false}', "not ready"),
        (b"<html>", "is it a TensorFlow Serving"),
        (b'{"models": []}', "is it a TensorFlow Serving"),
        (b'{"model_version_status": [{"version": "x", "state": "AVAILABLE"}]}', "is it a TensorFlow Serving"),
        (b"\xff", "is it a TensorFlow Serving"),
    ],
)
def test_a_server_that_serves_nothing_is_waited_for(text: bytes, told: str) -> None:
    """It may load its model any moment; the sentence says how things are."""
    with pytest.raises(RuntimeUnavailable, match=told):
        newest_version(text, server="s")


def test_metadata_of_the_manifests_model_agree() -> None:
    """The very shapes, sizes that are left open, an unknown rank; and what is no metadata says nothing against it."""
    unknown = signature([-1, -1, -1, -1], [-1, -1])
    for metadata in (MATCHING, unknown, {"detail": "Not Found"}, []):
        assert find_mismatch(json.dumps(metadata).encode(), MANIFEST) == ""
    assert find_mismatch(b"", MANIFEST) == ""
    served = unknown["metadata"]["signature_def"]["signature_def"]["serving_default"]
    served["inputs"]["images"]["tensor_shape"] = {"dim": [], "unknown_rank": True}
    assert find_mismatch(json.dumps(unknown).encode(), MANIFEST) == ""


@pytest.mark.parametrize(
    ("metadata", "told"),
    [
        (signature([-1, 28, 28, 1], [-1, 2]), "takes 28x28x1 an image, not 2x2x1"),
        (signature([-1, 2, 2], [-1, 2]), "takes 2x2 an image, not 2x2x1"),
        (signature([-1], [-1, 2]), "takes one number an image"),
        (signature([-1, -1, 3, 1], [-1, 2]), r"takes \?x3x1 an image"),
        (signature([-1, 2, 2, 1], [-1, 10]), "gives 10 an image, not 2"),
        (signature([-1, 2, 2, 1], [-1, 2], dtype="DT_FLOAT"), "takes float, not uint8"),
    ],
)
def test_metadata_of_another_model_say_in_what_it_differs(metadata: dict[str, Any], told: str) -> None:
    """Shape, labels and type; scaled floats would be classified, and wrongly."""
    assert re.search(told, find_mismatch(json.dumps(metadata).encode(), MANIFEST))


def test_a_model_needs_one_input_and_one_output_in_its_default_signature() -> None:
    """Instances have no names, so there must be no choice."""
    changed = msgspec.json.decode(json.dumps(MATCHING))
    signatures = changed["metadata"]["signature_def"]["signature_def"]
    signatures["serving_default"]["outputs"]["features"] = signatures["serving_default"]["outputs"]["probabilities"]
    assert find_mismatch(json.dumps(changed).encode(), MANIFEST).startswith("has 1 inputs and 2 outputs")
    del signatures["serving_default"]
    assert find_mismatch(json.dumps(changed).encode(), MANIFEST) == "has no signature serving_default"
