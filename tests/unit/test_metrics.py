"""What a worker counts and measures, read as Prometheus reads it."""

from __future__ import annotations

import sys
import threading

import pytest
from prometheus_client.parser import text_string_to_metric_families

from handoff.contracts.errors import BrokerUnavailable, ExitCode, MissingPackage
from handoff.contracts.protocols import UNKNOWN_BACKLOG, Backlog, Message
from handoff.settings import WorkerSettings
from ml_server import backlog_readings
from ml_server.answering_model import LocalModel
from ml_server.backlog_readings import BacklogReadings
from ml_server.health import Recorders, health_recorded
from ml_server.metrics import STAGES, Metrics
from ml_server.recording import Serving
from ml_server.vitals import Vitals
from tests.fakes import ARTIFACT, FakeDelivery, Unheard, batch_of, delivery_of, upload
from tests.serving import WatchedService

Samples = dict[tuple[str, tuple[tuple[str, str], ...]], float]


class Watched:
    """A service whose metrics are read."""

    def __init__(self) -> None:
        self.vitals = Vitals()
        self.metrics = Metrics(self.vitals)
        self.recorder = Recorders([self.vitals, self.metrics])
        self.service = WatchedService(recorder=self.recorder)

    def request(self, request_id: str, *levels: int, attempt: int = 1) -> FakeDelivery:
        """A delivery of a good request."""
        return delivery_of(upload(self.service.store, request_id, batch_of(*levels)), attempt=attempt)

    def samples(self) -> Samples:
        """Every sample of a scrape."""
        families = text_string_to_metric_families(self.metrics.exposition().decode())
        return {
            (sample.name, tuple(sorted(sample.labels.items()))): sample.value
            for family in families
            for sample in family.samples
        }

    def value(self, name: str, /, **labels: str) -> float | None:
        """One sample; None where there is none."""
        return self.samples().get((name, tuple(sorted(labels.items()))))


@pytest.fixture
def watched() -> Watched:
    """A watched service."""
    return Watched()


def serving(backlog: Backlog = UNKNOWN_BACKLOG) -> Serving:
    """What a worker that is ready says."""
    return Serving(LocalModel(ARTIFACT).current, [threading.current_thread()], lambda: backlog)


def test_each_outcome_is_counted_with_its_code(watched: Watched) -> None:
    """Succeeded, refused, buried and retried deliveries, each once; a code is one of ours, never a stranger's text."""
    good = watched.request("r-1", 1, 2)
    refused = delivery_of(upload(watched.service.store, "r-2", batch_of(1), model="no\nsuch model"))
    buried = FakeDelivery(Message(body=b"\x00", attributes=good.message.attributes))
    retried = watched.request("r-3", 3)
    watched.service.serve(good, refused, buried)
    watched.service.classifier.errors = [Unheard("odd")]
    watched.service.serve(retried)
    counted = {
        labels: value for (name, labels), value in watched.samples().items() if name == "fashion_deliveries_total"
    }
    assert counted == {
        (("code", ""), ("outcome", "succeeded")): 1,
        (("code", "unknown_model"), ("outcome", "failed")): 1,
        (("code", "malformed_message"), ("outcome", "dead_letter")): 1,
        (("code", "unheard"), ("outcome", "retry")): 1,
    }


def test_images_times_and_stages_are_measured(watched: Watched) -> None:
    """Images as they were classified together, and of each delivery its time as a whole and in each stage."""
    watched.service.serve(watched.request("r-1", 1, 2, 3, 4), watched.request("r-2", 5))
    assert watched.value("fashion_images_total") == 5
    assert watched.value("fashion_micro_batch_images_sum") == 5
    assert watched.value("fashion_delivery_seconds_count") == 2
    assert watched.value("fashion_queued_seconds_count") == 2
    assert {stage: watched.value("fashion_stage_seconds_count", stage=stage) for stage in STAGES} == dict.fromkeys(
        STAGES, 2
    )


def test_deliveries_in_flight_are_those_not_ended(watched: Watched) -> None:
    """One that is being classified is held; afterwards none is."""
    seen: list[float | None] = []
    classify = watched.service.classifier.classify
    watched.service.classifier.classify = lambda images: (  # type: ignore[method-assign]
        seen.append(watched.value("fashion_in_flight_deliveries")),
        classify(images),
    )[1]
    watched.service.serve(watched.request("r-1", 1))
    assert (seen, watched.value("fashion_in_flight_deliveries")) == ([1], 0)


def test_readiness_and_the_model_are_told(watched: Watched) -> None:
    """Not ready, ready with the model's name, not ready again."""
    assert watched.value("fashion_ready") == 0
    watched.recorder.serving(serving())
    assert watched.value("fashion_ready") == 1
    model = {"name": "fashion", "version": "7", "digest": ARTIFACT.graph_digest}
    assert watched.value("fashion_model_info", **model) == 1
    watched.recorder.draining()
    assert watched.value("fashion_ready") == 0


def test_the_backlog_is_told_where_the_broker_knows_it(watched: Watched) -> None:
    """A figure the broker does not know has no sample; the process's memory always has one."""
    watched.recorder.serving(serving(Backlog(count=7, oldest_unacked_age_s=None)))
    assert watched.value("fashion_backlog_messages") == 7
    assert watched.value("fashion_oldest_unacked_age_seconds") is None
    assert watched.value("process_resident_memory_bytes") is not None


def test_two_workers_in_a_process_count_apart(watched: Watched) -> None:
    """Each has a registry of its own."""
    watched.metrics.classified(3)
    assert Watched().value("fashion_images_total") == 0


def test_the_broker_is_asked_seldom() -> None:
    """Within the time a reading is kept for, scrapers get the one there is."""
    now, asked = [100.0], []

    def read() -> Backlog:
        asked.append(now[0])
        return Backlog(count=len(asked), oldest_unacked_age_s=1.0)

    readings = BacklogReadings(read, clock=lambda: now[0])
    assert [readings.latest().count for _ in range(3)] == [1, 1, 1]
    now[0] += backlog_readings.ASK_AGAIN_AFTER_S
    assert readings.latest().count == 2
    assert asked == [100.0, 105.0]


def test_a_broker_that_fails_leaves_the_backlog_unknown() -> None:
    """The scrape goes on without it."""

    def read() -> Backlog:
        raise BrokerUnavailable("Gone.")

    assert BacklogReadings(read).latest() == UNKNOWN_BACKLOG


def test_a_broker_that_hangs_holds_no_scrape(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who asks meanwhile gets what was known, until that is too old; the answer counts when it comes."""
    monkeypatch.setattr(backlog_readings, "ANSWER_WITHIN_S", 0.01)
    now, answering = [0.0], threading.Event()
    answering.set()

    def read() -> Backlog:
        assert answering.wait(30)
        return Backlog(count=1, oldest_unacked_age_s=None)

    readings = BacklogReadings(read, clock=lambda: now[0])
    assert readings.latest().count == 1
    answering.clear()
    now[0] += backlog_readings.ASK_AGAIN_AFTER_S
    assert readings.latest().count == 1
    now[0] += backlog_readings.FORGET_AFTER_S
    assert readings.latest() == UNKNOWN_BACKLOG
    answering.set()
    tick = threading.Event()
    assert any(readings.latest().count == 1 or tick.wait(0.01) for _ in range(1000))


def test_a_missing_prometheus_client_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """A port was asked for, so its metrics must be there; the sentence says what to install."""
    monkeypatch.setitem(sys.modules, "prometheus_client", None)
    monkeypatch.delitem(sys.modules, "ml_server.metrics")
    with pytest.raises(MissingPackage, match="'prometheus_client' is needed for metrics") as missing:
        health_recorded(WorkerSettings(health_port=1)).__enter__()
    assert missing.value.exit_code == ExitCode.MISSING_PACKAGE
