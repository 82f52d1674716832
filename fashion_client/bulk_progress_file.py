"""How far a bulk classification has come, in a small file beside its output."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Literal

import msgspec
from msgspec import Meta, Struct

from handoff.contracts.errors import SettingsInvalid
from handoff.durability import flush_folder

Count = Annotated[int, Meta(ge=0)]


class JobProgress(Struct, frozen=True, kw_only=True):
    """What is complete: everything that a second start needs to go on as if there had been one."""

    version: Literal[1] = 1
    inputs: str
    """Digest of every input's address, size and time of change."""
    options: str
    """Digest of the options that shape the answer or the batches."""
    run: Annotated[str, Meta(pattern=r"\A[0-9a-f]{16}\Z")]
    """Drawn when the job was begun; with a batch's number it is the id of its request."""
    next_input: Count = 0
    next_position: Count = 0
    """Where the first image lies that is in no complete batch."""
    batches: Count = 0
    deleted_batches: Count = 0
    """Batches whose objects are known to be gone from the store."""
    images: Count = 0
    output_bytes: Count = 0
    failed_bytes: Count = 0
    """Length of the list of failed batches."""
    failed_batches: Count = 0
    failed_images: Count = 0
    labels: dict[str, int] = {}
    models: dict[str, int] = {}
    """Images by the model that answered, as NAME:VERSION."""

    def request_id(self, batch: int) -> str:
        """The id under which a batch is requested, however often."""
        return f"bulk-{self.run}-{batch}"


_decoder = msgspec.json.Decoder(JobProgress)


def progress_path(output: Path) -> Path:
    """Where the progress of an output lies."""
    return output.with_name(f"{output.name}.progress")


def read_progress(output: Path) -> JobProgress | None:
    """Read how far an output has come; None where no job is under way.

    Raises: SettingsInvalid: the file cannot be read
    """
    path = progress_path(output)
    try:
        return _decoder.decode(path.read_bytes())
    except FileNotFoundError:
        return None
    except (OSError, msgspec.MsgspecError) as error:
        raise SettingsInvalid(f"{path} cannot be read ({error}); --overwrite begins {output} anew.") from error


def write_progress(output: Path, progress: JobProgress) -> None:
    """Replace the file, whole or not at all; on the disk when this returns.

    Raises: SettingsInvalid: it cannot be written
    """
    path = progress_path(output)
    unfinished = path.with_name(f"{path.name}.partial")
    try:
        with unfinished.open("wb") as file:
            file.write(msgspec.json.format(msgspec.json.encode(progress), indent=2) + b"\n")
            file.flush()
            os.fsync(file.fileno())
        unfinished.replace(path)
        flush_folder(path.parent)
    except OSError as error:
        raise SettingsInvalid(f"{path} cannot be written: {error.strerror}.") from error


def remove_progress(output: Path) -> None:
    """Forget a job: it is done, or is begun anew."""
    progress_path(output).unlink(missing_ok=True)
