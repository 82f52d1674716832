"""Write the sample that ships with the client: the first images of the test split, so that the demo needs no data set.

python ml_model_development/code/make_sample.py --data DIR
"""

from __future__ import annotations

import sys
from pathlib import Path

if __package__ in {None, ""}:  # run as a script: the packages lie beside this folder
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import click
import numpy as np

from handoff.console import Command
from handoff.contracts.idx import encode_idx
from ml_model_development.code.build_model_utils import DATA_OPTION, REPOSITORY, load_data_set

SAMPLE_COUNT = 1_000


@click.command("make-sample", cls=Command)
@DATA_OPTION
@click.option(
    "--output",
    type=click.Path(file_okay=False, path_type=Path),
    default=REPOSITORY / "fashion_client" / "sample",
    help="Folder to write to.",
)
def command(data: Path | None, output: Path) -> None:
    """Write the first 1,000 test images and their labels."""
    test = load_data_set(data).test
    output.mkdir(parents=True, exist_ok=True)
    (output / "images.idx3-ubyte.gz").write_bytes(encode_idx(test.images[:SAMPLE_COUNT, ..., 0]))
    (output / "labels.idx1-ubyte.gz").write_bytes(encode_idx(test.labels[:SAMPLE_COUNT].astype(np.uint8)))
    click.echo(f"Wrote {SAMPLE_COUNT} images to {output}.")


if __name__ == "__main__":
    command()
