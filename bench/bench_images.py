"""The images that models are measured on."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from fashion_client.sources import SAMPLE_IMAGES, SAMPLE_LABELS
from handoff.contracts.errors import DataSetUnavailable
from handoff.contracts.idx import decode_idx
from ml_model_development.code.data_set import DataSet, Split
from ml_model_development.code.data_sources import find_data_set, usual_places

ROOT = Path(__file__).resolve().parent.parent


def find_fashion_mnist() -> DataSet:
    """Fashion-MNIST from FASHION_MNIST_DIR or where it usually lies; nothing is fetched.

    Raises: DataSetUnavailable
    """
    named = os.environ.get("FASHION_MNIST_DIR")
    cache = Path.home() / ".cache" / "fashion-analysis" / "fashion-mnist"
    return find_data_set(
        Path(named) if named else None, places=usual_places(ROOT, Path.home()), cache=cache, fetches=()
    )


def read_test_images() -> Split:
    """The 10,000 test images, or the 1,000 of them that come with the client."""
    try:
        return find_fashion_mnist().test
    except DataSetUnavailable:
        images = decode_idx(SAMPLE_IMAGES.read_bytes(), name="sample")[..., np.newaxis]
        return Split(images, decode_idx(SAMPLE_LABELS.read_bytes(), name="sample").astype(np.int64))
