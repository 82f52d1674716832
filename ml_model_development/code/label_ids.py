"""Labels as people write them, and the numbers that a model gives them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from handoff.contracts.errors import DataSetUnavailable
from handoff.contracts.images import excerpt

_INTEGER = re.compile(r"-?[0-9]{1,18}", re.ASCII)


def parse_label_names(text: str) -> tuple[str, ...]:
    """Read names by id: one a line, or on a single line with commas between them.

    Raises: DataSetUnavailable: a name that is empty or stands twice, or fewer than two
    """
    lines = text.strip("\n").splitlines()
    names = tuple(name.strip() for name in (lines if len(lines) > 1 else text.split(",")))
    if len(names) < 2 or "" in names or len(set(names)) < len(names):  # noqa: PLR2004 - a choice needs two
        raise DataSetUnavailable(
            f"The label names {excerpt(text)} must be two or more, none empty and none twice;"
            " write one a line, or commas between them."
        )
    return names


def read_label_names(file_or_names: str) -> tuple[str, ...]:
    """Read names by id from a text file, or from the text itself where it names no file.

    Raises: DataSetUnavailable: see `parse_label_names`, or the file cannot be read
    """
    path = Path(file_or_names)
    if "," in file_or_names and not path.is_file():
        return parse_label_names(file_or_names)
    try:
        return parse_label_names(path.read_text(encoding="utf-8-sig"))
    except (OSError, UnicodeDecodeError) as error:
        raise DataSetUnavailable(
            f"{path} is no text file of label names ({error}); write one name a line, or a,b,c instead of the file."
        ) from error


def number_labels(
    found: Sequence[str],
    *,
    label_names: Sequence[str] | None = None,
    known_labels: Sequence[str] | None = None,
    source: str,
) -> tuple[NDArray[np.int64], tuple[str, ...]]:
    """Give each label its id, and each id its label.

    Where all labels are integers, `label_names` names them by id; labels that are names must stand among them.
    `known_labels`, those of a model or of a training set, fix the ids: labels are looked up among them by name, or,
    where they are integers and the known ones are not, by id. With neither, integers are sorted as numbers, other
    labels as text, and each is named as it is written.

    Shapes: found N -> int64 (N,)
    Raises: DataSetUnavailable: an empty label, or one that is not known
    """
    distinct = set(found)
    _check_texts(found, distinct, source)
    names = tuple(known_labels or label_names or _sort(distinct))
    by_name = {name: place for place, name in enumerate(names)}
    if len(by_name) < len(names) or "" in by_name:
        raise DataSetUnavailable(f"The label names of {source} must differ, and none may be empty.")
    places = by_name
    if _are_integers(distinct) and _counts_by_id(distinct, label_names, known_labels):
        numbered = tuple(label_names or names)
        places = {
            label: by_name[numbered[int(label)]]
            for label in distinct
            if 0 <= int(label) < len(numbered) and numbered[int(label)] in by_name
        }
    if unknown := sorted(distinct - places.keys()):
        raise DataSetUnavailable(_say_unknown(unknown, names, source))
    return np.array([places[label] for label in found], np.int64), names


def _counts_by_id(distinct: set[str], label_names: Sequence[str] | None, known_labels: Sequence[str] | None) -> bool:
    """Whether integers are ids: wherever names were given for them, else where they can be no names themselves."""
    if label_names is not None:
        return True
    return known_labels is not None and not distinct <= set(known_labels) and not _are_integers(set(known_labels))


def _check_texts(found: Sequence[str], distinct: set[str], source: str) -> None:
    if "" in distinct:
        raise DataSetUnavailable(f"{source}: image {found.index('') + 1} (1 is the first) has no label.")
    for label in distinct:
        try:
            label.encode()
        except UnicodeEncodeError as error:
            raise DataSetUnavailable(f"{source}: the label {excerpt(label)} is no UTF-8 text; rename it.") from error


def _sort(labels: set[str]) -> list[str]:
    if _are_integers(labels):
        return sorted(labels, key=lambda label: (int(label), label))
    return sorted(labels)


def _are_integers(labels: set[str]) -> bool:
    return all(_INTEGER.fullmatch(label) for label in labels)


def _say_unknown(unknown: list[str], names: Sequence[str], source: str) -> str:
    more = f" and {len(unknown) - 1} more" if len(unknown) > 1 else ""
    listed = ", ".join(names[:12]) + (", …" if len(names) > 12 else "")  # noqa: PLR2004 - what fits a line
    return f"{source} has the label {excerpt(unknown[0])}{more}, which is none of the {len(names)} known ({listed})."
