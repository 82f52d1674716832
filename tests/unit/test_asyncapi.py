"""The documents for strangers agree with the classes that the programs use."""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
import yaml

from handoff.brokers.dead_letters import dead_letter
from handoff.contracts import errors
from handoff.contracts.asyncapi import asyncapi_document, example_dead_letter, example_request, example_response
from handoff.contracts.batches import decode_batch
from handoff.contracts.envelope import parse_request, parse_response
from handoff.contracts.messages import AnalysisRequest, AnalysisResponse
from handoff.contracts.predictions import decode_predictions
from handoff.contracts.topology import Topology

DOCS = Path(__file__).parents[2] / "docs"
CONTRACT = (DOCS / "CONTRACT.md").read_text(encoding="utf-8")
DOCUMENT = asyncapi_document()


def blocks(language: str) -> list[str]:
    """The examples of the page in one language."""
    return re.findall(rf"```{language}\n(.*?)```", CONTRACT, re.DOTALL)


def field_tables() -> list[list[str]]:
    """The first column of each table of fields in the page."""
    tables = re.findall(r"\| field \|.*\n\| ---.*\n((?:\|.*\n)+)", CONTRACT)
    return [re.findall(r"^\| `(\w+)`", table, re.MULTILINE) for table in tables]


def test_the_file_is_what_the_classes_say() -> None:
    """If this fails: python -m handoff.contracts.asyncapi > docs/asyncapi.yaml."""
    assert yaml.safe_load((DOCS / "asyncapi.yaml").read_text(encoding="utf-8")) == DOCUMENT


def test_every_reference_leads_somewhere() -> None:
    """No schema or message is named that is not there."""
    for reference in re.findall(r'"\$ref": "#/([^"]+)"', json.dumps(DOCUMENT)):
        node: Any = DOCUMENT
        for step in reference.split("/"):
            node = node[step]
        assert node


def test_topics_are_the_deployment_s() -> None:
    """Default names by default, others where others are used."""
    document = asyncapi_document(Topology(requests_topic="mine"))
    assert document["channels"]["requests"]["address"] == "mine"
    addresses = {channel["address"] for channel in DOCUMENT["channels"].values()}
    assert addresses == set(Topology().topics)


def test_patterns_are_ecma_262() -> None:
    """Python's own anchors would never match elsewhere."""
    patterns = re.findall(r'"pattern": "([^"]+)"', json.dumps(DOCUMENT))
    assert patterns
    assert all(pattern.startswith("^") and pattern.endswith("$") for pattern in patterns)


def test_the_document_s_examples_are_messages() -> None:
    """They pass the checks that received ones have to pass, and the schema's required headers are there."""
    assert parse_request(example_request()).client_id == "console-1"
    assert parse_response(example_response()).correct_count == 2
    for message in DOCUMENT["components"]["messages"].values():
        headers, example = message["headers"], message["examples"][0]["headers"]
        assert set(headers.get("required", [])) <= set(example)
        for name, text in example.items():
            rules = headers["properties"].get(name, {})
            assert re.search(rules.get("pattern", ""), text)
            assert rules.get("const", text) == text


def test_the_dead_letter_is_what_is_published() -> None:
    """The example has the attributes that `dead_letter` writes."""
    example = example_dead_letter()
    written = {name: text for name, text in example.attributes.items() if name.startswith("dead-letter-")}
    letter = dead_letter(
        msgspec.structs.replace(example, attributes={k: v for k, v in example.attributes.items() if k not in written}),
        code=written["dead-letter-code"],
        reason=written["dead-letter-reason"],
        attempts=1,
    )
    assert letter == example


def test_the_page_s_messages_are_messages() -> None:
    """Every JSON example is a request or a response, and nothing in it is unknown; the first two are the document's."""
    examples = [json.loads(block) for block in blocks("json")]
    assert [example.get("status") for example in examples] == [None, "succeeded", "failed"]
    for example in examples:
        body = msgspec.convert(example, AnalysisResponse if "status" in example else AnalysisRequest)
        assert msgspec.to_builtins(body) == example
    assert examples[0] == json.loads(example_request().body)
    assert examples[1] == json.loads(example_response().body)


def test_the_page_s_objects_are_objects() -> None:
    """The batch is the request's own, digest and all, and the predictions speak of its images."""
    batch_csv, predictions_csv = (block.encode() for block in blocks("csv"))
    batch = decode_batch(batch_csv, format="csv", image_shape=(2, 2, 1), max_images=2, max_bytes=10_000)
    request, response = json.loads(blocks("json")[0]), json.loads(blocks("json")[1])
    assert request["checksum"] == "sha256:" + hashlib.sha256(batch_csv).hexdigest()
    assert (len(batch), batch.labels) == (request["image_count"], request["labels"])
    table = decode_predictions(predictions_csv)
    assert table.image_ids == batch.image_ids
    assert (table.labels, table.label_ids.tolist()) == tuple(
        response["predictions"][name] for name in ("labels", "label_ids")
    )
    assert np.allclose(table.probabilities.max(axis=1), response["predictions"]["probabilities"])


@pytest.mark.parametrize("body", [AnalysisRequest, AnalysisResponse])
def test_the_page_names_every_field(body: type[msgspec.Struct]) -> None:
    """In the classes' own order, and no other."""
    assert [field.name for field in msgspec.structs.fields(body)] in field_tables()


def test_the_page_names_every_error_code() -> None:
    """Each code that a response or a dead letter can carry."""
    told = {errors.MalformedMessage, *errors.RequestRefused.__subclasses__(), *errors.Unavailable.__subclasses__()}
    told -= {errors.FolderUnavailable}  # a client's own
    assert [kind.code for kind in told if f"`{kind.code}`" not in CONTRACT] == []


def test_the_page_names_every_topic_and_subscription() -> None:
    """With the names that are used by default."""
    topology = Topology()
    for subscription in topology.subscriptions:
        assert f"| `{subscription.topic}` | `{subscription.name}` |" in CONTRACT
