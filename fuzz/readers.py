"""The readers of strangers' files and messages: each gives what it promises or refuses with its own error."""

from __future__ import annotations

from collections.abc import Callable
from itertools import islice
from pathlib import Path

import numpy as np

from fuzz.cases import Case, Target
from fuzz.served import demand, demand_sentence
from handoff.contracts.envelope import parse_response
from handoff.contracts.errors import (
    ArtifactInvalid,
    DataSetUnavailable,
    FashionError,
    MalformedMessage,
    PayloadCorrupt,
    PayloadTooLarge,
)
from handoff.contracts.idx import decode_idx
from handoff.contracts.manifest import decode_manifest
from handoff.contracts.objects import response_uri
from handoff.contracts.predictions import decode_predictions
from handoff.contracts.protocols import Message
from handoff.contracts.sentences import MAX_SENTENCE_CHARACTERS
from handoff.image_files.arrays import read_npy, read_npz
from handoff.image_files.blocks import open_image_array
from handoff.image_files.kinds import Kind
from handoff.image_files.labels import labels_of, read_labels
from handoff.image_files.pictures import read_picture
from handoff.image_files.pixels import as_images
from handoff.image_files.table import read_rows
from handoff.stores.responses import read_response
from tests.fakes import FakeStore

MAX_IDX_BYTES = 1 << 20
# Files may announce more than they hold; what is looked at of them stays small.
MAX_ELEMENTS = 1 << 22
MAX_BLOCKS = 64


def read_case(case: Case, folder: Path) -> str:
    """Have a case's file read; how that ended.

    Raises: Unexpected; and whatever the reader raises that it does not promise to
    """
    read, allowed = _READERS[case.target]
    try:
        read(case, folder)
    except allowed as error:
        demand_sentence(str(error), most=MAX_SENTENCE_CHARACTERS)
        return f"{case.target} refused"
    return f"{case.target} read"


def _response(case: Case, _: Path) -> None:
    parse_response(Message(body=case.data, attributes=case.attributes))


def _stored_response(case: Case, _: Path) -> None:
    store = FakeStore()
    store.objects[response_uri(store.root, "r-1")] = case.data
    found = read_response(store, "r-1")
    demand(found is not None and found.request_id == "r-1", "a stored response is another request's")


def _predictions(case: Case, _: Path) -> None:
    table = decode_predictions(case.data)
    count, label_count = len(table), len(table.label_names)
    demand(len(table.labels) == count and table.label_ids.shape == (count,), "columns of different lengths")
    demand(table.probabilities.shape == (count, label_count), "another number of probabilities")
    demand(((table.label_ids >= 0) & (table.label_ids < label_count)).all(), "an id that is no label's")
    demand(((table.probabilities >= 0) & (table.probabilities <= 1)).all(), "a value that is no probability")


def _manifest(case: Case, folder: Path) -> None:
    for name in decode_manifest(case.data).files:
        demand((folder / name).resolve().parent == folder.resolve(), f"a file outside the artifact: {name!r}")


def _idx(case: Case, folder: Path) -> None:
    decode_idx(case.data, name="file", max_bytes=MAX_IDX_BYTES)
    _blocks(case, folder, "idx")


def _npy(case: Case, folder: Path) -> None:
    path = _written(case, folder)
    array = read_npy(path)
    if array.size <= MAX_ELEMENTS:
        labels_of(array, name=str(path)) if array.ndim == 1 else as_images(array, name=str(path))
    _blocks(case, folder, "npy")


def _npz(case: Case, folder: Path) -> None:
    found = read_npz(_written(case, folder))
    demand(found.images.dtype.hasobject is False, "objects were unpickled")
    _blocks(case, folder, "npz")


def _csv(case: Case, folder: Path) -> None:
    for rows in islice(read_rows(_written(case, folder)), MAX_BLOCKS):
        demand(rows.pixels.dtype == np.uint8, "pixels that are none")
        demand(rows.labels is None or len(rows.labels) == len(rows.pixels), "columns of different lengths")


def _labels(case: Case, folder: Path) -> None:
    path = _written(case, folder)
    demand(all(isinstance(label, str) for label in read_labels(path)), "a label that is no text")


def _picture(case: Case, folder: Path) -> None:
    for size in (None, (4, 4)):
        pixels = read_picture(_written(case, folder), size=size)
        demand(pixels.dtype == np.uint8 and pixels.shape[2] in {1, 3}, f"pixels of the shape {pixels.shape}")


def _blocks(case: Case, folder: Path, kind: Kind) -> None:
    images = open_image_array(_written(case, folder), kind)
    for block in islice(images.blocks(most=16), MAX_BLOCKS):
        demand(block.dtype == np.uint8 and block.ndim == 4, f"a block of the shape {block.shape}")


def _written(case: Case, folder: Path) -> Path:
    ending = {"csv": "images.csv", "labels": "labels.csv", "picture": "picture.png", "idx": "images.idx"}
    path = folder / ending.get(case.target, f"images.{case.target}")
    path.write_bytes(case.data)
    return path


_Reader = tuple[Callable[[Case, Path], None], tuple[type[FashionError], ...]]
_READERS: dict[Target, _Reader] = {
    "response": (_response, (MalformedMessage,)),
    "stored response": (_stored_response, (PayloadCorrupt, PayloadTooLarge)),
    "predictions": (_predictions, (PayloadCorrupt,)),
    "manifest": (_manifest, (ArtifactInvalid,)),
    "idx": (_idx, (DataSetUnavailable,)),
    "npy": (_npy, (DataSetUnavailable,)),
    "npz": (_npz, (DataSetUnavailable,)),
    "csv": (_csv, (DataSetUnavailable,)),
    "labels": (_labels, (DataSetUnavailable,)),
    "picture": (_picture, (DataSetUnavailable,)),
}
