"""Write an artifact's model as a SavedModel for a TensorFlow Serving.

python ml_model_development/code/export_model.py ml_model_development/artifacts/1 models/fashion
"""

from __future__ import annotations

import sys
from pathlib import Path

if __package__ in {None, ""}:  # run as a script: the packages lie beside this folder
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import click

from classifiers.loading import REFERENCE_NAME
from handoff.artifacts import Artifact, read_artifact
from handoff.console import Command
from handoff.contracts.errors import ArtifactInvalid, MissingPackage, SettingsInvalid
from ml_model_development.code.build_model_utils import find_artifact, quiet_import
from ml_model_development.code.serving_versions import LARGEST_VERSION, new_serving_folder, serving_version


@click.command("export", cls=Command)
@click.argument("artifact")
@click.argument("folder", type=click.Path(path_type=Path), metavar="DIR")
@click.option(
    "--version",
    type=click.IntRange(0, LARGEST_VERSION),
    show_default="the artifact's",
    help="That the server knows it by.",
)
def command(artifact: str, folder: Path, version: int | None) -> None:
    """Write a model as a SavedModel, to be served by TensorFlow Serving.

    \b
    ARTIFACT  the folder of a model, or a version in ml_model_development/artifacts
    DIR       where the server looks for versions of the model; DIR/VERSION is made

    A server that runs on DIR serves the new version at once.
    """  # noqa: D301 - click's mark for lines that stay as they are
    found = read_artifact(find_artifact(artifact))
    if REFERENCE_NAME not in found.manifest.files:
        raise ArtifactInvalid(f"{found.path} has no {REFERENCE_NAME} in its manifest; train the model again.")
    number = _choose_version(found) if version is None else version
    new_serving_folder(folder, number)  # said before TensorFlow takes its seconds
    click.echo(f"Exporting {found.path / REFERENCE_NAME} with TensorFlow ...", err=True)
    target = _export(found, folder, number)
    url = "http://127.0.0.1:8501/v1/models/fashion"
    click.echo(f"{target} is ready; it says what {REFERENCE_NAME} says. To serve it, and to classify by it:")
    click.echo(
        "  tensorflow_model_server --rest_api_port=8501 --model_name=fashion"
        f" --model_base_path={target.parent.resolve()}"
    )
    click.echo(f"  fashion worker --model {found.path} --runtime tf-serving --url {url}")


def _choose_version(artifact: Artifact) -> int:
    version = serving_version(artifact.manifest.version)
    if version is None:
        raise SettingsInvalid(
            f"The version of {artifact.path}, {artifact.manifest.version!r}, is no whole number,"
            " as TensorFlow Serving wants one; give it one with --version."
        )
    return version


def _export(artifact: Artifact, folder: Path, version: int) -> Path:
    try:
        with quiet_import():
            from classifiers.keras import load
            from ml_model_development.code.saved_model import export_saved_model
    except ModuleNotFoundError as error:
        raise MissingPackage(error.name or "?", needed_for="exporting a model") from error
    (reference,) = load(artifact.path / REFERENCE_NAME, threads=1)
    return export_saved_model(reference.model, folder, version=version)


if __name__ == "__main__":
    command()
