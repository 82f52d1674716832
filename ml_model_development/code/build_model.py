"""Train the model, evaluate it, and write the artifact that the ML service serves.

python ml_model_development/code/build_model.py --preset quick
"""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

if __package__ in {None, ""}:  # run as a script: the packages lie beside this folder
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import click

from handoff.console import Command, json_option, print_json
from handoff.contracts.errors import MissingPackage
from ml_model_development.code.build_model_utils import (
    DATA_OPTION,
    REPOSITORY,
    load_data_set,
    new_version_folder,
    quiet_import,
)
from ml_model_development.code.recipe import PRESETS


@click.command("train", cls=Command)
@click.option("--preset", type=click.Choice(list(PRESETS)), default="quick", show_default=True, help="How to train.")
@DATA_OPTION
@click.option(
    "--output",
    type=click.Path(file_okay=False, path_type=Path),
    default=REPOSITORY / "ml_model_development" / "artifacts",
    show_default="ml_model_development/artifacts",
    help="Folder of artifacts; the next free version number is made in it.",
)
@click.option(
    "--seed", type=click.IntRange(min=0, max=2**31 - 1), default=1, show_default=True, help="Of every choice."
)
@click.option("--epochs", type=click.IntRange(min=1), help="Instead of the preset's.")
@json_option
def command(*, preset: str, data: Path | None, output: Path, seed: int, epochs: int | None, as_json: bool) -> None:
    """Train a model on Fashion-MNIST and write it as a new version, ready to serve."""
    recipe = PRESETS[preset] if epochs is None else replace(PRESETS[preset], epochs=epochs)
    data_set = load_data_set(data)
    click.echo(f"Fashion-MNIST from {data_set.source}", err=True)
    try:
        with quiet_import():
            from ml_model_development.code.building import build_artifact
    except ModuleNotFoundError as error:
        raise MissingPackage(error.name or "?", needed_for="training") from error
    with new_version_folder(output) as folder:
        built = build_artifact(folder, data_set, recipe, preset=preset, seed=seed)
    click.echo(f"{built.accuracy:.2%} of {len(data_set.test):,} test images classified correctly; {folder} is ready")
    if as_json:
        print_json(built.figures)


if __name__ == "__main__":
    command()
