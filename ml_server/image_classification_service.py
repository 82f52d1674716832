"""Console of the ML service: one worker, or a supervisor of N (`fashion worker`)."""

from __future__ import annotations

import logging
import os
import socket
import sys
import time
from pathlib import Path
from typing import Any

if __package__ in {None, ""}:  # run as a script: the packages lie beside this folder
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import click

from handoff.artifacts import read_artifact
from handoff.console import Command, log_to_stderr, settings_from, settings_options
from handoff.settings import Settings, environment_of, model_path
from handoff.stores.responses import read_response
from handoff.stores.urls import open_store
from ml_server.assembly import opened_worker
from ml_server.draining import drain_with_supervisor, drained_by_signals
from ml_server.supervisor import Supervisor, worker_command

_log = logging.getLogger(__name__)


@click.command("worker", cls=Command, context_settings={"show_default": True})
@settings_options
@click.option("--model", metavar="DIR", help="Folder of the model artifact to serve.")
@click.option("--runtime", metavar="NAME", help="Classifier runtime: auto, openvino, onnx or keras.")
@click.option("--threads", type=int, help="Inference threads a worker [default: cores / workers].")
@click.option("--workers", "worker_count", type=click.IntRange(1), default=1, help="Workers to keep running.")
@click.option("--name", help="This worker's name in responses and logs [default: host and process id].")
@click.option("--check", is_flag=True, help="Wire everything, warm up, reach broker and store, then exit.")
@click.option("--verbose/--quiet", default=True, help="Log a line for each delivery.")
@click.option("--supervised", is_flag=True, hidden=True)
@click.option("--peers", type=int, default=1, hidden=True)
def command(worker_count: int, check: bool, **options: Any) -> None:  # noqa: ANN401, FBT001 - click passes them so
    """Classify what clients request, until Ctrl-C or SIGTERM.

    Start more workers, here with --workers or on other machines, to classify more.
    The first signal drains: what is held is finished and answered. A second one forces.
    """
    log_to_stderr(verbose=options["verbose"])
    settings = settings_from(
        options["config"],
        options["broker"],
        options["store"],
        worker__model=options["model"],
        worker__runtime=options["runtime"],
        worker__threads=options["threads"],
    ).settings
    name = options["name"] or f"{socket.gethostname()}-{os.getpid()}"
    if check:
        _check(settings, name)
    elif worker_count == 1:
        _serve(settings, name, peers=options["peers"], supervised=options["supervised"])
    else:
        _supervise(settings, worker_count, verbose=options["verbose"])


def _serve(settings: Settings, name: str, *, peers: int, supervised: bool) -> None:
    started_at = time.perf_counter()
    with opened_worker(settings, name=name, worker_count=peers) as (worker, subscription):
        _log.info("worker=%s ready_s=%.2f broker=%s", name, time.perf_counter() - started_at, settings.broker)
        if supervised:
            drain_with_supervisor(subscription.close)
        with drained_by_signals(subscription.close):
            worker.run()
    _log.info("worker=%s drained", name)


def _supervise(settings: Settings, worker_count: int, *, verbose: bool) -> None:
    read_artifact(model_path(settings))  # one sentence here instead of one from each worker
    supervisor = Supervisor(
        lambda name: worker_command(name, worker_count=worker_count, verbose=verbose),
        worker_count=worker_count,
        environment=environment_of(settings),
    )
    with drained_by_signals(supervisor.drain, force=supervisor.kill):
        code = supervisor.run()
    click.get_current_context().exit(code)


def _check(settings: Settings, name: str) -> None:
    started_at = time.perf_counter()
    with opened_worker(settings, name=name) as (_, subscription):
        subscription.close()
    store = open_store(settings.store)
    read_response(store, "check")  # whether there is one does not matter, only that the store says so
    click.echo(f"The store {store.root} answers.")
    click.echo(f"The broker {settings.broker} answers and has the subscription {settings.topology.requests.name}.")
    click.echo(f"The model {settings.worker.model} is warm after {time.perf_counter() - started_at:.2f} s.")


if __name__ == "__main__":
    command(prog_name=Path(__file__).name)
