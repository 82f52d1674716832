"""The three consoles by hand, as the README has them."""

from __future__ import annotations

import sys
from pathlib import Path

from handoff.artifacts import read_artifact
from handoff.contracts.errors import ExitCode
from handoff.settings import Settings, model_path
from tests.e2e.conftest import Start
from tests.e2e.programs import RECEIVE, REPOSITORY, REQUEST, WORKER, script

REQUESTS = 200
# Fewer than there are requests, so that the quicker worker cannot take everything before the other looks.
HELD_AT_ONCE = 8


def test_two_workers_share_what_a_console_requests(start: Start, start_worker: Start) -> None:
    """Two hundred requests: together exactly two hundred responses, some from each worker, most of them right."""
    init = start([sys.executable, str(REPOSITORY / "fashion.py"), "init"], name="init")
    assert init.wait() == ExitCode.OK, init.log
    for name in ("worker-a", "worker-b"):
        start_worker(name, max_in_flight=HELD_AT_ONCE)
    receiving = start(script(RECEIVE, "--count", str(REQUESTS), "--json"), name="receive")
    requesting = start(script(REQUEST, "--batch-size", "5", "--count", str(REQUESTS), "--json"), name="request")
    assert requesting.wait() == ExitCode.OK, requesting.log
    assert requesting.figures["requests"] == REQUESTS
    assert requesting.figures["images"] == 5 * REQUESTS
    assert receiving.wait() == ExitCode.OK, receiving.log
    figures = receiving.figures
    assert (figures["responses"], figures["failed"], figures["images"]) == (REQUESTS, 0, 5 * REQUESTS)
    assert set(figures["workers"]) == {"worker-a", "worker-b"}
    assert sum(figures["workers"].values()) == REQUESTS
    assert figures["accuracy"] >= 0.9
    assert figures["latency_p50_ms"] > 0


def test_the_receive_console_exits_1_when_a_prediction_failed(
    start: Start, start_worker: Start, settings: Settings, tmp_path: Path
) -> None:
    """The failure is shown with its code, the good one beside it is written where asked."""
    start_worker("worker-a")
    for model in (read_artifact(model_path(settings)).manifest.name, "another"):
        requesting = start(script(REQUEST, "--count", "1", "--model", model), name=f"request-{model}")
        assert requesting.wait() == ExitCode.OK, requesting.log
    receiving = start(script(RECEIVE, "--count", "2", "--predictions", "all.csv", "--json"), name="receive")
    assert receiving.wait() == ExitCode.PREDICTIONS_FAILED, receiving.log
    assert "FAILED  unknown_model: The model 'another' is not served here" in receiving.output
    assert (receiving.figures["responses"], receiving.figures["failed"]) == (2, 1)
    assert len((tmp_path / "all.csv").read_text(encoding="utf-8").splitlines()) == 1 + 100


def test_a_check_wires_everything_and_imports_no_more_than_it_needs(start: Start) -> None:
    """`--check` says what answers; a worker has neither TensorFlow nor what only trainers and clients use."""
    checking = start([sys.executable, "-X", "importtime", str(WORKER), "--check"], name="check")
    assert checking.wait() == ExitCode.OK, checking.log
    assert checking.output.count("answers") == 2
    assert "is warm after" in checking.output
    imported = {line.rpartition("|")[2].strip().partition(".")[0] for line in checking.log.splitlines() if "|" in line}
    assert {"numpy", "msgspec", "click"} <= imported
    assert len(imported & {"openvino", "onnxruntime"}) == 1
    unwanted = {"tensorflow", "keras", "pandas", "matplotlib", "tqdm", "PIL", "tf2onnx", "onnx", "scipy"}
    unwanted |= {"fashion_client", "ml_model_development", "hypothesis", "pytest", "prometheus_client"}
    assert imported & unwanted == set()
