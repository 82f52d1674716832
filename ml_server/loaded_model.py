"""The model that a worker serves: read, loaded or reached, and warm."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import NamedTuple

from classifiers.loading import REMOTE_RUNTIME, connect_classifiers, load_classifiers
from classifiers.protocol import Classifier, RemoteServer
from handoff.artifacts import Artifact, read_artifact
from handoff.contracts.manifest import Manifest
from handoff.settings import Settings, WorkerSettings, model_path
from ml_server.answering_model import AnsweringModel, model_of

# Calls of a remote runtime that are under way at a time, unless `threads` says otherwise. They mostly wait:
# a server with cores to spare is used four times as well as by one; one without loses a tenth (docs/tf-serving.md).
REMOTE_CALLS = 4


class LoadedModel(NamedTuple):
    """What classifies, what is known of it, and what it answers as."""

    manifest: Manifest
    classifiers: Sequence[Classifier]
    answering: AnsweringModel


def open_model(settings: Settings, *, worker_count: int = 1) -> LoadedModel:
    """Read the artifact and have its model warm.

    Raises: ArtifactInvalid; MissingPackage; RuntimeUnavailable, RuntimeFailed: of a remote runtime
    """
    artifact = read_served(settings)
    classifiers = load_warm(settings.worker, artifact, worker_count=worker_count)
    return LoadedModel(artifact.manifest, classifiers, model_of(artifact, classifiers))


def read_served(settings: Settings) -> Artifact:
    """Read the artifact to serve; of one whose model a server holds, its manifest alone.

    Raises: ArtifactInvalid
    """
    return read_artifact(model_path(settings), with_files=settings.worker.runtime != REMOTE_RUNTIME)


def load_warm(settings: WorkerSettings, artifact: Artifact, *, worker_count: int = 1) -> list[Classifier]:
    """Load or reach the model, a classifier an inference thread, and run it at every micro-batch size: powers of two.

    Raises: as `open_model`
    """
    if settings.runtime == REMOTE_RUNTIME:
        server = RemoteServer(settings.serving_url, settings.serving_timeout_s, settings.serving_patience_s)
        classifiers = connect_classifiers(artifact.manifest, server, threads=settings.threads or REMOTE_CALLS)
    else:
        threads = settings.threads or max(1, core_count() // worker_count)
        classifiers = load_classifiers(artifact, runtime=settings.runtime, threads=threads)
    doubling = [2**power for power in range(settings.micro_batch_images.bit_length())]
    for classifier in classifiers:
        classifier.warm_up(sorted({*doubling, settings.micro_batch_images}))
    return classifiers


def core_count() -> int:
    """The cores that this process may use."""
    return len(os.sched_getaffinity(0))
