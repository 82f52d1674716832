"""What log lines look like in both formats, and that nobody outside can write one."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator

import pytest

from handoff.contracts.errors import StoreUnavailable
from handoff.contracts.protocols import Message
from handoff.log_lines import MOST_CHARACTERS, JsonLines, TextLines
from ml_server import delivery_log
from tests.fakes import FakeDelivery, batch_of, delivery_of, upload
from tests.serving import WatchedService

HOSTILE = "x'\" outcome=succeeded\r\n12:00:00 INFO request=forged outcome=succeeded\u2028\x1b[31m\x00" + 5000 * "y"


class Lines:
    """A log that is written to memory."""

    def __init__(self, formatter: logging.Formatter) -> None:
        self._stream = io.StringIO()
        self.handler = logging.StreamHandler(self._stream)
        self.handler.setFormatter(formatter)

    def lines(self) -> list[str]:
        """What was written, split wherever anyone might see an end of line."""
        return self._stream.getvalue().removesuffix("\n").splitlines()


@pytest.fixture(params=[TextLines, JsonLines])
def either(request: pytest.FixtureRequest) -> Iterator[Lines]:
    """The worker's log in each format."""
    yield from _written(request.param())


@pytest.fixture
def text() -> Iterator[Lines]:
    """The worker's log as text."""
    yield from _written(TextLines())


@pytest.fixture
def objects() -> Iterator[Lines]:
    """The worker's log as JSON."""
    yield from _written(JsonLines())


def _written(formatter: logging.Formatter) -> Iterator[Lines]:
    lines, log = Lines(formatter), logging.getLogger(delivery_log.__name__)
    level = log.level
    log.addHandler(lines.handler)
    log.setLevel(logging.INFO)
    yield lines
    log.removeHandler(lines.handler)
    log.setLevel(level)


def serve_hostile() -> None:
    """Serve requests that put a forged line wherever a client can put text; eight deliveries."""
    service = WatchedService()
    good = delivery_of(upload(service.store, "r-1", batch_of(1)))
    attributes = good.message.attributes
    said = [
        delivery_of(upload(service.store, "r-2", batch_of(1), model=HOSTILE)),
        delivery_of(upload(service.store, "r-3", batch_of(1), batch_uri=f"memory://store/{HOSTILE}"[:2000])),
        delivery_of(upload(service.store, "r-4", batch_of(1), labels=[HOSTILE])),
        FakeDelivery(Message(body=HOSTILE.encode(), attributes=attributes)),
        FakeDelivery(Message(body=good.message.body, attributes={**attributes, "ce-type": HOSTILE})),
        FakeDelivery(Message(body=good.message.body, attributes={**attributes, "client_id": HOSTILE})),
        FakeDelivery(Message(body=good.message.body, attributes={**attributes, "traceparent": HOSTILE})),
    ]
    service.serve(*said)
    service.classifier.errors = [StoreUnavailable(HOSTILE)]
    service.serve(good)


def test_a_delivery_is_one_line_of_text(text: Lines) -> None:
    """With what people and the tests look for."""
    service, trace_id = WatchedService(), 32 * "a"
    good = delivery_of(upload(service.store, "r-1", batch_of(1, 2)))
    traced = {**good.message.attributes, "traceparent": f"00-{trace_id}-{16 * 'b'}-01"}
    service.serve(FakeDelivery(Message(body=good.message.body, attributes=traced)))
    (line,) = text.lines()
    assert " INFO request=r-1 attempt=1 images=2 total_ms=" in line
    assert line.endswith(f" trace={trace_id} outcome=succeeded")


def test_a_delivery_is_one_object(objects: Lines) -> None:
    """With the same, and whose request it was and who served it."""
    service = WatchedService()
    service.classifier.errors = [StoreUnavailable("The store did not answer.")]
    service.serve(delivery_of(upload(service.store, "r-1", batch_of(1)), client_id="laptop"))
    (line,) = objects.lines()
    found = json.loads(line)
    assert found.pop("time").endswith("Z")
    assert found.pop("total_ms") >= 0
    assert 0.5 <= found.pop("delay_s") <= 1
    assert found == {
        "level": "info",
        "event": "delivery",
        "request_id": "r-1",
        "client_id": "laptop",
        "attempt": 1,
        "images": 1,
        "outcome": "retry",
        "code": "store_unavailable",
        "reason": "The store did not answer.",
        "worker": "w-1",
    }


def test_a_stranger_writes_no_line(either: Lines) -> None:
    """Whatever text a request quotes: a line each, of bounded length, and none that begins as the forged one."""
    serve_hostile()
    lines = either.lines()
    assert len(lines) == 8
    assert all(len(line) < MOST_CHARACTERS for line in lines)
    assert all(line.isprintable() for line in lines)
    assert not any(line.startswith("12:00:00 INFO request=forged") for line in lines)


def test_a_stranger_adds_no_field(objects: Lines) -> None:
    """Every object has the outcome that the delivery had."""
    serve_hostile()
    found = [json.loads(line) for line in objects.lines()]
    assert sorted(line["outcome"] for line in found) == [*3 * ["dead-letter"], *3 * ["failed"], "retry", "succeeded"]
    assert {line["request_id"] for line in found} == {"r-1", "r-2", "r-3", "r-4", "?"}


def test_a_reason_is_quoted_where_text_could_be_taken_for_a_field(text: Lines) -> None:
    """What a stranger says stands between quotes, its own quotes escaped."""
    service = WatchedService()
    service.serve(delivery_of(upload(service.store, "r-1", batch_of(1), model="'\" outcome=succeeded")))
    (line,) = text.lines()
    before, reason = line.split(" reason=")
    assert before.endswith(" outcome=failed code=unknown_model")
    assert reason.startswith(("'", '"'))
    assert reason.count(reason[0]) - reason.count("\\" + reason[0]) == 2


@pytest.mark.parametrize(
    ("reason", "shown"),
    [
        ("gs://user:pass@bucket/x is outside", "gs://…@bucket/x is outside"),
        ("https://s.example/x?a=1&X-Goog-Signature=0123abcd&b=2", "https://s.example/x?a=1&X-Goog-Signature=…&b=2"),
        ("header Authorization: Bearer ya29.abc-def failed", "header Authorization: Bearer … failed"),
        ('{"access_token": "abc", "token_type": "x"}', '{"access_token": "…", "token_type": "x"}'),
        ("there is no object at gs://bucket/a@b", "there is no object at gs://bucket/a@b"),
    ],
)
def test_credentials_are_not_shown(reason: str, shown: str) -> None:
    """Of an address or a header that an error quotes."""
    assert delivery_log._shown(reason) == shown


def test_other_lines_keep_their_text() -> None:
    """Letters of any language stay, an error keeps its traceback; in JSON the text is the message."""
    record = logging.LogRecord("x", logging.WARNING, "x.py", 1, "workers=%d→%d über\n", (1, 2), None)
    assert TextLines().format(record).endswith(" WARNING workers=1→2 über\\n")
    found = json.loads(JsonLines().format(record))
    assert (found["level"], found["message"]) == ("warning", "workers=1→2 über\n")
    record.exc_info = (ValueError, ValueError("odd"), None)
    assert "ValueError: odd" in TextLines().format(record)
    assert "ValueError: odd" in json.loads(JsonLines().format(record))["exception"]
