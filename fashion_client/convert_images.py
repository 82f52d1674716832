"""Console that converts images between idx, PNG folders, CSV and npy (`fashion convert`)."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any

if __package__ in {None, ""}:  # run as a script: the packages lie beside this folder
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import click

from fashion_client.conversion import FORMATS, Converted, Target, convert, format_of
from fashion_client.converted_images import ImageSource
from fashion_client.image_blocks import Reading
from handoff.console import Command, json_option, log_to_stderr, print_json
from handoff.image_files.options import Shape, Size
from handoff.progress import Progress

FILE = click.Path(dir_okay=False, path_type=Path)


@click.command("convert", cls=Command)
@click.argument("source", metavar="INPUT", type=click.Path(path_type=Path))
@click.argument("output", metavar="OUTPUT")
@click.option("--to", "format", type=click.Choice(FORMATS), help="Format of OUTPUT [default: as its name says].")
@click.option("--start", type=int, help="Position of the first image, from 0; negative: from the end [default: 0].")
@click.option(
    "--end", type=int, help="Position of the first image that is left out, as in a Python slice [default: none is]."
)
@click.option("--labels", type=FILE, help="Labels of idx, npy or npz images.")
@click.option("--labels-output", type=FILE, help="Write the labels here: idx, .npy, .csv or .txt.")
@click.option("--size", type=Size(), metavar="HxW", help="Resize every image.")
@click.option("--channels", type=click.Choice(["1", "3"]), help="Make all pictures gray or RGB [default: as they are].")
@click.option("--shape", type=Shape(), metavar="HxW[xC]", help="Shape of the images of a CSV file [default: square].")
@click.option("--overwrite", is_flag=True, help="Replace files that are there; a folder is never replaced.")
@json_option
def command(source: Path, output: str, **options: Any) -> None:  # noqa: ANN401 - click passes them so
    """Convert the images of INPUT into OUTPUT: idx, a folder of PNG files, the batch CSV, or npy.

    INPUT is whatever `fashion request` takes. OUTPUT's name says the format: .csv, .csv.gz, .npy, idx3-ubyte or
    idx3-ubyte.gz, or a folder. Labels go into a CSV column, a sub-folder a label, or the file of labels beside an idx
    file. OUTPUT appears when it is whole.
    """
    log_to_stderr(verbose=False)
    channels = int(options["channels"]) if options["channels"] else None
    images = ImageSource(
        source,
        options["labels"],
        Reading(options["size"], channels, options["shape"]),
        options["start"],
        options["end"],
    )
    target = Target(
        Path(output), options["format"] or format_of(output), options["labels_output"], options["overwrite"]
    )
    started_at = time.perf_counter()
    with Progress("converted", total=images.count, unit="images") as progress:
        done = convert(images, target, progress=progress)
    _report(done, target, seconds=time.perf_counter() - started_at, as_json=options["as_json"])


def _report(done: Converted, target: Target, *, seconds: float, as_json: bool) -> None:
    beside = f", labels in {done.labels}" if done.labels else ""
    click.echo(f"{done.image_count:,} images in {target.path}{beside}; {seconds:.1f} s")
    for note in done.notes:
        click.echo(note)
    if as_json:
        print_json(
            {
                "images": done.image_count,
                "seconds": round(seconds, 3),
                "output": str(target.path),
                "format": target.format,
                "labels_output": str(done.labels) if done.labels else None,
                "notes": done.notes,
            }
        )


if __name__ == "__main__":
    command(prog_name=Path(__file__).name)
