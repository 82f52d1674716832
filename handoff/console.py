"""What every command line shares: the settings flags, the end of every error, and figures as JSON."""

from __future__ import annotations

import json
import logging
import os
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal, TypeVar

import click

from handoff.contracts.errors import ExitCode, FashionError, MissingPackage, SettingsInvalid
from handoff.draining import ended_by_sigterm
from handoff.log_lines import JsonLines, TextLines
from handoff.settings import ResolvedSettings, load_settings

F = TypeVar("F", bound=Callable[..., Any])


class Command(click.Command):
    """A command whose errors end in one sentence and a named exit code, never in a traceback."""

    def invoke(self, ctx: click.Context) -> Any:  # noqa: ANN401 - click's own signature
        """Run the command."""
        try:
            with ended_by_sigterm():
                return super().invoke(ctx)
        except FashionError as error:
            click.echo(f"Error: {error}", err=True)
            ctx.exit(error.exit_code)
        except ModuleNotFoundError as error:  # one that is only needed for what was asked for just now
            missing = MissingPackage(error.name or "?", needed_for=f"`{ctx.command_path}`")
            click.echo(f"Error: {missing}", err=True)
            ctx.exit(missing.exit_code)
        except OSError as error:
            if error.filename is None:  # a pipe that nobody reads any more is click's
                raise
            refusal = SettingsInvalid(
                f"{os.fsdecode(error.filename)} cannot be used: {error.strerror}; allow it, or name another."
            )
            click.echo(f"Error: {refusal}", err=True)
            ctx.exit(refusal.exit_code)
        except KeyboardInterrupt:
            click.echo("Interrupted.", err=True)
            ctx.exit(ExitCode.INTERRUPTED)


def settings_options(command: F) -> F:
    """Add the flags that choose the deployment; `settings_from` turns them into settings."""
    for option in (
        click.option("--store", metavar="URL", help="Object store: file:PATH or gs://BUCKET/PREFIX."),
        click.option("--broker", metavar="URL", help="Broker: embedded:PATH, pubsub://PROJECT or kafka://HOST:PORT."),
        click.option(
            "--config",
            type=click.Path(dir_okay=False, path_type=Path),
            metavar="FILE",
            help="Settings file [default: config.yaml].",
        ),
    ):
        command = option(command)
    return command


json_option = click.option("--json", "as_json", is_flag=True, help="Print the figures as one JSON object, last line.")


def settings_from(config: Path | None, broker: str | None, store: str | None, **flags: object) -> ResolvedSettings:
    """Resolve settings with the flags on top; `worker__threads=3` stands for the dotted name `worker.threads`.

    Raises: SettingsInvalid
    """
    dotted = {name.replace("__", "."): value for name, value in flags.items()}
    return load_settings(flags={"broker": broker, "store": store, **dotted}, file=config)


def print_json(figures: Mapping[str, object]) -> None:
    """Print one JSON object on a line of its own."""
    click.echo(json.dumps(figures, default=str))


def log_to_stderr(*, verbose: bool, format: Literal["text", "json"] = "text") -> None:
    """Write log lines to standard error: `time level message`, or a JSON object each."""
    lines = logging.StreamHandler()
    lines.setFormatter(JsonLines() if format == "json" else TextLines())
    logging.basicConfig(level=logging.INFO if verbose else logging.WARNING, handlers=[lines])
    # Of what a camera wrote beside a picture, and of sizes that are checked here: with lines of its own source.
    warnings.filterwarnings("ignore", module=r"PIL\.")
