"""The figures that a receive console ends with."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from fashion_client import summary as module
from fashion_client.summary import Summary
from handoff.contracts.messages import AnalysisResponse, FailureReason


class Clock(datetime):
    """A clock that the test sets."""

    at = datetime(2026, 1, 2, tzinfo=UTC)

    @classmethod
    def now(cls, tz: object = None) -> datetime:  # type: ignore[override]
        """The time the test says it is."""
        del tz
        return cls.at

    @classmethod
    def timestamp_now(cls) -> float:
        """The same as seconds."""
        return cls.at.timestamp()


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> type[Clock]:
    """A clock in the place of the real one, beginning at a round time."""
    Clock.at = datetime(2026, 1, 2, tzinfo=UTC)
    monkeypatch.setattr(module, "datetime", Clock)
    monkeypatch.setattr(module.time, "time", Clock.timestamp_now)
    return Clock


def response(
    *, worker: str = "w", images: int = 10, failed: bool = False, asked_at: datetime | None = None, **more: int
) -> AnalysisResponse:
    """A response."""
    return AnalysisResponse(
        request_id="r",
        status="failed" if failed else "succeeded",
        image_count=images,
        worker=worker,
        attempt=1,
        label_counts={} if failed else {"Bag": images - 1, "Coat": 1},
        requested_at=asked_at,
        error=FailureReason("invalid_batch", "x") if failed else None,
        **more,
    )


def test_nothing_received_has_no_figures() -> None:
    """Zeros where something is counted, None where there is nothing to say."""
    figures = Summary().figures()
    assert (figures["responses"], figures["failed"], figures["images"]) == (0, 0, 0)
    assert [figures[name] for name in ("accuracy", "images_per_s", "latency_p50_ms", "latency_p99_ms")] == [None] * 4
    assert Summary().text() == "0 responses, 0 failed, 0 images\nworkers: none"


def test_percentiles_are_those_of_the_latencies(clock: type[Clock]) -> None:
    """A hundred latencies of 1 to 100 ms."""
    summary, start = Summary(), clock.at
    for milliseconds in range(100, 0, -1):
        clock.at = start + timedelta(seconds=1)
        taken = summary.add(response(asked_at=clock.at - timedelta(milliseconds=milliseconds)))
        assert taken == pytest.approx(milliseconds)
    figures = summary.figures()
    assert figures["latency_p50_ms"] == pytest.approx(50.5)
    assert figures["latency_p95_ms"] == pytest.approx(95.05)
    assert figures["latency_p99_ms"] == pytest.approx(99.01)
    assert "p50 50.5 ms, p95 95.0 ms, p99 99.0 ms" in summary.text()


def test_counts_go_by_label_and_worker(clock: type[Clock]) -> None:
    """Failed responses count as such and bring no images."""
    summary = Summary()
    summary.add(response(worker="b", labelled_count=8, correct_count=6))
    clock.at += timedelta(seconds=2)
    summary.add(response(worker="a", labelled_count=8, correct_count=8))
    summary.add(response(worker="a", failed=True))
    figures = summary.figures()
    assert (figures["responses"], figures["failed"], figures["images"]) == (3, 1, 20)
    assert figures["workers"] == {"a": 2, "b": 1}
    assert figures["labels"] == {"Bag": 18, "Coat": 2}
    assert figures["accuracy"] == 14 / 16
    assert "accuracy: 87.50% of 16 images with a known label" in summary.text()


def test_the_rate_counts_from_the_first_request(clock: type[Clock]) -> None:
    """A console that was there from the start measures from the first publish to the last response."""
    summary, start = Summary(), clock.at
    clock.at = start + timedelta(seconds=2)
    summary.add(response(images=30, asked_at=start + timedelta(seconds=1)))
    clock.at = start + timedelta(seconds=4)
    summary.add(response(images=30, asked_at=start + timedelta(seconds=1)))
    assert summary.figures()["images_per_s"] == pytest.approx(20)
    assert summary.figures()["seconds"] == pytest.approx(3)


def test_memory_is_bounded(monkeypatch: pytest.MonkeyPatch, clock: type[Clock]) -> None:
    """A console that runs for weeks keeps the newest latencies."""
    monkeypatch.setattr(module, "MOST_LATENCIES", 10)
    summary = Summary()
    for number in range(100):
        summary.add(response(asked_at=clock.at - timedelta(milliseconds=number)))
    assert len(summary._latencies_ms) <= 10
    assert max(summary._latencies_ms) == pytest.approx(99)
