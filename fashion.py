"""The one command; a subcommand's program is imported when it is asked for."""

from __future__ import annotations

from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from typing import NamedTuple

import click

from handoff.contracts.errors import ExitCode, MissingPackage


def _version() -> str:
    try:
        return version("fashion-analysis")
    except PackageNotFoundError:
        return "of a checkout that is not installed"


class Program(NamedTuple):
    """Where a subcommand lives, and what the overview says of it."""

    module: str
    summary: str
    attribute: str = "command"


PROGRAMS = {
    "demo": Program("fashion_client.demo", "Classify 1,000 sample images with two workers, on this machine."),
    "init": Program("handoff.operations", "Create topics, subscriptions and the store.", "init_command"),
    "worker": Program("ml_server.image_classification_service", "Classify what clients request; start more to scale."),
    "request": Program("fashion_client.make_analysis_requests", "Upload images in batches and publish requests."),
    "classify": Program("fashion_client.classify_images", "Classify any number of images into one CSV file."),
    "watch": Program("fashion_client.watch_folder", "Publish images as they appear in a folder, each of them once."),
    "receive": Program("fashion_client.get_analysis_outputs", "Show responses as they come, and sum up."),
    "convert": Program("fashion_client.convert_images", "Convert images between idx, PNG folders, CSV and npy."),
    "status": Program("handoff.operations", "Show how much waits on each subscription.", "status_command"),
    "dead-letters": Program(
        "handoff.dead_letter_commands", "List, show, replay or drop what could not be served.", "group"
    ),
    "clean": Program("handoff.cleaning", "Remove messages, requests and results over their retention."),
    "config": Program("handoff.operations", "Show every setting and where it comes from.", "config_command"),
    "train": Program("ml_model_development.code.build_model", "Train a model and write its artifact."),
    "export": Program("ml_model_development.code.export_model", "Write a model for TensorFlow Serving to serve."),
    "evaluate": Program("ml_model_development.code.evaluate_model", "Evaluate a model on labelled images."),
}


class Overview(click.Group):
    """A group that lists its programs without importing them."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Name the subcommands, in the order a newcomer meets them."""
        del ctx
        return list(PROGRAMS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import a subcommand's program."""
        if cmd_name not in PROGRAMS:
            return None
        program = PROGRAMS[cmd_name]
        try:
            module = import_module(program.module)
        except ModuleNotFoundError as error:
            missing = MissingPackage(error.name or "?", needed_for=f"`fashion {cmd_name}`")
            click.echo(f"Error: {missing}", err=True)
            ctx.exit(ExitCode.MISSING_PACKAGE)
        command: click.Command = getattr(module, program.attribute)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the overview from the table, so that `--help` stays instant."""
        del ctx
        with formatter.section("Commands"):
            formatter.write_dl([(name, program.summary) for name, program in PROGRAMS.items()])


@click.group(cls=Overview, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(_version(), prog_name="fashion")
def main() -> None:
    """Classify images asynchronously: clients publish batches, any number of workers answer.

    \b
    Try it:          fashion demo
    On one machine:  fashion worker        in one console,
                     fashion receive       in a second,
                     fashion request       in a third
    In production:   --broker pubsub://PROJECT --store gs://BUCKET/PREFIX   (after `fashion init`),
                     or kafka://HOST:9092

    Every setting is a flag, a FASHION_* variable or a line of config.yaml: see `fashion config`.
    """  # noqa: D301 - click's mark for lines that stay as they are


if __name__ == "__main__":
    main()
