"""Console of the ML service: one worker, or a supervisor of N (`fashion worker`)."""

from __future__ import annotations

import logging
import os
import socket
import sys
import time
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

if __package__ in {None, ""}:  # run as a script: the packages lie beside this folder
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import click

from handoff.console import Command, log_to_stderr, settings_from, settings_options
from handoff.contracts.errors import SettingsInvalid
from handoff.contracts.sentences import without_credentials
from handoff.settings import LAST_PORT, Settings, WorkerSettings, environment_of
from handoff.stores.responses import read_response
from handoff.stores.urls import open_store
from ml_server.assembly import opened_worker, scaler_of, scaling_rules
from ml_server.draining import drain_with_supervisor, drained_by_signals
from ml_server.loaded_model import read_served
from ml_server.recording import NO_RECORDER, Recorder
from ml_server.scaler import running
from ml_server.supervisor import Supervisor, worker_command

_log = logging.getLogger(__name__)

AUTO = 0
"""The worker count that follows the backlog."""


class WorkerCount(click.IntRange):
    """A number of workers, or `auto`."""

    name = "count"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:  # noqa: ANN401 - click's own signature
        """Turn a flag's text into a count."""
        if value == "auto":
            return AUTO
        if isinstance(value, str) and not value.lstrip("-").isdecimal():
            self.fail(f"{value!r} is neither a whole number nor 'auto'.", param, ctx)
        count: int = super().convert(value, param, ctx)
        return count


@click.command("worker", cls=Command, context_settings={"show_default": True})
@settings_options
@click.option("--model", metavar="DIR", help="Folder of the model artifact to serve.")
@click.option("--runtime", metavar="NAME", help="Classifier runtime: auto, openvino, onnx, keras or tf-serving.")
@click.option("--url", metavar="URL", help="Of tf-serving: the model, http://HOST:8501/v1/models/NAME.")
@click.option("--threads", type=int, help="Inference threads a worker [default: cores / workers, with auto / most].")
@click.option(
    "--workers",
    "worker_count",
    type=WorkerCount(1),
    default=1,
    metavar="N|auto",
    help="Workers to keep running; auto: as many as the backlog wants.",
)
@click.option("--min-workers", type=int, metavar="N", help="Fewest workers of auto [default: 1].")
@click.option("--max-workers", type=int, metavar="N", help="Most workers of auto [default: one a core].")
@click.option("--name", help="This worker's name in responses and logs [default: host and process id].")
@click.option(
    "--health-port", type=int, metavar="PORT", help="Answer /livez, /readyz and /metrics on this port [default: none]."
)
@click.option("--health-host", metavar="HOST", help="The address of that port [default: 127.0.0.1].")
@click.option("--log-format", metavar="FORMAT", help="Log lines as text or as json.")
@click.option("--check", is_flag=True, help="Wire everything, warm up, reach broker and store, then exit.")
@click.option("--verbose/--quiet", default=True, help="Log a line for each delivery.")
@click.option("--supervised", is_flag=True, hidden=True)
@click.option("--peers", type=int, default=1, hidden=True)
def command(worker_count: int, check: bool, **options: Any) -> None:  # noqa: ANN401, FBT001 - click passes them so
    """Classify what clients request, until Ctrl-C or SIGTERM.

    Start more workers, here with --workers or on other machines, to classify more. They share this machine's
    cores: with --workers auto each gets cores / --max-workers inference threads, at least 1. Of several, each answers
    on a port of its own: worker-1 on --health-port, worker-2 on the next one, and so on.
    The first signal drains: what is held is finished and answered. A second one forces.
    """
    if worker_count != AUTO and (options["min_workers"], options["max_workers"]) != (None, None):
        raise click.UsageError("--min-workers and --max-workers go with --workers auto.")
    settings = settings_from(
        options["config"],
        options["broker"],
        options["store"],
        worker__model=options["model"],
        worker__runtime=options["runtime"],
        worker__serving_url=options["url"],
        worker__threads=options["threads"],
        worker__health_port=options["health_port"],
        worker__health_host=options["health_host"],
        log_format=options["log_format"],
        scaling__min_workers=options["min_workers"],
        scaling__max_workers=options["max_workers"],
    ).settings
    log_to_stderr(verbose=options["verbose"], format=settings.log_format)
    name = options["name"] or f"{socket.gethostname()}-{os.getpid()}"
    if check:
        _check(settings, name)
    elif worker_count == 1:
        _serve(settings, name, peers=options["peers"], supervised=options["supervised"])
    else:
        _supervise(settings, worker_count, verbose=options["verbose"])


def _serve(settings: Settings, name: str, *, peers: int, supervised: bool) -> None:
    started_at = time.perf_counter()
    with (
        _recorded(settings.worker) as recorder,
        opened_worker(settings, name=name, worker_count=peers, recorder=recorder) as (worker, subscription),
    ):

        def drain() -> None:
            recorder.draining()
            subscription.close()

        ready_s = round(time.perf_counter() - started_at, 2)
        said = {"worker": name, "ready_s": ready_s, "broker": without_credentials(settings.broker)}
        _log.info("worker=%s ready_s=%.2f broker=%s", *said.values(), extra={"event": "ready", "fields": said})
        if supervised:
            drain_with_supervisor(drain)
        with drained_by_signals(drain):
            worker.run()
    _log.info("worker=%s drained", name, extra={"event": "drained", "fields": {"worker": name}})


def _recorded(settings: WorkerSettings) -> AbstractContextManager[Recorder]:
    """What hears of the worker's work; without a port nobody does, and nothing is imported for it."""
    if not settings.health_port:
        return nullcontext(NO_RECORDER)
    from ml_server.health import health_recorded

    return health_recorded(settings)


def _supervise(settings: Settings, worker_count: int, *, verbose: bool) -> None:
    read_served(settings)  # one sentence here instead of one from each worker
    fewest, most = worker_count, worker_count
    if worker_count == AUTO:
        rules = scaling_rules(settings)
        fewest, most = rules.min_workers, rules.max_workers
    first_port = settings.worker.health_port
    if first_port + most - 1 > LAST_PORT:
        raise SettingsInvalid(f"{most} workers need the ports from worker.health_port, {first_port}, on; begin lower.")
    supervisor = Supervisor(
        lambda name: worker_command(name, worker_count=most, verbose=verbose, first_port=first_port),
        worker_count=fewest,
        environment=environment_of(settings),
    )
    scaling = running(scaler_of(settings, supervisor)) if worker_count == AUTO else nullcontext()
    with drained_by_signals(supervisor.drain, force=supervisor.kill), scaling:
        code = supervisor.run()
    click.get_current_context().exit(code)


def _check(settings: Settings, name: str) -> None:
    started_at = time.perf_counter()
    with opened_worker(settings, name=name) as (_, subscription):
        subscription.close()
    store = open_store(settings.store)
    read_response(store, "check")  # whether there is one does not matter, only that the store says so
    click.echo(f"The store {store.root} answers.")
    broker = without_credentials(settings.broker)
    click.echo(f"The broker {broker} answers and has the subscription {settings.topology.requests.name}.")
    click.echo(f"The model {settings.worker.model} is warm after {time.perf_counter() - started_at:.2f} s.")


if __name__ == "__main__":
    command(prog_name=Path(__file__).name)
