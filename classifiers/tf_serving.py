"""TensorFlow Serving, over REST: the model is held by another process, on this machine or another."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from classifiers.protocol import Images, Probabilities, RemoteServer
from classifiers.serving_calls import ServingCalls
from classifiers.serving_patience import Patience
from classifiers.serving_payloads import cut, decode_predictions, encode_instances, most_answer_bytes
from classifiers.serving_status import find_mismatch, newest_version
from handoff.contracts.errors import ArtifactInvalid, RuntimeFailed, RuntimeUnavailable
from handoff.contracts.manifest import Manifest
from handoff.contracts.serving_url import parse_serving_url

# A server that is started together with its workers loads its model in this time.
_START_WITHIN_S = 30.0
# How old the knowledge of the newest version may be; TensorFlow Serving itself looks for new ones every second.
_KNOWN_FOR_S = 5.0


def connect(manifest: Manifest, server: RemoteServer, *, threads: int) -> list[ServingClassifier]:
    """Find the served model to be the one that a manifest describes; one classifier a thread that calls it.

    Raises: RuntimeUnavailable: no answer within half a minute, or within the server's patience where that is less;
            ArtifactInvalid: another model is served; SettingsInvalid: its URL is none
    """
    url = parse_serving_url(server.url)
    calls = ServingCalls(url, timeout_s=server.timeout_s, connection_count=threads)
    model = RemoteModel(calls, manifest)
    patience = Patience(url.address, patience_s=server.patience_s)
    patience.wait_out(model.resolve, most_s=_START_WITHIN_S)
    return [ServingClassifier(model, patience) for _ in range(threads)]


class _Known(NamedTuple):
    version: str | None
    at: float


class RemoteModel:
    """A model on a server: which version is served, and the calls that classify; thread-safe.

    REST does not say which version has classified. So the newest one is asked for, and then called by its number: what
    answers is known, even while the server replaces it.
    """

    def __init__(self, calls: ServingCalls, manifest: Manifest, *, clock: Callable[[], float] = time.monotonic) -> None:
        self.manifest = manifest
        self._calls = calls
        self._clock = clock
        self._known: _Known | None = None

    def version(self) -> str | None:
        """The newest version that is served; None where the server does not tell.

        Raises: RuntimeUnavailable: no answer, or a version that is not the manifest's model
        """
        known = self._known
        if known is not None and self._clock() - known.at < _KNOWN_FOR_S:
            return known.version
        try:
            return self.resolve()
        except ArtifactInvalid as error:  # at start a mistake, now something that whoever deploys models puts right
            raise RuntimeUnavailable(str(error)) from error

    def resolve(self) -> str | None:
        """Ask for the newest version, and hold what is new to the manifest.

        Raises: RuntimeUnavailable; ArtifactInvalid: it is not the manifest's model
        """
        version = newest_version(self._calls.status(), server=self._calls.address)
        known = self._known
        if known is None or known.version != version:
            self._check(version)
        self._known = _Known(version, self._clock())
        return version

    def classify(self, images: Images, *, version: str | None) -> Probabilities:
        """Classify images in one call.

        Raises: RuntimeUnavailable, RuntimeFailed
        """
        count, label_count = len(images), len(self.manifest.labels)
        most_bytes = most_answer_bytes(count, label_count)
        try:
            answer = self._calls.predict(version, encode_instances(images), most_bytes=most_bytes)
            return decode_predictions(answer, image_count=count, label_count=label_count, server=self._calls.address)
        except (RuntimeUnavailable, RuntimeFailed):
            self._known = None  # whatever answers next may serve another version, or another model; so may who answered
            raise

    def _check(self, version: str | None) -> None:
        mismatch = find_mismatch(self._calls.metadata(version), self.manifest)
        if mismatch:
            named = "" if version is None else f", version {version},"
            raise ArtifactInvalid(
                f"The model at {self._calls.address}{named} {mismatch}, unlike the manifest of {self.manifest.name}"
                f" {self.manifest.version}; name the artifact of what is served (--model)."
            )


class ServingClassifier:
    """A remote model, for one thread."""

    def __init__(self, model: RemoteModel, patience: Patience) -> None:
        self._model = model
        self._patience = patience
        self._version: str | None = None

    @property
    def version(self) -> str | None:
        """Which version the last `classify` was answered by; None where the server does not tell."""
        return self._version

    @property
    def fault(self) -> str:
        """What keeps the server from answering at present; empty while it does."""
        return self._patience.fault

    def classify(self, images: Images) -> Probabilities:
        """Classify images, by one version, in as many calls as they fill; waits out a server that does not answer.

        Raises: RuntimeUnavailable: it did not for as long as was to be waited; RuntimeFailed: it cannot classify these
        """
        if not len(images):
            return np.empty((0, len(self._model.manifest.labels)), np.float32)
        self._version, probabilities = self._patience.wait_out(lambda: self._classify(images))
        return probabilities

    def warm_up(self, sizes: list[int]) -> None:
        """Let the server trace and allocate for each size, and show that it classifies."""
        for size in sizes:
            self.classify(np.zeros((size, *self._model.manifest.input_shape), np.uint8))

    def stop_waiting(self) -> None:
        """Wait no more for a server that does not answer."""
        self._patience.stop()

    def _classify(self, images: Images) -> tuple[str | None, Probabilities]:
        version = self._model.version()
        return version, np.concatenate([self._model.classify(part, version=version) for part in cut(images)])
