"""Labelled images divided into those to train on, to choose by, and to test with."""

from __future__ import annotations

import numpy as np

from handoff.contracts.errors import DataSetUnavailable
from ml_model_development.code.data_set import DataSet, Split
from ml_model_development.code.labelled_images import LabelledImages


def divide(labelled: LabelledImages, *, test_share: float, seed: int) -> DataSet:
    """Take `test_share` of each label's images for the test split, at least one, and leave at least one to train on.

    Equal seeds divide equally; both splits keep the order of the source.

    Raises: DataSetUnavailable: a label with fewer than two images
    """
    generator = np.random.default_rng(seed)
    tested = np.zeros(len(labelled.split), np.bool_)
    for label, name in enumerate(labelled.labels):
        places = np.flatnonzero(labelled.split.labels == label)
        if len(places) < 2:  # noqa: PLR2004 - one for each split
            raise DataSetUnavailable(
                f"The label {name} has {len(places)} images in {labelled.source}, and needs one to train on and one to"
                " test with; add some, leave the label out, or name --test-images."
            )
        count = min(max(1, round(len(places) * test_share)), len(places) - 1)
        tested[generator.permutation(places)[:count]] = True
    train, test = (labelled.split.take(np.flatnonzero(which)) for which in (~tested, tested))
    return DataSet(train, test, labelled.source, labelled.labels)


def hold_back(split: Split, count: int, *, seed: int) -> tuple[Split, Split]:
    """Divide a training split into what is trained on and images to choose by: `count`, or a tenth if that is less."""
    count = min(count, max(1, len(split) // 10))
    order = np.random.default_rng(seed).permutation(len(split))
    return split.take(order[count:]), split.take(order[:count])
