"""Google Cloud Storage: `gs://BUCKET` or `gs://BUCKET/PREFIX`; an emulator when STORAGE_EMULATOR_HOST is set."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import google.api_core.exceptions as api
import google.auth.exceptions as auth
import requests
from google.cloud import storage
from google.cloud.storage.retry import DEFAULT_RETRY

from handoff.contracts.errors import FashionError, PayloadForbidden, PayloadNotFound, SettingsInvalid, StoreUnavailable
from handoff.contracts.protocols import ObjectInfo
from handoff.stores.address import MAX_KEY_BYTES, key_below, prefix_below
from handoff.stores.gcs_lifecycle import set_retention
from handoff.stores.gcs_media import ATTEMPT_S, ObjectMedia, SessionConnections, Upload

# A worker retries a request as a whole after that, so this only has to outlive a hiccup.
ANSWER_WITHIN_S = 30.0

_URL = re.compile(r"gs://(?P<bucket>[a-z0-9][a-z0-9._-]{1,220}[a-z0-9])(?:/(?P<prefix>.*?))?/*")
_RETRY = DEFAULT_RETRY.with_timeout(ANSWER_WITHIN_S)


def connect(url: str) -> GcsStore:
    """Use the bucket and prefix a URL names; whether they are there shows at the first use.

    Raises: SettingsInvalid: not `gs://BUCKET/PREFIX`, or no Google credentials
    """
    match = _URL.fullmatch(url)
    if not match:
        raise SettingsInvalid(f"The store URL {url!r} names no bucket; use gs://BUCKET/PREFIX.")
    try:
        client = storage.Client()
    except auth.DefaultCredentialsError as error:
        raise SettingsInvalid("No Google credentials: run `gcloud auth application-default login`.") from error
    except OSError:  # no project is configured; only creating a bucket needs one
        client = storage.Client(project=None)
    session = client._http  # noqa: SLF001 - the SDK's session, with credentials and their refresh; it has no public name
    media = ObjectMedia(
        SessionConnections(session, client.api_endpoint),
        credentials=session.credentials,
        endpoint=client.api_endpoint,
        bucket=match["bucket"],
    )
    return GcsStore(client, media=media, bucket=match["bucket"], prefix=match["prefix"] or "")


class GcsStore:
    """Objects below one prefix of one bucket."""

    def __init__(self, client: storage.Client, *, media: ObjectMedia, bucket: str, prefix: str) -> None:
        self._client = client
        self._media = media
        self._bucket = bucket
        self._prefix = f"{prefix}/" if prefix else ""
        self._bucket_seen = False
        self.root = f"gs://{bucket}/{prefix}".rstrip("/")

    def declare(self, *, retention_s: float | None = None) -> list[str]:
        """Create the bucket unless it is there: private, with one set of permissions. Set its rule for old objects."""
        with _translated(f"look at bucket {self._bucket}"):
            bucket = self._client.lookup_bucket(self._bucket, retry=_RETRY, timeout=ATTEMPT_S)
        done: list[str] = []
        if bucket is None:
            bucket, done = self._create_bucket()
        if retention_s is not None:
            with _translated(f"set the retention of bucket {self._bucket}"):
                done += set_retention(
                    bucket, prefix=self._prefix, retention_s=retention_s, retry=_RETRY, timeout=ATTEMPT_S
                )
        return done

    def _create_bucket(self) -> tuple[storage.Bucket, list[str]]:
        bucket = self._client.bucket(self._bucket)
        bucket.iam_configuration.uniform_bucket_level_access_enabled = True
        bucket.iam_configuration.public_access_prevention = "enforced"
        with _translated(f"create bucket {self._bucket}"):
            try:
                bucket.create(retry=_RETRY, timeout=ATTEMPT_S)
            except api.Conflict:  # someone else did, just now
                bucket.reload(retry=_RETRY, timeout=ATTEMPT_S)
                return bucket, []
            except ValueError as error:
                raise SettingsInvalid(f"Set GOOGLE_CLOUD_PROJECT to create bucket {self._bucket}.") from error
        return bucket, [f"Created bucket {self._bucket}."]

    def read(self, uri: str, *, max_bytes: int) -> bytes:
        """Read a whole object; the headers tell its size and checksum before its bytes are taken."""
        name = self._name(uri)

        with _translated(f"read {uri}"):
            try:
                data: bytes = _RETRY(self._media.download)(name, max_bytes=max_bytes)
            except api.NotFound as error:
                self._check_bucket()
                raise PayloadNotFound(f"There is no object at {uri}.") from error
        return data

    def create(self, uri: str, data: bytes) -> bool:
        """Write an object unless one is there, in one request that the service checks against its checksum."""
        upload = Upload(self._name(uri), data)
        attempts: list[int] = []

        def attempt() -> None:
            attempts.append(1)
            self._media.upload(upload)

        with _translated(f"write {uri}"):
            try:
                _RETRY(attempt)()
            except api.PreconditionFailed:
                # After a lost answer the object that is in the way may be our own.
                return len(attempts) > 1 and self._checksum(uri) == upload.checksum
        return True

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        """List the objects whose URI begins with `prefix`; the service sorts them by their UTF-8 bytes."""
        beginning = self._prefix + prefix_below(self.root, prefix)
        with _translated(f"list {prefix}"):
            for blob in self._client.list_blobs(
                self._bucket,
                prefix=beginning,
                fields="items(name,size),nextPageToken",
                retry=_RETRY,
                timeout=ATTEMPT_S,
            ):
                yield ObjectInfo(uri=f"gs://{self._bucket}/{blob.name}", size_bytes=blob.size)

    def delete(self, uri: str) -> None:
        """Remove an object; one that is not there is no error."""
        blob = self._client.bucket(self._bucket).blob(self._name(uri))
        with _translated(f"delete {uri}"):
            try:
                blob.delete(retry=_RETRY, timeout=ATTEMPT_S)
            except api.NotFound:
                self._check_bucket()

    def _name(self, uri: str) -> str:
        name = self._prefix + key_below(self.root, uri)
        if len(name.encode()) > MAX_KEY_BYTES:
            raise PayloadForbidden(f"The address {uri!r} is longer than Cloud Storage takes.")
        return name

    def _checksum(self, uri: str) -> str | None:
        blob = self._client.bucket(self._bucket).get_blob(self._name(uri), retry=_RETRY, timeout=ATTEMPT_S)
        return blob.crc32c if blob else None

    def _check_bucket(self) -> None:
        """Tell a missing object from a missing bucket; asked after something was not found, until the bucket was seen.

        A worker looks for the stored response of what is redelivered and rarely finds one, so once has to do.
        """
        if self._bucket_seen:
            return
        with suppress(api.Forbidden):  # a worker's role need not allow it to look at the bucket
            if self._client.lookup_bucket(self._bucket, retry=_RETRY, timeout=ATTEMPT_S) is None:
                raise SettingsInvalid(f"There is no bucket {self._bucket}; run `fashion init`.")
        self._bucket_seen = True


@contextmanager
def _translated(what: str) -> Iterator[None]:
    """Turn the SDK's errors into ours."""
    try:
        yield
    except (api.GoogleAPIError, auth.GoogleAuthError, requests.RequestException) as error:
        raise _meaning(error, what) from error


def _meaning(error: Exception, what: str) -> FashionError:
    match error:
        case api.NotFound():
            return SettingsInvalid(f"Cannot {what}: there is no such bucket; run `fashion init`.")
        case api.TooManyRequests():
            return StoreUnavailable(f"Cannot {what}; Cloud Storage asks to wait: {error.message}")
        case api.ClientError():
            return SettingsInvalid(f"Cannot {what}; Cloud Storage refuses: {error.message}")
        case auth.GoogleAuthError() if not (error.retryable or isinstance(error, auth.TransportError)):
            return SettingsInvalid(f"Cannot {what} with these Google credentials: {error}")
        case _:
            return StoreUnavailable(f"Cannot {what}; Cloud Storage does not answer: {error}")
