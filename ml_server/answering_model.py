"""Which model a worker answers with: the artifact's, or the version that a remote runtime says has classified."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Protocol

from classifiers.protocol import Classifier, RemoteClassifier
from handoff.artifacts import Artifact
from handoff.contracts.errors import RuntimeUnavailable, UnknownModel
from handoff.contracts.images import excerpt
from handoff.contracts.messages import ModelReference


class AnsweringModel(Protocol):
    """The identity of what classifies."""

    def check_asked(self, asked: str | None) -> None:
        """Refuse a request for a model that cannot be the one, before its images are fetched.

        Raises: UnknownModel
        """

    def reference(self, asked: str | None, versions: Collection[str]) -> ModelReference:
        """What goes into the response to a request whose images were classified by these versions.

        Raises: UnknownModel: it is not what was asked for; RuntimeUnavailable: there are several
        """

    def current(self) -> ModelReference:
        """What classified last, as far as is known."""

    def fault(self) -> str:
        """What keeps it from classifying at present; empty for nothing."""


def model_of(artifact: Artifact, classifiers: Sequence[Classifier]) -> AnsweringModel:
    """The identity of what these classifiers answer with."""
    remote = [classifier for classifier in classifiers if isinstance(classifier, RemoteClassifier)]
    return RemoteModel(artifact, remote) if remote else LocalModel(artifact)


class LocalModel:
    """The artifact's own graph, in this process: one version, known by its digest."""

    def __init__(self, artifact: Artifact) -> None:
        manifest = artifact.manifest
        self._reference = ModelReference(manifest.name, manifest.version, artifact.graph_digest)

    def check_asked(self, asked: str | None) -> None:
        """Refuse every other name and version."""
        _check(asked, self._reference)

    def reference(self, asked: str | None, versions: Collection[str]) -> ModelReference:
        """Always the same."""
        del asked, versions
        return self._reference

    def current(self) -> ModelReference:
        """The same."""
        return self._reference

    def fault(self) -> str:
        """None: it is in this process."""
        return ""


class RemoteModel:
    """What a server holds under the artifact's name: its version may change, and nobody knows its digest."""

    def __init__(self, artifact: Artifact, classifiers: Sequence[RemoteClassifier]) -> None:
        self._name, self._version = artifact.manifest.name, artifact.manifest.version
        self._classifiers = classifiers

    def check_asked(self, asked: str | None) -> None:
        """Refuse other names; which version is served is known for certain only once it has classified."""
        name = None if asked is None else asked.partition(":")[0]
        _check(name, self.current())

    def reference(self, asked: str | None, versions: Collection[str]) -> ModelReference:
        """The version that classified; the manifest's where the server does not tell."""
        if len(versions) > 1:
            several = " and ".join(sorted(versions))
            raise RuntimeUnavailable(
                f"The server changed its model meanwhile, from or to versions {several}; once more."
            )
        found = self._named(next(iter(versions), None))
        _check(asked, found)
        return found

    def current(self) -> ModelReference:
        """What one of the classifiers was answered by."""
        return self._named(self._classifiers[0].version)

    def fault(self) -> str:
        """What their server does not do."""
        return self._classifiers[0].fault

    def _named(self, version: str | None) -> ModelReference:
        return ModelReference(self._name, version or self._version, "")


def _check(asked: str | None, served: ModelReference) -> None:
    full_name = f"{served.name}:{served.version}"
    if asked not in {None, served.name, full_name}:
        raise UnknownModel(f"The model {excerpt(asked or '')} is not served here; {full_name} is.")
