"""The contract as an AsyncAPI 3 document, made from the classes that the programs use.

`python -m handoff.contracts.asyncapi > docs/asyncapi.yaml` writes the file; a test holds it to this module.
"""

from __future__ import annotations

import json
import sys
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec

from handoff.contracts.envelope import CLIENT_ID_PATTERN, TRACE_PATTERN, request_message, response_message
from handoff.contracts.messages import (
    REQUEST_TYPE,
    RESPONSE_TYPE,
    AnalysisRequest,
    AnalysisResponse,
    ModelReference,
    Predictions,
)
from handoff.contracts.protocols import Message
from handoff.contracts.topology import Topology

Node = dict[str, Any]

_MOMENT = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
_TRACE = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


def asyncapi_document(topology: Topology | None = None) -> Node:
    """The whole document, as the service sees itself: it receives requests and sends responses."""
    topology = topology or Topology()
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "Fashion analysis",
            "version": "1.0.0",
            "description": "Asynchronous image classification. docs/CONTRACT.md says what schemas cannot.",
            "license": {"name": "MIT"},
        },
        "defaultContentType": "application/json",
        "channels": {
            "requests": _channel(topology.requests_topic, topology.requests_subscription, "analysisRequested"),
            "responses": _channel(topology.responses_topic, topology.responses_subscription, "analysisCompleted"),
            "deadLetters": _channel(topology.dead_letters_topic, topology.dead_letters_subscription, "deadLetter"),
        },
        "operations": {
            "classify": {
                "action": "receive",
                "summary": "Classify a batch; workers compete for the requests of one subscription.",
                "channel": _reference("channels", "requests"),
                "reply": {"channel": _reference("channels", "responses")},
            },
            "respond": {
                "action": "send",
                "summary": "Answer a request; at least once, to be told apart by request_id.",
                "channel": _reference("channels", "responses"),
            },
            "bury": {
                "action": "send",
                "summary": "Put a message aside that could not be served.",
                "channel": _reference("channels", "deadLetters"),
            },
        },
        "components": {"messages": _messages(), "schemas": _schemas()},
    }


def example_request() -> Message:
    """A request as it may be sent; docs/CONTRACT.md shows the same, and its batch."""
    request = AnalysisRequest(
        request_id="req-0001",
        batch_uri="gs://my-bucket/fashion/requests/req-0001/images.csv",
        format="csv",
        image_count=2,
        checksum="sha256:5bf32580f5ea1e8e3084d3180db8c3166430f9f231edd767661f4459c5db16ee",
        model="fashion",
        deadline=_MOMENT + timedelta(minutes=5),
        labels=["Ankle boot", "Pullover"],
    )
    return request_message(request, client_id="console-1", traceparent=_TRACE, now=_MOMENT)


def example_response() -> Message:
    """The answer to it."""
    response = AnalysisResponse(
        request_id="req-0001",
        status="succeeded",
        image_count=2,
        worker="worker-1",
        attempt=1,
        predictions_uri="gs://my-bucket/fashion/results/req-0001/predictions.csv",
        predictions=Predictions([1, 0], ["Ankle boot", "Pullover"], [0.998211, 0.874003]),
        label_counts={"Pullover": 1, "Ankle boot": 1},
        labelled_count=2,
        correct_count=2,
        model=ModelReference("fashion", "1", "sha256:" + 64 * "0"),
        requested_at=_MOMENT,
        timings_ms={"queued": 3.1, "fetch": 2.2, "total": 9.8},
    )
    now = _MOMENT + timedelta(milliseconds=14)
    return response_message(response, client_id="console-1", traceparent=_TRACE, source="/workers/worker-1", now=now)


def example_dead_letter() -> Message:
    """What becomes of a request of a version that nobody here understands."""
    sent = example_request()
    reason = f"The attribute ce-type is 'fashion.analysis.requested.v9'; understood is {REQUEST_TYPE}."
    attributes = {
        **sent.attributes,
        "ce-type": "fashion.analysis.requested.v9",
        "dead-letter-code": "malformed_message",
        "dead-letter-reason": reason,
        "dead-letter-attempts": "1",
    }
    return Message(body=sent.body, attributes=attributes, key=sent.key)


def _channel(topic: str, subscription: str, message: str) -> Node:
    return {
        "address": topic,
        "description": f"Shared subscription: {subscription}.",
        "messages": {message: _reference("components", "messages", message)},
    }


def _reference(*path: str) -> Node:
    return {"$ref": "#/" + "/".join(path)}


def _messages() -> Node:
    return {
        "analysisRequested": _message(
            REQUEST_TYPE,
            "One batch of images to classify.",
            headers=_headers(REQUEST_TYPE, required=["ce-type"]),
            payload=_reference("components", "schemas", "AnalysisRequest"),
            example=example_request(),
        ),
        "analysisCompleted": _message(
            RESPONSE_TYPE,
            "The one answer to a request.",
            headers=_headers(RESPONSE_TYPE, required=["ce-specversion", "ce-type", "ce-id", "ce-source", "ce-time"]),
            payload=_reference("components", "schemas", "AnalysisResponse"),
            example=example_response(),
        ),
        "deadLetter": _message(
            "dead letter",
            "A message that could not be served: its body and its attributes, and why.",
            headers={"type": "object", "properties": _dead_letter_headers()},
            payload={"description": "The body as it was received, whatever it was."},
            example=example_dead_letter(),
        ),
    }


def _message(name: str, summary: str, *, headers: Node, payload: Node, example: Message) -> Node:
    return {
        "name": name,
        "summary": summary,
        "contentType": "application/json",
        "headers": headers,
        "payload": payload,
        "examples": [{"headers": dict(example.attributes), "payload": json.loads(example.body)}],
    }


def _headers(event_type: str, *, required: list[str]) -> Node:
    text: Node = {"type": "string"}
    properties: Node = {
        "ce-specversion": text | {"const": "1.0"},
        "ce-type": text | {"const": event_type},
        "ce-id": text | {"description": "The request_id; of a response, the request_id and `/response`."},
        "ce-source": text | {"format": "uri-reference", "description": "Who sent it."},
        "ce-time": text | {"format": "date-time", "description": "When it was sent, in UTC."},
        "ce-imagecount": text | {"pattern": "^[0-9]{1,9}$", "description": "image_count, for flow control."},
        "content-type": text | {"const": "application/json"},
        "client_id": text | {"pattern": f"^{CLIENT_ID_PATTERN}$", "description": "Whose request; responses repeat it."},
        "traceparent": text
        | {"pattern": f"^{TRACE_PATTERN}$", "description": "W3C Trace Context; responses repeat it."},
    }
    if event_type == REQUEST_TYPE:
        properties["republished"] = text | {"description": "Not empty: published before; an answer may be stored."}
    return {"type": "object", "required": required, "properties": properties}


def _dead_letter_headers() -> Node:
    return {
        "dead-letter-code": {"type": "string", "description": "An error code of docs/CONTRACT.md."},
        "dead-letter-reason": {"type": "string", "description": "A sentence for people."},
        "dead-letter-attempts": {"type": "string", "pattern": "^[0-9]+$", "description": "Deliveries it had."},
    }


def _schemas() -> Node:
    _, schemas = msgspec.json.schema_components(
        [AnalysisRequest, AnalysisResponse], ref_template="#/components/schemas/{name}"
    )
    translated: Node = json.loads(json.dumps(schemas), object_hook=_in_json_schema)
    return translated


def _in_json_schema(node: Node) -> Node:
    """Say a pattern in ECMA-262, where `$` is the end of the text: Python's `$` lets a line end follow."""
    if isinstance(pattern := node.get("pattern"), str):
        node["pattern"] = pattern.replace(r"\A", "^").replace(r"\Z", "$")
    return node


def main() -> None:
    """Print the document as YAML."""
    import yaml

    yaml.safe_dump(asyncapi_document(), sys.stdout, sort_keys=False, allow_unicode=True, width=120)


if __name__ == "__main__":
    main()
