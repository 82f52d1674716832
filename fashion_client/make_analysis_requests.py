"""Console that uploads batches of images and publishes a request for each (`fashion request`)."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, TypeVar, get_args

if __package__ in {None, ""}:  # run as a script: the packages lie beside this folder
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import click
import msgspec
from click.core import ParameterSource

from fashion_client.client import Client, Receive
from fashion_client.journal import Journal
from fashion_client.journals import begin_journal, resume_journal
from fashion_client.request_plan import Plan, Run, deployment_of
from fashion_client.sending import Sending
from fashion_client.summary import line_of
from fashion_client.waiting import Answers, Patience, Waiting
from handoff.console import Command, json_option, log_to_stderr, print_json, settings_from, settings_options
from handoff.contracts.errors import ExitCode, FashionError, ResponseTimeout, SettingsInvalid
from handoff.contracts.messages import AnalysisResponse, PayloadFormat
from handoff.image_files.options import Size
from handoff.progress import Progress
from handoff.settings import Settings

FORMATS = get_args(PayloadFormat)

FIGURES = ("requests", "images", "seconds", "published", "answered", "failed", "missing")

NOTHING_TO_RESUME = "Every request is published and answered: there is nothing to resume."

T = TypeVar("T")


@click.command("request", cls=Command)
@click.argument("images", type=click.Path(path_type=Path), required=False)
@settings_options
@click.option("--labels", type=click.Path(path_type=Path), help="True labels of idx, npy or npz images.")
@click.option("--size", type=Size(), metavar="HxW", help="Resize every image [default: all must be of one size].")
@click.option("--channels", type=click.Choice(["1", "3"]), help="Make all pictures gray or RGB [default: as they are].")
@click.option("--batch-size", type=click.IntRange(1), help="Images a request [default: 100].")
@click.option("--format", "payload_format", type=click.Choice(FORMATS), help="How batches are stored [default: csv].")
@click.option("--count", type=click.IntRange(1), help="Stop after this many requests.")
@click.option("--repeat", type=click.IntRange(1), default=1, show_default=True, help="Send all images this many times.")
@click.option("--rate", type=click.FloatRange(0, min_open=True), help="Requests a second at most.")
@click.option("--model", help="Ask for this model, NAME or NAME:VERSION.")
@click.option("--wait", is_flag=True, help="Stay until every request is answered, and show the responses.")
@click.option(
    "--timeout", type=click.FloatRange(0, min_open=True), help="With --wait: ask again after so long [default: 60 s]."
)
@click.option(
    "--journal",
    "journal_path",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Write down here what is sent and answered [default: a new file in var/journals].",
)
@click.option("--resume", is_flag=True, help="Go on with an interrupted run: the --journal named, else the newest.")
@json_option
def command(**options: Any) -> None:  # noqa: ANN401 - click passes them so
    """Upload IMAGES in batches and publish a request for each.

    IMAGES is an idx file (.gz or not), a CSV file with pixel columns, a .npy or .npz file, or a folder of PNG or JPEG
    files, one sub-folder a label where labels are known. Without IMAGES the 1,000 sample images are sent.

    A run that was interrupted goes on with --resume, which takes the images and options from the journal. With --wait
    it exits 1 when any prediction failed, and 8 when any response is missing.
    """
    log_to_stderr(verbose=False)
    settings = settings_from(
        options["config"],
        options["broker"],
        options["store"],
        client__batch_size=options["batch_size"],
        client__format=options["payload_format"],
        client__timeout_s=options["timeout"],
    ).settings
    journal = _journal(settings, options)
    if journal is None:
        click.echo(NOTHING_TO_RESUME)
        if options["as_json"]:
            print_json(dict.fromkeys(FIGURES, 0) | {"resumed": True, "journal": None})
        return
    with journal:
        missing = _run_or_say_how_to_go_on(journal, settings, options)
    if missing:
        raise ResponseTimeout(
            f"{missing} of {journal.request_count} requests have no response, asked for up to"
            f" {settings.client.max_publications} times each; is a worker running (`fashion worker`)?"
            f" `{_again(journal, options)} --wait` asks again."
        )
    failed = options["wait"] and journal.failed_count
    click.get_current_context().exit(ExitCode.PREDICTIONS_FAILED if failed else ExitCode.OK)


def _journal(settings: Settings, options: dict[str, Any]) -> Journal | None:
    if options["labels"] and not options["images"]:
        raise click.UsageError("--labels belongs to IMAGES: name both.")
    if options["timeout"] and not options["wait"]:
        raise click.UsageError("--timeout belongs to --wait: give both.")
    plan = Plan(
        images=_absolute(options["images"]),
        labels=_absolute(options["labels"]),
        size=options["size"],
        channels=int(options["channels"]) if options["channels"] else None,
        batch_size=settings.client.batch_size,
        format=settings.client.format,
        repeat=options["repeat"],
        count=options["count"],
        model=options["model"],
    )
    folder, deployment = Path(settings.client.journals), deployment_of(settings)
    if not options["resume"]:
        run = Run(plan=plan, deployment=deployment)
        return begin_journal(options["journal_path"], folder=folder, run=run)
    journal = resume_journal(options["journal_path"], folder=folder, deployment=deployment)
    if journal is not None:
        _refuse_another(plan, journal)
    return journal


def _refuse_another(plan: Plan, journal: Journal) -> None:
    """Refuse arguments beside --resume that are not the run's own; it needs none."""
    ctx = click.get_current_context()
    names = {"payload_format": "format"}
    given = [name for name in ctx.params if ctx.get_parameter_source(name) is ParameterSource.COMMANDLINE]
    told, now = (msgspec.structs.asdict(each) for each in (journal.run.plan, plan))
    fields = [names.get(name, name) for name in given if names.get(name, name) in told]
    odd = [name for name in fields if told[name] != now[name]]
    if odd:
        journal.close()
        raise SettingsInvalid(
            f"The run in {journal.path} was begun with other {', '.join(odd)}; leave the arguments out to go on with"
            " it, or leave out --resume to begin another."
        )


def _run_or_say_how_to_go_on(journal: Journal, settings: Settings, options: dict[str, Any]) -> int:
    try:
        return _run(journal, settings, options)
    except KeyboardInterrupt:
        go_on = f"`{_again(journal, options)}` goes on from there" if journal.request_count else "nothing was sent"
        click.echo(f"Interrupted; {go_on}.", err=True)
        click.get_current_context().exit(ExitCode.INTERRUPTED)
    except FashionError:
        if journal.request_count:
            click.echo(f"`{_again(journal, options)}` goes on from there.", err=True)
        raise
    finally:
        if not (journal.request_count or options["resume"]):
            journal.discard()


def _again(journal: Journal, options: dict[str, Any]) -> str:
    """The command that goes on with a run."""
    return "fashion request --resume" + (f" --journal {journal.path}" if options["journal_path"] else "")


def _run(journal: Journal, settings: Settings, options: dict[str, Any]) -> int:
    """Send what is not sent, and with --wait stay until all is answered; how many responses are missing."""
    started_at, is_waiting, missing = time.perf_counter(), options["wait"], 0
    progress = Progress(
        "answered" if is_waiting else "requests",
        total=journal.run.plan.request_count(),
        unit="requests",
        done=journal.answered_count if is_waiting else journal.published_before,
    )

    def show(response: AnalysisResponse, latency_ms: float | None) -> None:
        progress.write(line_of(response, latency_ms))
        progress.advance(1 if is_waiting else 0)

    answers = Answers(journal, show=show)
    if journal.is_finished:
        click.echo(NOTHING_TO_RESUME)
    else:
        with _client(journal, settings, receive="stream" if is_waiting else "nothing") as client, progress:
            patience = Patience(settings.client.timeout_s, settings.client.max_publications)
            with Waiting(client, journal, answers=answers, patience=patience) as waiting:
                if is_waiting:
                    waiting.listen()
                waiting.ask_for_all()
                for position in _sent(client, journal, options["rate"]):
                    if is_waiting:
                        waiting.expect(position)
                        waiting.look_after()
                    else:
                        progress.advance(1)
                missing = waiting.finish() if is_waiting else 0
    _report(journal, answers, options, missing=missing, seconds=time.perf_counter() - started_at)
    return missing


def _client(journal: Journal, settings: Settings, *, receive: Receive) -> Client:
    # A resumed run's client is the same again: responses under way find it.
    return Client.open(
        settings.broker,
        settings.store,
        topology=settings.topology,
        client_id=journal.run.client_id,
        receive=receive,
        telemetry_endpoint=settings.telemetry.endpoint,
    )


def _sent(client: Client, journal: Journal, rate: float | None) -> Iterator[int]:
    """Send what is not sent; the positions, in their order."""
    if journal.is_sent:
        return iter(())
    sending = Sending(client, journal)
    return sending.send(paced(sending.unsent(journal.run.plan.batches()), rate))


def _report(journal: Journal, answers: Answers, options: dict[str, Any], *, missing: int, seconds: float) -> None:
    if answers.summary.response_count:
        click.echo(answers.summary.text())
    done = "Requested" if options["resume"] else "Published"
    click.echo(f"{done} {journal.request_count} requests with {journal.image_count} images in {seconds:.1f} s.")
    if options["as_json"]:
        figures = (
            journal.request_count,
            journal.image_count,
            round(seconds, 3),
            journal.publications_made,
            journal.answered_count,
            journal.failed_count,
            missing,
        )
        named = dict(zip(FIGURES, figures, strict=True))
        print_json(named | {"resumed": options["resume"], "journal": str(journal.path)})


def paced(every: Iterable[T], rate: float | None) -> Iterator[T]:
    """Yield at most `rate` batches a second, evenly; at once where there is no rate."""
    due_at = time.monotonic()
    for batch in every:
        if rate is not None:
            time.sleep(max(0.0, due_at - time.monotonic()))
            due_at += 1 / rate
        yield batch


def _absolute(path: Path | None) -> str | None:
    return None if path is None else str(path.absolute())


if __name__ == "__main__":
    command(prog_name=Path(__file__).name)
