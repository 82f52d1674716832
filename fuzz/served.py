"""The worker that is fed, alive for as long as it survives, and what has to be so after each delivery."""

from __future__ import annotations

import logging
import re
import threading
import unicodedata
from collections.abc import Iterator
from pathlib import Path
from queue import SimpleQueue
from typing import Self

import msgspec

from fuzz.cases import DEFAULT_URI, MAX_ATTEMPTS, MAX_BATCH_BYTES, MAX_BATCH_IMAGES, Case, fields_of
from handoff.brokers.dead_letters import MAX_REASON_CHARACTERS
from handoff.contracts.envelope import MAX_BODY_BYTES, client_id_of, parse_response
from handoff.contracts.messages import AnalysisResponse
from handoff.contracts.protocols import Delivery, Message
from handoff.contracts.sentences import MAX_SENTENCE_CHARACTERS
from handoff.contracts.topology import Topology
from handoff.stores.address import key_below
from ml_server.answering_model import LocalModel
from ml_server.intake import Intake
from ml_server.micro_batches import MicroBatches
from ml_server.results import Results
from ml_server.settlement import Settlement
from ml_server.worker import Worker
from tests.fakes import ARTIFACT, MANIFEST, BrightnessClassifier, FakeBroker, FakeStore

# An input takes a millisecond; this is what a busy machine may make of it.
WITHIN_S = 20.0
CONTRACT = Path(__file__).parents[1] / "docs" / "CONTRACT.md"
# Nothing outside fails here, so nothing may be tried again.
_NEVER = {"internal_error", "store_unavailable", "broker_unavailable", "runtime_unavailable", "runtime_failed"}
_UNPRINTABLE = {"Cc", "Cs", "Zl", "Zp"}


class Unexpected(AssertionError):
    """Something that no input may bring about."""


def demand(holds: object, what: str) -> None:
    """Complain where something does not hold."""
    if not holds:
        raise Unexpected(what)


def demand_sentence(text: str, *, most: int) -> None:
    """Hold a reason to one line of bounded length, without characters that would forge a log or steer a terminal."""
    demand(text, "a reason says nothing")
    demand(len(text) <= most, f"a reason has {len(text)} characters, allowed are {most}: {text[:80]!r}")
    odd = [character for character in text if unicodedata.category(character) in _UNPRINTABLE]
    demand(not odd, f"a reason holds control characters: {text[:200]!r}")


def documented_codes() -> frozenset[str]:
    """The error codes of the contract's table."""
    table = CONTRACT.read_text(encoding="utf-8").partition("### Error codes")[2].partition("###")[0].partition("---")[2]
    return frozenset(re.findall(r"`([a-z_]+)`(?=[^|]*\|$)", table, re.MULTILINE))


class FedDelivery:
    """A delivery that can be waited for, and that counts every call."""

    def __init__(self, message: Message, *, attempt: int) -> None:
        self.message = message
        self.attempt = attempt
        self.ends: list[str] = []
        self.ended = threading.Event()

    def ack(self) -> None:
        """End it."""
        self.ends.append("ack")
        self.ended.set()

    def nack(self, delay_s: float = 0.0) -> None:
        """Give it back."""
        del delay_s
        self.ends.append("nack")
        self.ended.set()


class FedSubscription:
    """Yields what it is fed until it is closed."""

    def __init__(self) -> None:
        self._fed: SimpleQueue[Delivery | None] = SimpleQueue()

    def __iter__(self) -> Iterator[Delivery]:
        while (delivery := self._fed.get()) is not None:
            yield delivery

    def feed(self, delivery: Delivery) -> None:
        """Have a delivery yielded."""
        self._fed.put(delivery)

    def close(self) -> None:
        """End the iteration."""
        self._fed.put(None)


class _LogLines(logging.Handler):
    """Keeps what would have been written."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Keep a line, as its arguments make it."""
        self.lines.append(record.getMessage())


class ServedWorker:
    """A worker with its store, broker and model in memory; `with` starts and drains it."""

    def __init__(self) -> None:
        self._store = FakeStore()
        self._broker = FakeBroker()
        self._subscription = FedSubscription()
        self._classifier = BrightnessClassifier()
        self._log = _LogLines()
        self._codes = documented_codes()
        self._thread = threading.Thread(target=self._worker().run, name="worker", daemon=True)
        self._threads: list[threading.Thread] = []

    def __enter__(self) -> Self:
        logger = logging.getLogger("ml_server")
        logger.addHandler(self._log)
        logger.setLevel(logging.INFO)
        logger.propagate = False
        before = set(threading.enumerate())
        self._thread.start()
        self._feed(FedDelivery(Message(b""), attempt=1))  # when it is answered, every lasting thread is there
        self._threads = [thread for thread in threading.enumerate() if thread not in before]
        return self

    def __exit__(self, *_: object) -> None:
        self._subscription.close()
        if self.alive:
            self._thread.join(WITHIN_S)
        logger = logging.getLogger("ml_server")
        logger.removeHandler(self._log)
        logger.setLevel(logging.NOTSET)
        logger.propagate = True

    @property
    def alive(self) -> bool:
        """Whether every thread that served the first delivery still does."""
        return all(thread.is_alive() for thread in self._threads)

    def serve(self, case: Case) -> list[str]:
        """Deliver a case; how each delivery ended.

        Raises: Unexpected
        """
        self._prepare(case)
        message = Message(body=case.data, attributes=case.attributes)
        answers: list[AnalysisResponse] = []
        ends = []
        for attempt in case.attempts[:3] or (1,):
            self._broker.published.clear()
            before = dict(self._store.objects)
            self._log.lines.clear()
            self._feed(FedDelivery(message, attempt=max(1, min(attempt, MAX_ATTEMPTS))))
            end, response = self._judge(message)
            self._judge_store(before, response)
            ends.append(end)
            answers += [response] if response is not None and response.status == "succeeded" else []
        demand(len({_said(answer) for answer in answers}) <= 1, "two responses to one request say different things")
        return ends

    def _worker(self) -> Worker:
        model = LocalModel(ARTIFACT)
        intake = Intake(
            self._store,
            model=model,
            manifest=MANIFEST,
            max_batch_bytes=MAX_BATCH_BYTES,
            max_batch_images=MAX_BATCH_IMAGES,
        )
        return Worker(
            self._subscription,
            intake=intake,
            micro_batches=MicroBatches(size=16, max_waiting=64),
            classifiers=[self._classifier],
            results=Results(self._store, model=model, labels=MANIFEST.labels, worker="fuzzed"),
            settlement=Settlement(self._broker, topology=Topology(), worker="fuzzed"),
            transfer_threads=1,
            max_attempts=MAX_ATTEMPTS,
        )

    def _prepare(self, case: Case) -> None:
        self._store.objects = {f"{self._store.root}/{key}": data for key, data in case.stored.items()}
        self._store.creates.clear()
        self._store.reads.clear()
        self._classifier.sizes.clear()
        uri = (fields_of(case.data) or {}).get("batch_uri")
        self._store.objects.setdefault(uri if isinstance(uri, str) else DEFAULT_URI, case.payload)

    def _feed(self, delivery: FedDelivery) -> None:
        self._subscription.feed(delivery)
        demand(delivery.ended.wait(WITHIN_S), f"a delivery did not end within {WITHIN_S:g} s")
        demand(self.alive, "a thread of the worker has ended")
        demand(delivery.ends == ["ack"], f"a delivery ended in {delivery.ends}; the log says {self._log.lines}")

    def _judge(self, delivered: Message) -> tuple[str, AnalysisResponse | None]:
        """Hold what was published to the contract: how the delivery ended, and the response if there is one."""
        responses = [message for topic, message in self._broker.published if topic == Topology().responses_topic]
        letters = self._broker.dead_letters()
        demand(len(responses) <= 1 and len(letters) <= 1, f"{len(responses)} responses and {len(letters)} dead letters")
        for line in self._log.lines:
            demand_sentence(line, most=4096)
        response = self._judge_response(responses[0], delivered) if responses else None
        if letters:
            demand(response is None or response.status == "failed", "a dead letter was answered")
            return self._judge_letter(letters[0], delivered), response
        if response is None:
            raise Unexpected("a delivery was acked in silence")
        return "succeeded" if response.error is None else f"failed {response.error.code}", response

    def _judge_response(self, message: Message, delivered: Message) -> AnalysisResponse:
        response = parse_response(message)
        demand(len(message.body) <= MAX_BODY_BYTES, f"a response has {len(message.body)} bytes")
        demand(message.attributes.get("client_id") == client_id_of(delivered), "a response goes to somebody else")
        demand(
            (response.error is None) == (response.status == "succeeded"),
            "a response contradicts itself",
        )
        if response.error is not None:
            self._demand_code(response.error.code)
            demand_sentence(response.error.message, most=MAX_SENTENCE_CHARACTERS)
        return response

    def _judge_letter(self, letter: Message, delivered: Message) -> str:
        code = letter.attributes["dead-letter-code"]
        self._demand_code(code)
        demand_sentence(letter.attributes["dead-letter-reason"], most=MAX_REASON_CHARACTERS)
        demand(letter.body == delivered.body, "a dead letter has another body")
        return f"dead letter {code}"

    def _demand_code(self, code: str) -> None:
        demand(code in self._codes - _NEVER, f"the code {code} is none that an input may bring about")

    def _judge_store(self, before: dict[str, bytes], response: AnalysisResponse | None) -> None:
        after = self._store.objects
        demand(all(after.get(uri) is data for uri, data in before.items()), "an object was changed or removed")
        home = f"{self._store.root}/results/{response.request_id}/" if response else "-"
        for uri in after.keys() - before.keys():
            demand(uri.startswith(home), f"an object was written outside the request's results: {uri!r}")
            key_below(self._store.root, uri)


def _said(response: AnalysisResponse) -> bytes:
    """What two responses to one request have to agree on."""
    return msgspec.json.encode(
        msgspec.structs.replace(response, attempt=1, timings_ms={}, requested_at=None), order="deterministic"
    )
