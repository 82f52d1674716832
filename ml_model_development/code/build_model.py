"""Train a model, evaluate it, and write the artifact that the ML service serves.

python ml_model_development/code/build_model.py --preset quick
python ml_model_development/code/build_model.py --images photos/
"""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import TypedDict, Unpack

if __package__ in {None, ""}:  # run as a script: the packages lie beside this folder
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import click

from handoff.artifacts import Artifact
from handoff.console import Command, json_option, print_json
from handoff.contracts.errors import MissingPackage
from ml_model_development.code.build_model_utils import DATA_OPTION, REPOSITORY, new_version_folder, quiet_import
from ml_model_development.code.data_options import ChosenData, DataOptions, data_options, data_set_from
from ml_model_development.code.recipe import PRESETS, Recipe

FASHION_NAME = "fashion-mnist-cnn"
OTHER_NAME = "image-classifier"


class Choices(TypedDict):
    """How to train, as said at the command line."""

    preset: str
    start: Path | None
    mirror: bool | None
    name: str | None
    seed: int
    epochs: int | None


@click.command("train", cls=Command)
@click.option("--preset", type=click.Choice(list(PRESETS)), default="quick", show_default=True, help="How to train.")
@DATA_OPTION
@data_options
@click.option(
    "--from",
    "start",
    type=click.Path(file_okay=False, path_type=Path),
    metavar="ARTIFACT",
    help="Go on from this model; other labels get a new last layer.",
)
@click.option(
    "--mirror/--no-mirror",
    default=None,
    help="Whether a mirrored image keeps its label, as clothes do and digits do not. [default: only Fashion-MNIST's]",
)
@click.option(
    "--output",
    type=click.Path(file_okay=False, path_type=Path),
    default=REPOSITORY / "ml_model_development" / "artifacts",
    show_default="ml_model_development/artifacts",
    help="Folder of artifacts; the next free version number is made in it.",
)
@click.option("--name", help=f"Of the model. [default: {FASHION_NAME}, or {OTHER_NAME} for other images]")
@click.option(
    "--seed", type=click.IntRange(min=0, max=2**31 - 1), default=1, show_default=True, help="Of every choice."
)
@click.option("--epochs", type=click.IntRange(min=1), help="Instead of the preset's; no more for small data sets.")
@json_option
def command(*, data: Path | None, images: DataOptions, output: Path, as_json: bool, **choices: Unpack[Choices]) -> None:
    """Train a model on Fashion-MNIST, or on images of your own, and write it as a new version, ready to serve."""
    chosen = data_set_from(images, data=data, seed=choices["seed"])
    for note in (f"Images from {chosen.data_set.source}", *chosen.notes):
        click.echo(note, err=True)
    with new_version_folder(output) as folder:
        artifact = _build(folder, chosen, fashion=images.images is None, choices=choices)
    count = len(chosen.data_set.test)
    click.echo(f"{artifact.manifest.accuracy:.2%} of {count:,} test images classified correctly; {folder} is ready")
    if as_json:
        print_json(json.loads((folder / "metrics.json").read_text(encoding="utf-8")))


def _build(folder: Path, chosen: ChosenData, *, fashion: bool, choices: Choices) -> Artifact:
    try:
        with quiet_import():
            from ml_model_development.code.image_classifier import ImageClassifier
    except ModuleNotFoundError as error:
        raise MissingPackage(error.name or "?", needed_for="training") from error
    preset, mirror = choices["preset"], choices["mirror"]
    recipe = adapt(PRESETS[preset], mirror=fashion if mirror is None else mirror, epochs=choices["epochs"])
    if choices["start"]:
        classifier = ImageClassifier.load(choices["start"], preset=preset, recipe=recipe, seed=choices["seed"])
    else:
        classifier = ImageClassifier(preset, recipe=recipe, seed=choices["seed"])
    data_set = chosen.data_set
    classifier.train_split(data_set.train, data_set.labels)
    test = classifier.in_order(data_set.test, data_set.labels)
    name = choices["name"] or (FASHION_NAME if fashion else OTHER_NAME)
    return classifier.save_split(folder, test=test, name=name, notes=chosen.notes)


def adapt(recipe: Recipe, *, mirror: bool, epochs: int | None) -> Recipe:
    """A preset as asked for; `epochs` that somebody states are the epochs."""
    recipe = replace(recipe, mirror=mirror)
    return recipe if epochs is None else replace(recipe, epochs=epochs, least_steps=1)


if __name__ == "__main__":
    command()
