"""The Cloud Storage store against scripted answers: what no healthy server says."""

from __future__ import annotations

import io
from collections.abc import Iterable

import pytest
import requests
from google.auth.credentials import AnonymousCredentials
from google.cloud import storage
from requests.adapters import HTTPAdapter
from urllib3 import HTTPResponse

from handoff.contracts.errors import (
    PayloadForbidden,
    PayloadNotFound,
    PayloadTooLarge,
    SettingsInvalid,
    StoreUnavailable,
)
from handoff.stores import gcs
from handoff.stores.gcs_media import checksum

URI = "gs://batches/team-a/requests/1/images.csv"

Answer = HTTPResponse | Exception


def answer(status: int, body: bytes = b"{}", **headers: str) -> HTTPResponse:
    """A response whose body is read only when asked for; `X_Goog_Hash` writes the header X-Goog-Hash."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return HTTPResponse(io.BytesIO(body), headers=named, status=status, preload_content=False)


class Script(HTTPAdapter):
    """Answers requests in the order written down, and keeps them."""

    def __init__(self, answers: Iterable[Answer]) -> None:
        super().__init__()
        self._answers = iter(answers)
        self.requests: list[requests.PreparedRequest] = []

    def send(self, request: requests.PreparedRequest, *_: object, **__: object) -> requests.Response:
        """Give the next answer."""
        self.requests.append(request)
        following = next(self._answers)
        if isinstance(following, Exception):
            raise following
        return self.build_response(request, following)


def scripted(*answers: Answer) -> tuple[gcs.GcsStore, Script]:
    """A store whose server answers as written."""
    client = storage.Client(
        project="tests", credentials=AnonymousCredentials(), client_options={"api_endpoint": "http://storage.invalid"}
    )
    # The SDK looks the bucket up once more, from a thread of its own, to label traces.
    client._bucket_metadata_cache = None
    script = Script(answers)
    client._http.mount("http://", script)
    return gcs.GcsStore(client, session=client._http, bucket="batches", prefix="team-a"), script


@pytest.fixture(autouse=True)
def _no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    """Retries follow each other at once."""
    monkeypatch.setattr("time.sleep", lambda _: None)


def test_a_read_is_one_request() -> None:
    """Size, checksum and bytes come in one round trip."""
    store, script = scripted(answer(200, b"pixels", Content_Length="6", X_Goog_Hash=f"crc32c={checksum(b'pixels')}"))
    assert store.read(URI, max_bytes=10) == b"pixels"
    assert [request.method for request in script.requests] == ["GET"]


def test_the_size_is_refused_before_any_byte_is_read() -> None:
    """What the headers announce is enough to say no."""
    large = answer(200, b"x" * 100, Content_Length="100")
    store, _ = scripted(large)
    with pytest.raises(PayloadTooLarge, match="100 bytes"):
        store.read(URI, max_bytes=99)
    assert large.tell() == 0


def test_an_unannounced_size_is_bounded_too() -> None:
    """A server that does not say how long it will talk is cut off."""
    store, _ = scripted(answer(200, b"x" * 1000))
    with pytest.raises(PayloadTooLarge):
        store.read(URI, max_bytes=99)


def test_bytes_that_changed_on_the_way_are_read_again() -> None:
    """A checksum that does not hold is a hiccup, not an answer."""
    headers = {"X_Goog_Hash": f"crc32c={checksum(b'pixels')},md5=other"}
    store, script = scripted(answer(200, b"pixelz", **headers), answer(200, b"pixels", **headers))
    assert store.read(URI, max_bytes=10) == b"pixels"
    assert len(script.requests) == 2


def test_hiccups_are_retried() -> None:
    """503, 429 and a broken connection are no reason to fail."""
    store, script = scripted(answer(503), answer(429), requests.ConnectionError("reset"), answer(200, b"x"))
    assert store.read(URI, max_bytes=10) == b"x"
    assert len(script.requests) == 4


def test_a_server_that_stays_away_is_unavailable(monkeypatch: pytest.MonkeyPatch) -> None:
    """After the retries' time another attempt of the whole request may help."""
    monkeypatch.setattr(gcs, "_RETRY", gcs._RETRY.with_timeout(0.0))
    store, _ = scripted(answer(503), requests.Timeout("slow"))
    with pytest.raises(StoreUnavailable):
        store.read(URI, max_bytes=10)
    with pytest.raises(StoreUnavailable):
        store.create(URI, b"x")


def test_a_missing_bucket_is_told_from_a_missing_object() -> None:
    """One is a matter of settings, the other of this request."""
    store, _ = scripted(answer(404), answer(404), answer(404), answer(200))
    with pytest.raises(SettingsInvalid, match="fashion init"):
        store.read(URI, max_bytes=10)
    with pytest.raises(PayloadNotFound):
        store.read(URI, max_bytes=10)


def test_a_role_that_may_not_see_the_bucket_still_learns_of_missing_objects() -> None:
    """Looking at the bucket is a courtesy, not a need."""
    store, _ = scripted(answer(404), answer(403))
    with pytest.raises(PayloadNotFound):
        store.read(URI, max_bytes=10)


def test_a_refusal_is_a_matter_of_settings() -> None:
    """No retry gives a permission."""
    store, script = scripted(answer(403))
    with pytest.raises(SettingsInvalid, match="refuses"):
        store.create(URI, b"x")
    assert len(script.requests) == 1


def test_a_create_is_one_request_with_a_precondition_and_a_checksum() -> None:
    """The service refuses to overwrite, and refuses bytes that changed on the way."""
    store, script = scripted(answer(200))
    assert store.create(URI, b"pixels") is True
    (request,) = script.requests
    assert "ifGenerationMatch=0" in str(request.url)
    assert checksum(b"pixels").encode() in bytes(request.body or b"")


def test_another_object_in_the_way_is_seen_at_once() -> None:
    """A first attempt that fails the precondition met somebody else's object."""
    store, script = scripted(answer(412))
    assert store.create(URI, b"pixels") is False
    assert len(script.requests) == 1


@pytest.mark.parametrize(("stored", "created"), [(b"pixels", True), (b"other", False)])
def test_after_a_lost_answer_the_object_in_the_way_may_be_ours(stored: bytes, created: bool) -> None:  # noqa: FBT001
    """The retry of an upload that had succeeded finds its own object, and says so."""
    found = b'{"name": "x", "crc32c": "%s"}' % checksum(stored).encode()
    store, _ = scripted(requests.ConnectionError("answer lost"), answer(412), answer(200, found))
    assert store.create(URI, b"pixels") is created


def test_the_prefix_counts_towards_the_longest_name() -> None:
    """An address that Cloud Storage could not keep is refused without asking it."""
    store, script = scripted()
    with pytest.raises(PayloadForbidden):
        store.create(f"{store.root}/" + "/".join(["x" * 200] * 5 + ["y" * 17]), b"")
    assert script.requests == []


@pytest.mark.parametrize("url", ["gs://", "gs:///prefix", "gs://A_Bucket!/x", "gs://b", "file:///x"])
def test_a_url_without_a_bucket_is_a_matter_of_settings(url: str) -> None:
    """The sentence shows how to write it."""
    with pytest.raises(SettingsInvalid, match="gs://BUCKET/PREFIX"):
        gcs.connect(url)
