"""The options that name labelled images, and the data set that they name."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import click

from handoff.contracts.images import ImageShape
from handoff.image_files.arrays import holds_both_parts
from handoff.image_files.kinds import kind_of
from handoff.image_files.options import Shape, Size
from ml_model_development.code.balance import describe_balance
from ml_model_development.code.build_model_utils import load_data_set
from ml_model_development.code.data_set import DataSet
from ml_model_development.code.division import divide
from ml_model_development.code.label_ids import read_label_names
from ml_model_development.code.labelled_images import LabelledImages, Part, fit_to, read_labelled

# Unreadable pictures named one by one; the rest are counted.
_SHOWN = 10

_PATH = click.Path(path_type=Path)
_READING_OPTIONS = (
    click.option(
        "--label-names", metavar="FILE|A,B,…", help="Names of integer labels, by id: one a line, or with commas."
    ),
    click.option("--label-column", default="label", show_default=True, help="Column of a CSV file with the labels."),
    click.option(
        "--size", type=Size(), metavar="HxW", help="Resize every image [default: pictures must be of one size]."
    ),
    click.option(
        "--max-unreadable",
        type=click.FloatRange(0, 1),
        default=0.01,
        show_default=True,
        help="Share of a folder's pictures that may be unreadable; they are listed and left out.",
    ),
)
_OPTIONS = (
    click.option("--images", type=_PATH, help="Images to train on: idx, CSV, npy, npz, or a folder of PNG or JPEG."),
    click.option("--labels", type=_PATH, help="Their labels, where they lie elsewhere: idx, npy, CSV or text."),
    click.option("--test-images", type=_PATH, help="Images to test with [default: a share of --images]."),
    click.option("--test-labels", type=_PATH, help="Their labels, where they lie elsewhere."),
    *_READING_OPTIONS,
    click.option(
        "--shape", type=Shape(), metavar="HxW[xC]", help="Of images in flat rows [default: square, gray or RGB]."
    ),
    click.option(
        "--test-share",
        type=click.FloatRange(0, 1, min_open=True, max_open=True),
        default=0.2,
        show_default=True,
        help="Share of each label's images to test with, where no test images are named.",
    ),
)


@dataclass(frozen=True, kw_only=True)
class DataOptions:
    """What was said of labelled images at the command line."""

    images: Path | None = None
    labels: Path | None = None
    test_images: Path | None = None
    test_labels: Path | None = None
    label_names: tuple[str, ...] | None = None
    label_column: str = "label"
    shape: ImageShape | None = None
    size: tuple[int, int] | None = None
    test_share: float = 0.2
    max_unreadable: float = 0.01


@dataclass(frozen=True)
class ChosenData:
    """A data set with what its users should know of it, a sentence each."""

    data_set: DataSet
    notes: tuple[str, ...] = ()


def data_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options that name labelled images; the command receives them as `images: DataOptions`."""

    @functools.wraps(command)
    def packed(**given: Any) -> Any:  # noqa: ANN401 - click's
        said: dict[str, Any] = {field.name: given.pop(field.name) for field in fields(DataOptions)}
        if said["label_names"] is not None:
            said["label_names"] = read_label_names(said["label_names"])
        return command(images=DataOptions(**said), **given)

    return _add(packed, _OPTIONS)


def reading_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add those of them that say how labelled images are read, one parameter an option."""
    return _add(command, _READING_OPTIONS)


def _add(command: Callable[..., Any], options: Sequence[Callable[..., Any]]) -> Callable[..., Any]:
    for option in reversed(options):
        command = option(command)
    return command


def data_set_from(options: DataOptions, *, data: Path | None = None, seed: int = 1) -> ChosenData:
    """Read the data set that the options name; Fashion-MNIST (from the folder `data`) where they name none.

    Test images are those named, else those that an npz file brings beside its training images, else a share divided off
    by `seed`.

    Raises: DataSetUnavailable
    """
    _check_company(options)
    if options.images is None:
        return ChosenData(load_data_set(data))
    train = _read(options, options.images, options.labels, part="train")
    if options.test_images is not None:
        test = _read(options, options.test_images, options.test_labels, part="test", train=train)
    elif options.labels is None and kind_of(options.images) == "npz" and holds_both_parts(options.images):
        test = _read(options, options.images, None, part="test", train=train)
    else:
        divided = divide(train, test_share=options.test_share, seed=seed)
        said = f"No test images are named: {len(divided.test):,} of {len(train.split):,} images were set aside as such."
        return ChosenData(divided, (*_describe(train, divided), said))
    data_set = DataSet(train.split, test.split, train.source, train.labels)
    return ChosenData(data_set, (*_describe(train, data_set), *_list_unreadable(test)))


def read_for(
    manifest_labels: Sequence[str],
    input_shape: ImageShape,
    images: Path,
    labels: Path | None = None,
    *,
    label_names: Sequence[str] | None = None,
    label_column: str = "label",
    size: tuple[int, int] | None = None,
    max_unreadable: float = 0.01,
) -> LabelledImages:
    """Read images for a model that takes `input_shape` and knows `manifest_labels`; of an npz file with two parts, the
    test images.

    Flat rows have the model's shape; gray images become RGB for a model that takes RGB.

    Raises: DataSetUnavailable: their shape or labels do not fit the model
    """
    found = read_labelled(
        images,
        labels,
        known_labels=manifest_labels,
        part="test",
        label_names=label_names,
        label_column=label_column,
        shape=input_shape if size is None and kind_of(images) == "csv" else None,
        size=size,
        max_unreadable=max_unreadable,
    )
    return fit_to(input_shape, found, wanted_by="the model takes")


def _check_company(options: DataOptions) -> None:
    needs: Mapping[str, tuple[object, object]] = {
        "--labels belongs to --images": (options.labels, options.images),
        "--test-images belongs to --images": (options.test_images, options.images),
        "--test-labels belongs to --test-images": (options.test_labels, options.test_images),
    }
    for sentence, (given, needed) in needs.items():
        if given is not None and needed is None:
            raise click.UsageError(f"{sentence}: name both.")


def _read(
    options: DataOptions, images: Path, labels: Path | None, *, part: Part, train: LabelledImages | None = None
) -> LabelledImages:
    found = read_labelled(
        images,
        labels,
        known_labels=train.labels if train else None,
        part=part,
        label_names=options.label_names,
        label_column=options.label_column,
        shape=options.shape,
        size=options.size,
        max_unreadable=options.max_unreadable,
    )
    return fit_to(train.shape, found, wanted_by="those to train on are") if train else found


def _describe(train: LabelledImages, data_set: DataSet) -> Iterator[str]:
    balance = describe_balance(data_set.train.labels, data_set.labels)
    shape = "x".join(map(str, train.shape))
    yield (
        f"{len(data_set.train):,} images of {shape} to train on and {len(data_set.test):,} to test with, of"
        f" {len(data_set.labels)} labels, the commonest {balance.ratio:.1f} times as frequent as the rarest."
    )
    if balance.warning:
        yield balance.warning
    yield from _list_unreadable(train)


def _list_unreadable(labelled: LabelledImages) -> Iterator[str]:
    left = labelled.unreadable
    for picture in left[:_SHOWN]:
        yield f"Left out: {picture.path} {picture.reason}"
    if len(left) > _SHOWN:
        yield f"Left out: {len(left) - _SHOWN} more pictures of {labelled.source}."
