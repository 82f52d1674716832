"""Tables that people read."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pandas as pd

from handoff.contracts.predictions import PredictionTable


def predictions_table(predictions: PredictionTable) -> pd.DataFrame:
    """Show predictions as the predictions object has them: a row an image, a probability column a label."""
    best = predictions.probabilities[np.arange(len(predictions)), predictions.label_ids]
    table = pd.DataFrame(
        {
            "image_id": predictions.image_ids,
            "label_id": predictions.label_ids,
            "label": predictions.labels,
            "probability": best,
        }
    )
    return table.join(pd.DataFrame(predictions.probabilities, columns=predictions.label_names))


def confusion_table(
    true_ids: npt.NDArray[np.int64], predicted_ids: npt.NDArray[np.int64], labels: Sequence[str]
) -> pd.DataFrame:
    """Count images by true label (rows) and predicted label (columns), with the share of each that is right."""
    counts = np.zeros((len(labels), len(labels)), np.int64)
    np.add.at(counts, (true_ids, predicted_ids), 1)
    shares = counts.diagonal() / np.maximum(1, counts.sum(axis=1))
    table = pd.DataFrame(counts, index=pd.Index(labels, name="true"), columns=[label[:8] for label in labels])
    return table.assign(right=[f"{share:.1%}" for share in shares])
