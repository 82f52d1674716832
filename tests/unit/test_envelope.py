"""Messages survive the wire, and whatever is no message is refused with a sentence that says why."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from handoff.brokers import window
from handoff.contracts.envelope import (
    IMAGE_COUNT_ATTRIBUTE,
    MAX_BODY_BYTES,
    client_id_of,
    fit_inline,
    new_traceparent,
    parse_request,
    parse_response,
    request_message,
    response_message,
)
from handoff.contracts.errors import MalformedMessage, PayloadTooLarge, SettingsInvalid
from handoff.contracts.messages import (
    MAX_INLINE_BYTES,
    REQUEST_TYPE,
    RESPONSE_TYPE,
    AnalysisRequest,
    AnalysisResponse,
    Predictions,
    encode_body,
)
from handoff.contracts.protocols import Message

NOW = datetime(2026, 1, 2, 3, 4, 5, 678_000, tzinfo=UTC)
TRACE = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
BODY: dict[str, Any] = {
    "request_id": "r-1",
    "batch_uri": "file:///store/requests/r-1/images.csv",
    "format": "csv",
    "image_count": 2,
    "checksum": "sha256:" + 64 * "0",
}
REQUEST = AnalysisRequest(**BODY)
RESPONSE = AnalysisResponse(request_id="r-1", status="succeeded", image_count=2, worker="w", attempt=1)


def message(body: bytes | dict[str, Any], attributes: dict[str, str | None] | None = None) -> Message:
    """A request message with a few attributes of its own; None leaves one out."""
    named = {"ce-type": REQUEST_TYPE} | (attributes or {})
    kept = {name: value for name, value in named.items() if value is not None}
    return Message(body=body if isinstance(body, bytes) else json.dumps(body).encode(), attributes=kept)


def test_a_request_comes_back_with_what_its_message_says() -> None:
    """Body, client, trace and time, and the attributes that brokers and others read."""
    sent = request_message(REQUEST, client_id="console-1", traceparent=TRACE, now=NOW)
    received = parse_request(sent)
    assert received.request == REQUEST
    assert (received.client_id, received.traceparent, received.requested_at) == ("console-1", TRACE, NOW)
    assert sent.key == "r-1"
    assert sent.attributes == {
        "ce-specversion": "1.0",
        "ce-type": "fashion.analysis.requested.v1",
        "ce-id": "r-1",
        "ce-source": "/clients/console-1",
        "ce-time": "2026-01-02T03:04:05.678Z",
        "ce-imagecount": "2",
        "content-type": "application/json",
        "client_id": "console-1",
        "traceparent": TRACE,
    }


def test_a_response_repeats_whose_it_is() -> None:
    """Client and trace of the request, where it had any."""
    sent = response_message(RESPONSE, client_id="console-1", traceparent=TRACE, source="/workers/w", now=NOW)
    assert parse_response(sent) == RESPONSE
    assert sent.attributes["client_id"] == "console-1"
    assert sent.attributes["traceparent"] == TRACE
    assert (sent.attributes["ce-id"], sent.attributes["ce-type"], sent.key) == ("r-1/response", RESPONSE_TYPE, "r-1")
    anonymous = response_message(RESPONSE, client_id=None, traceparent=None, source="/workers/w", now=NOW)
    assert not {"client_id", "traceparent"} & set(anonymous.attributes)


def test_times_are_said_in_utc() -> None:
    """Whatever zone the clock is in."""
    local = NOW.astimezone(timezone(timedelta(hours=5, minutes=30)))
    assert request_message(REQUEST, client_id="c", now=local).attributes["ce-time"] == "2026-01-02T03:04:05.678Z"


def test_flow_control_reads_the_attribute_that_is_written() -> None:
    """The brokers' window and the envelope mean one attribute."""
    assert window.IMAGE_COUNT_ATTRIBUTE == IMAGE_COUNT_ATTRIBUTE
    assert window.image_count(request_message(REQUEST, client_id="c", now=NOW)) == 2


def test_the_least_that_a_stranger_must_send() -> None:
    """A body and ce-type make a request; unknown fields and attributes are ignored."""
    received = parse_request(message(BODY | {"colour": "red", "more": [1, {"a": None}]}, {"shoe": "size"}))
    assert received.request == REQUEST
    assert (received.client_id, received.traceparent, received.requested_at) == (None, None, None)


@pytest.mark.parametrize(
    ("changed", "sentence"),
    [
        ({"request_id": None}, "Expected `str`, got `null` - at `$.request_id`"),
        ({"batch_uri": ""}, "$.batch_uri"),
        ({"batch_uri": "x" * 2049}, "$.batch_uri"),
        ({"format": "zip"}, "Invalid enum value 'zip' - at `$.format`"),
        ({"image_count": 0}, "$.image_count"),
        ({"image_count": "2"}, "Expected `int`, got `str` - at `$.image_count`"),
        ({"image_count": 10**400}, "$.image_count"),
        ({"checksum": "sha256:" + 64 * "G"}, "$.checksum"),
        ({"checksum": "sha256:" + 64 * "0" + "\n"}, "$.checksum"),
        ({"deadline": "2026-01-01T00:00:00"}, "$.deadline"),
        ({"labels": ["Bag", 3]}, "$.labels[1]"),
        ({"labels": ["Bag"]}, "1 labels for 2 images"),
    ],
)
def test_a_wrong_field_is_named(changed: dict[str, Any], sentence: str) -> None:
    """And the request is named too, where its id can be read."""
    with pytest.raises(MalformedMessage, match=re.escape(sentence)) as caught:
        parse_request(message(BODY | changed))
    assert caught.value.request_id == (None if "request_id" in changed else "r-1")


@pytest.mark.parametrize("name", BODY)
def test_a_missing_field_is_named(name: str) -> None:
    """Every required one."""
    with pytest.raises(MalformedMessage, match=f"missing required field `{name}`"):
        parse_request(message({key: value for key, value in BODY.items() if key != name}))


@pytest.mark.parametrize("request_id", ["", "../x", "a/b", "a b", "-a", "a\n", "é", "a" * 129, "a.b", 7])
def test_a_request_id_must_be_fit_for_a_folder(request_id: object) -> None:
    """One that is not is not repeated either."""
    with pytest.raises(MalformedMessage, match="request_id") as caught:
        parse_request(message(BODY | {"request_id": request_id}))
    assert caught.value.request_id is None


@pytest.mark.parametrize(
    ("attributes", "sentence"),
    [
        ({"ce-type": None}, "ce-type is missing; understood is fashion.analysis.requested.v1"),
        ({"ce-type": "fashion.analysis.requested.v2"}, "'fashion.analysis.requested.v2'; understood is"),
        ({"ce-specversion": "0.3"}, "ce-specversion is '0.3'; understood is 1.0"),
        ({"client_id": "a b"}, "client_id must be"),
        ({"client_id": "a" * 129}, "client_id must be"),
    ],
)
def test_a_wrong_attribute_is_named(attributes: dict[str, str | None], sentence: str) -> None:
    """The sender can be told, for the body is readable."""
    with pytest.raises(MalformedMessage, match=re.escape(sentence)) as caught:
        parse_request(message(BODY, attributes))
    assert caught.value.request_id == "r-1"


@pytest.mark.parametrize(
    "body", [b"", b"{", b"[]", b"null", b"\xff", b'{"request_id": "\\ud800"}', b'{"x":' + 100_000 * b"[", b"7" * 5000]
)
def test_a_body_that_is_no_object_is_refused(body: bytes) -> None:
    """Not JSON, not UTF-8, not an object, or nested without end."""
    with pytest.raises(MalformedMessage, match=r"The body is not a fashion\.analysis\.requested\.v1") as caught:
        parse_request(message(body))
    assert caught.value.request_id is None


def test_a_large_body_is_refused() -> None:
    """When sent and when received."""
    labels = ["x" * MAX_BODY_BYTES, ""]
    with pytest.raises(MalformedMessage, match="allowed are 1000000"):
        parse_request(message(BODY | {"labels": labels}))
    with pytest.raises(PayloadTooLarge, match="allowed are 1000000"):
        request_message(AnalysisRequest(**BODY, labels=labels), client_id="c", now=NOW)


def test_a_response_on_the_requests_topic_is_not_answered() -> None:
    """Its id belongs to a request that has its answer."""
    with pytest.raises(MalformedMessage, match="understood is") as caught:
        parse_request(response_message(RESPONSE, client_id=None, traceparent=None, source="/w", now=NOW))
    assert caught.value.request_id is None
    with pytest.raises(MalformedMessage, match=RESPONSE_TYPE):
        parse_response(request_message(REQUEST, client_id="c", now=NOW))


@pytest.mark.parametrize("client_id", ["", " ", "a/b", "é", "x" * 129])
def test_a_client_cannot_take_an_unusable_id(client_id: str) -> None:
    """It could neither name a subscription nor stand in a filter."""
    with pytest.raises(SettingsInvalid, match="client id"):
        request_message(REQUEST, client_id=client_id, now=NOW)


def test_an_unusable_client_id_is_no_clients() -> None:
    """An empty one counts as absent, for some consoles send empty attributes."""
    assert client_id_of(Message(body=b"", attributes={"client_id": "a b"})) is None
    assert client_id_of(Message(body=b"", attributes={"client_id": "a-b"})) == "a-b"
    assert parse_request(message(BODY, {"client_id": ""})).client_id is None


@pytest.mark.parametrize(
    "traceparent",
    [
        "",
        "x",
        TRACE.upper(),
        TRACE + "-00",
        "ff" + TRACE[2:],
        TRACE.replace("4bf92f3577b34da6a3ce929d0e0e4736", 32 * "0"),
    ],
)
def test_a_broken_trace_counts_as_none(traceparent: str) -> None:
    """As the standard asks; the request is served."""
    assert parse_request(message(BODY, {"traceparent": traceparent})).traceparent is None


@pytest.mark.parametrize("time", ["", "yesterday", "2026-01-02T03:04:05", "20260102"])
def test_a_broken_time_counts_as_none(time: str) -> None:
    """A figure is lost, the request is served."""
    assert parse_request(message(BODY, {"ce-time": time})).requested_at is None


def test_traces_begin_valid_and_different() -> None:
    """They pass the check that a received one has to pass."""
    one, other = new_traceparent(), new_traceparent()
    assert one != other
    assert parse_request(message(BODY, {"traceparent": one})).traceparent == one


@given(st.integers(0, 3000))
def test_inline_predictions_end_where_the_message_would_grow(count: int) -> None:
    """Under 64 KiB they stay, from there on they go; nothing else changes."""
    predictions = Predictions([9] * count, ["Ankle boot"] * count, [0.123456] * count)
    whole = AnalysisResponse(
        request_id="r", status="succeeded", image_count=count, worker="w", attempt=1, predictions=predictions
    )
    fitted = fit_inline(whole)
    assert len(encode_body(fitted)) < MAX_INLINE_BYTES
    assert (fitted == whole) == (len(encode_body(whole)) < MAX_INLINE_BYTES)
    assert fitted.image_count == count
