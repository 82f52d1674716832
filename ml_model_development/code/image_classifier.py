"""The Python way in: learn to tell images apart, try it, and write what workers serve."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from os import PathLike
from pathlib import Path
from typing import Any, Self

import keras
import numpy as np
from numpy.typing import NDArray

from classifiers import keras as reference
from classifiers.loading import REFERENCE_NAME, load_classifiers
from classifiers.protocol import Classifier
from handoff.artifacts import Artifact, read_artifact
from handoff.contracts.errors import ArtifactInvalid, DataSetUnavailable, SettingsInvalid
from handoff.contracts.images import ImageShape
from handoff.image_files.pixels import as_images, check_shape
from ml_model_development.code.build_model_utils import describe_commit
from ml_model_development.code.building import Trained, write_artifact
from ml_model_development.code.classification import classify_all
from ml_model_development.code.data_set import Split
from ml_model_development.code.division import hold_back
from ml_model_development.code.evaluation import Evaluation, evaluate
from ml_model_development.code.label_ids import number_labels
from ml_model_development.code.models import build_classifier, continue_scorer
from ml_model_development.code.progress import Progress
from ml_model_development.code.recipe import PRESETS, Recipe
from ml_model_development.code.temperature import calibrate_scorer
from ml_model_development.code.training import Trainer

Labels = Sequence[str] | Sequence[int] | NDArray[Any]


class ImageClassifier:
    """Tells images apart once it was trained or loaded.

    ```python
    classifier = ImageClassifier("quick", seed=1)
    classifier.train(images, labels)  # uint8 (N, H, W) or (N, H, W, C); N names or whole numbers
    print(classifier.test(test_images, test_labels).accuracy)
    probabilities = classifier.classify(images)  # float32 (N, K), in the order of classifier.labels
    classifier.save("artifacts/7", test=(test_images, test_labels))
    again = ImageClassifier.load("artifacts/7")  # and again.train(...) goes on from it
    ```
    """

    def __init__(self, preset: str = "quick", *, recipe: Recipe | None = None, seed: int = 1) -> None:
        """Choose how to train: a preset by its name, or a recipe of one's own that `preset` then names."""
        if recipe is None and preset not in PRESETS:
            raise SettingsInvalid(f"There is no preset {preset!r}; choose one of {', '.join(PRESETS)}.")
        self._preset = preset
        self._recipe = recipe or PRESETS[preset]
        self._seed = seed
        self._labels: tuple[str, ...] = ()
        self._model: keras.Model | None = None
        self._trained: Trained | None = None
        self._classifiers: list[Classifier] = []

    @classmethod
    def load(
        cls, folder: str | PathLike[str], *, preset: str = "quick", recipe: Recipe | None = None, seed: int = 1
    ) -> Self:
        """Take an artifact up again, to classify with it or to go on training by `preset`.

        Raises: ArtifactInvalid: its manifest or digests do not hold, or Keras cannot load it
        """
        found = cls(preset, recipe=recipe, seed=seed)
        artifact = read_artifact(Path(folder))
        found._labels = tuple(artifact.manifest.labels)
        found._model = reference.load(artifact.path / REFERENCE_NAME, threads=1)[0].model
        found._classifiers = load_classifiers(artifact)
        return found

    @property
    def labels(self) -> tuple[str, ...]:
        """The name of each label, in the order of the probabilities."""
        return self._labels

    @property
    def input_shape(self) -> ImageShape:
        """Height, width and channels of the images it takes."""
        height, width, channels = self._ready().input_shape[1:]
        return height, width, channels

    def train(self, images: NDArray[Any], labels: Labels, *, label_names: Sequence[str] | None = None) -> None:
        """Learn from labelled images, showing progress; goes on from what was learned before, where there is any.

        A part of the images is held back to choose by. Labels that are whole numbers are named by `label_names`, else
        by their numbers. Going on with other labels keeps what was learned but for the last layer.

        Raises: DataSetUnavailable: not images, counts that differ, fewer than two labels, or images of another shape
            than before
        """
        split, names = self._number(images, labels, label_names)
        if len(names) < 2 or len(np.unique(split.labels)) < 2:  # noqa: PLR2004 - a choice needs two
            raise DataSetUnavailable("All images have the same label; a classifier needs images of two or more.")
        self.train_split(split, names)

    def train_split(self, split: Split, names: Sequence[str]) -> None:
        """Learn from images whose labels are numbered already; see `train`."""
        started_s, commit = time.perf_counter(), describe_commit()  # now, before somebody edits what is running
        split = self.in_order(split, names)
        names = self._labels if set(names) == set(self._labels) else tuple(names)
        kept, held_back = hold_back(split, self._recipe.validation_count, seed=self._seed)
        trainer = Trainer(
            recipe=self._recipe,
            train=kept,
            validation=held_back,
            label_count=len(names),
            seed=self._seed,
            start=self._start(split, names),
        )
        with Progress(epochs=trainer.epochs, image_count=trainer.steps * trainer.batch_size) as progress:
            training = replace(trainer, on_step=progress.step, on_epoch=progress.epoch).run()
        temperature = calibrate_scorer(training.scorer, held_back)
        self._labels, self._model = names, build_classifier(training.scorer)
        self._classifiers = [reference.KerasClassifier(self._model)]
        self._trained = Trained(
            model=self._model,
            labels=names,
            training=training,
            temperature=temperature,
            train=kept,
            validation=held_back,
            preset=self._preset,
            seed=self._seed,
            commit=commit,
            started_s=started_s,
        )

    def classify(self, images: NDArray[Any]) -> NDArray[np.float32]:
        """Classify images: with what is served where it was loaded, with the reference where it was trained just now.

        Shapes: uint8 (N, H, W) or (N, H, W, C) -> float32 (N, K), each row sums to 1
        Raises: DataSetUnavailable: not images of the shape it takes
        """
        pixels = self._fitting(images)
        if not len(pixels):
            return np.empty((0, len(self._labels)), np.float32)
        return classify_all(self._classifiers, pixels)

    def test(self, images: NDArray[Any], labels: Labels) -> Evaluation:
        """Classify labelled images and compare: accuracy, calibration, and figures for each label.

        Raises: DataSetUnavailable: not images of the shape it takes, or labels that it does not know
        """
        probabilities = self.classify(images)
        truth, _ = number_labels(_spell(labels, len(probabilities)), known_labels=self._labels, source="labels")
        return evaluate(probabilities, truth, self._labels)

    def save(
        self, folder: str | PathLike[str], *, test: tuple[NDArray[Any], Labels], name: str = "image-classifier"
    ) -> Artifact:
        """Write the artifact that workers serve into an empty folder: models, figures on the test images, report.

        Raises: ArtifactInvalid: not trained since it was loaded, or an exported graph does not agree with what was
            trained; SettingsInvalid: the folder holds something, or cannot be written
        """
        images, labels = test
        pixels = self._fitting(images)
        truth, _ = number_labels(_spell(labels, len(pixels)), known_labels=self._labels, source="test labels")
        return self.save_split(Path(folder), test=Split(pixels, truth), name=name)

    def save_split(self, folder: Path, *, test: Split, name: str, notes: Sequence[str] = ()) -> Artifact:
        """Write the artifact, tested with images whose labels are numbered already; see `save`."""
        if self._trained is None:
            raise ArtifactInvalid("Nothing was trained since this classifier was made or loaded; call train first.")
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise SettingsInvalid(f"{folder} cannot be made ({error.strerror}); name another folder.") from error
        if any(folder.iterdir()):
            raise SettingsInvalid(f"{folder} is not empty; name a new folder for the artifact.")
        return write_artifact(folder, self._trained, test, name=name, notes=notes)

    def in_order(self, split: Split, names: Sequence[str]) -> Split:
        """Number a split's labels as this classifier does, where they are the same ones."""
        if set(names) != set(self._labels):
            return split
        places = np.array([self._labels.index(name) for name in names], np.int64)
        return Split(split.images, places[split.labels])

    def _ready(self) -> keras.Model:
        if self._model is None:
            raise ArtifactInvalid("This classifier was neither trained nor loaded; call train first.")
        return self._model

    def _number(
        self, images: NDArray[Any], labels: Labels, label_names: Sequence[str] | None
    ) -> tuple[Split, tuple[str, ...]]:
        pixels = as_images(np.asarray(images), name="images")
        height, width, channels = pixels.shape[1:]
        check_shape((height, width, channels), name="images")
        ids, names = number_labels(_spell(labels, len(pixels)), label_names=label_names, source="labels")
        return Split(pixels, ids), names

    def _start(self, split: Split, names: tuple[str, ...]) -> keras.Model | None:
        if self._model is None:
            return None
        if split.images.shape[1:] != self.input_shape:
            found, wanted = ("x".join(map(str, shape)) for shape in (split.images.shape[1:], self.input_shape))
            raise DataSetUnavailable(
                f"These images are {found}, the model to go on from takes {wanted}; resize them, or train anew."
            )
        return continue_scorer(self._model, len(names), same_labels=names == self._labels)

    def _fitting(self, images: NDArray[Any]) -> NDArray[np.uint8]:
        pixels = as_images(np.asarray(images), name="images")
        if pixels.shape[1:] != self.input_shape:
            found, wanted = ("x".join(map(str, shape)) for shape in (pixels.shape[1:], self.input_shape))
            raise DataSetUnavailable(f"These images are {found}, the model takes {wanted}; resize them.")
        return pixels


def _spell(labels: Labels, count: int) -> list[str]:
    spelled = [str(label) for label in np.asarray(labels).tolist()]
    if len(spelled) != count:
        raise DataSetUnavailable(f"There are {count} images but {len(spelled)} labels; give one label an image.")
    return spelled
