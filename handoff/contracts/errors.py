"""Every error a user or an operator can meet, in one tree.

FashionError
├── SettingsInvalid            a flag, variable or file holds something unusable
├── MissingPackage             an optional package is needed and not installed
├── ArtifactInvalid            a model artifact's manifest or digests do not hold
├── DataSetUnavailable         images or labels cannot be found or read
├── MalformedMessage           a message that is not a request of a known version
├── RequestRefused             this request can never succeed; it is answered `failed`
│   ├── PayloadForbidden       the batch lies outside the configured store
│   ├── PayloadNotFound        no object at the batch's address
│   ├── PayloadCorrupt         the object's bytes are not the announced ones
│   ├── PayloadTooLarge        the object is over the stated size limit
│   ├── InvalidBatch           the bytes are no batch of images for this model
│   ├── UnknownModel           the model asked for is not served here
│   ├── RequestConflict        its request_id stands for another request
│   └── DeadlineExceeded       the request came too late to be worth classifying
├── Unavailable                another attempt may succeed
│   ├── StoreUnavailable       the object store did not answer
│   ├── BrokerUnavailable      the broker did not answer
│   ├── FolderUnavailable      a watched folder, or one that files are moved to, cannot be used just now
│   └── RuntimeUnavailable     the classifier runtime did not answer
├── RuntimeFailed              the classifier runtime answered, but not with probabilities
├── ResponseTimeout            no response within the time the caller gave
├── DeadLetterUnknown          an id names no dead letter, or more than one
└── AnalysisFailed             the response says `failed`, or a prediction is missing
"""

from __future__ import annotations

from enum import IntEnum
from typing import ClassVar

from handoff.contracts.sentences import as_sentence

__all__ = [
    "AnalysisFailed",
    "ArtifactInvalid",
    "BrokerUnavailable",
    "DataSetUnavailable",
    "DeadLetterUnknown",
    "DeadlineExceeded",
    "ExitCode",
    "FashionError",
    "FolderUnavailable",
    "InvalidBatch",
    "MalformedMessage",
    "MissingPackage",
    "PayloadCorrupt",
    "PayloadForbidden",
    "PayloadNotFound",
    "PayloadTooLarge",
    "RequestConflict",
    "RequestRefused",
    "ResponseTimeout",
    "RuntimeFailed",
    "RuntimeUnavailable",
    "SettingsInvalid",
    "StoreUnavailable",
    "Unavailable",
    "UnknownModel",
]


class ExitCode(IntEnum):
    """How a program ended; listed for users in docs/exit-codes.md."""

    OK = 0
    PREDICTIONS_FAILED = 1
    USAGE = 2
    SETTINGS_INVALID = 3
    ARTIFACT_INVALID = 4
    DATA_SET_UNAVAILABLE = 5
    BROKER_UNAVAILABLE = 6
    STORE_UNAVAILABLE = 7
    RESPONSE_TIMEOUT = 8
    RUNTIME_UNAVAILABLE = 9
    MISSING_PACKAGE = 10
    WORKERS_FAILED = 11
    DEAD_LETTER_UNKNOWN = 12
    INTERRUPTED = 130


class FashionError(Exception):
    """Anything this project raises on purpose; its text is one sentence that says what to do."""

    code: ClassVar[str] = "error"
    exit_code: ClassVar[ExitCode] = ExitCode.PREDICTIONS_FAILED
    retryable: ClassVar[bool] = False

    def __str__(self) -> str:
        # Here and nowhere else, so that no sentence is forgotten that quotes a message, a file or a vendor's error.
        return as_sentence(super().__str__())


class SettingsInvalid(FashionError):
    """A flag, an environment variable or the settings file holds something unusable."""

    code, exit_code = "settings_invalid", ExitCode.SETTINGS_INVALID


class MissingPackage(FashionError):
    """An optional package is needed and not installed."""

    code, exit_code = "missing_package", ExitCode.MISSING_PACKAGE

    def __init__(self, package: str, *, needed_for: str) -> None:
        super().__init__(
            f"The Python package {package!r} is needed for {needed_for} and not installed; "
            "`make install` installs what the README's commands need."
        )


class ArtifactInvalid(FashionError):
    """A model artifact is missing, incomplete or changed since it was written."""

    code, exit_code = "artifact_invalid", ExitCode.ARTIFACT_INVALID


class DataSetUnavailable(FashionError):
    """Images or labels cannot be found, verified or read."""

    code, exit_code = "data_set_unavailable", ExitCode.DATA_SET_UNAVAILABLE


class MalformedMessage(FashionError):
    """A message that is not a request (or response) of a version known here."""

    code = "malformed_message"

    def __init__(self, message: str, *, request_id: str | None = None) -> None:
        super().__init__(message)
        self.request_id = request_id


class RequestRefused(FashionError):
    """This request can never succeed: it is answered with a `failed` response, never redelivered."""

    code = "request_refused"


class PayloadForbidden(RequestRefused):
    """The batch's address lies outside the configured store prefix."""

    code = "payload_forbidden"


class PayloadNotFound(RequestRefused):
    """There is no object at the batch's address."""

    code = "payload_not_found"


class PayloadCorrupt(RequestRefused):
    """The object's bytes are not those the request announced."""

    code = "payload_corrupt"


class PayloadTooLarge(RequestRefused):
    """The object, or what it unpacks to, is over the stated limit."""

    code = "payload_too_large"


class InvalidBatch(RequestRefused):
    """The bytes are no batch of images for this model; the text names row and column."""

    code = "invalid_batch"


class UnknownModel(RequestRefused):
    """The request names a model that this worker does not serve."""

    code = "unknown_model"


class RequestConflict(RequestRefused):
    """The request's id was used before, for another batch, other labels or another model."""

    code = "request_conflict"


class DeadlineExceeded(RequestRefused):
    """The request's deadline had passed before it was classified."""

    code = "deadline_exceeded"


class Unavailable(FashionError):
    """Something outside did not answer; another attempt may succeed."""

    code, retryable = "unavailable", True


class StoreUnavailable(Unavailable):
    """The object store did not answer."""

    code, exit_code = "store_unavailable", ExitCode.STORE_UNAVAILABLE


class BrokerUnavailable(Unavailable):
    """The broker did not answer."""

    code, exit_code = "broker_unavailable", ExitCode.BROKER_UNAVAILABLE


class FolderUnavailable(Unavailable):
    """A watched folder, or one that its files are moved to, cannot be used just now."""

    code, exit_code = "folder_unavailable", ExitCode.DATA_SET_UNAVAILABLE


class RuntimeUnavailable(Unavailable):
    """The classifier runtime did not answer."""

    code, exit_code = "runtime_unavailable", ExitCode.RUNTIME_UNAVAILABLE


class RuntimeFailed(FashionError):
    """The classifier runtime answered, but not with probabilities: it refused the images, or cannot classify them.

    Not one of `Unavailable`, since the images may be to blame: a micro-batch that meets this is classified again
    request by request.
    """

    code, exit_code, retryable = "runtime_failed", ExitCode.RUNTIME_UNAVAILABLE, True


class ResponseTimeout(FashionError):
    """No response arrived within the time the caller gave."""

    code, exit_code = "response_timeout", ExitCode.RESPONSE_TIMEOUT


class DeadLetterUnknown(FashionError):
    """An id that was given names no dead letter, or more than one."""

    code, exit_code = "dead_letter_unknown", ExitCode.DEAD_LETTER_UNKNOWN


class AnalysisFailed(FashionError):
    """The service answered `failed`; `code` and text are the response's."""

    code = "analysis_failed"

    def __init__(self, message: str, *, error_code: str = "analysis_failed") -> None:
        super().__init__(message)
        self.error_code = error_code
