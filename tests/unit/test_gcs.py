"""The Cloud Storage store against scripted answers: what no healthy server says."""

from __future__ import annotations

import io
import json
from collections.abc import Iterable, Mapping
from typing import NamedTuple

import pytest
import requests
from google.auth.credentials import AnonymousCredentials, Credentials
from google.cloud import storage
from requests.adapters import HTTPAdapter
from urllib3 import HTTPConnectionPool, HTTPResponse
from urllib3.connection import HTTPConnection
from urllib3.exceptions import NewConnectionError, ProtocolError, ReadTimeoutError

from handoff.contracts.errors import (
    PayloadForbidden,
    PayloadNotFound,
    PayloadTooLarge,
    SettingsInvalid,
    StoreUnavailable,
)
from handoff.stores import gcs
from handoff.stores.gcs_media import ObjectMedia, SessionConnections, checksum

URI = "gs://batches/team-a/requests/1/images.csv"

POOL = HTTPConnectionPool("storage.invalid")
Answer = HTTPResponse | Exception


def answer(status: int, body: bytes = b"{}", **headers: str) -> HTTPResponse:
    """A response whose body is read only when asked for; `X_Goog_Hash` writes the header X-Goog-Hash."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return HTTPResponse(io.BytesIO(body), headers=named, status=status, preload_content=False)


def refused() -> NewConnectionError:
    """Nobody listens there."""
    return NewConnectionError(HTTPConnection("storage.invalid"), "refused")


class Sent(NamedTuple):
    """A request as it came to the server."""

    method: str
    url: str
    body: bytes
    headers: Mapping[str, str]


class Script(HTTPAdapter):
    """Answers requests in the order written down, and keeps them: the SDK's, and those for an object's bytes."""

    def __init__(self, answers: Iterable[Answer]) -> None:
        super().__init__()
        self._answers = iter(answers)
        self.requests: list[Sent] = []

    def send(self, request: requests.PreparedRequest, *_: object, **__: object) -> requests.Response:
        """Give the next answer to the SDK."""
        answered = self.urlopen(str(request.method), str(request.url), _bytes(request.body), {})
        return self.build_response(request, answered)

    def urlopen(self, method: str, url: str, body: bytes | None, headers: Mapping[str, str]) -> HTTPResponse:
        """Give the next answer."""
        self.requests.append(Sent(method, url, body or b"", headers))
        following = next(self._answers)
        if isinstance(following, Exception):
            raise following
        return following


def _bytes(body: bytes | str | None) -> bytes:
    return body.encode() if isinstance(body, str) else body or b""


def scripted(*answers: Answer, credentials: Credentials | None = None) -> tuple[gcs.GcsStore, Script]:
    """A store whose server answers as written."""
    credentials = credentials or AnonymousCredentials()
    client = storage.Client(
        project="tests", credentials=AnonymousCredentials(), client_options={"api_endpoint": "http://storage.invalid"}
    )
    # The SDK looks the bucket up once more, from a thread of its own, to label traces.
    client._bucket_metadata_cache = None
    script = Script(answers)
    client._http.mount("http://", script)
    media = ObjectMedia(script, credentials=credentials, endpoint="http://storage.invalid", bucket="batches")
    return gcs.GcsStore(client, media=media, bucket="batches", prefix="team-a"), script


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


@pytest.mark.parametrize("announced", ["1", "7", "many", "-1"])
def test_a_server_that_announces_another_size_is_bounded(announced: str) -> None:
    """Nothing over the bound is taken, and what is not as announced is asked for again."""
    store, _ = scripted(answer(200, b"x" * 1000, Content_Length=announced), answer(200, b"pixels"))
    if announced.isdecimal():
        assert store.read(URI, max_bytes=2000) == b"pixels"
    store, _ = scripted(answer(200, b"x" * 1000, Content_Length=announced))
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
    store, script = scripted(answer(503), answer(429), ProtocolError("reset"), refused(), answer(200, b"x"))
    assert store.read(URI, max_bytes=10) == b"x"
    assert len(script.requests) == 5


def test_a_server_that_stays_away_is_unavailable(monkeypatch: pytest.MonkeyPatch) -> None:
    """After the retries' time another attempt of the whole request may help."""
    monkeypatch.setattr(gcs, "_RETRY", gcs._RETRY.with_timeout(0.0))
    store, _ = scripted(answer(503), ReadTimeoutError(POOL, "/", "slow"))
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
    assert checksum(b"pixels").encode() in request.body


def test_another_object_in_the_way_is_seen_at_once() -> None:
    """A first attempt that fails the precondition met somebody else's object."""
    store, script = scripted(answer(412))
    assert store.create(URI, b"pixels") is False
    assert len(script.requests) == 1


@pytest.mark.parametrize(("stored", "created"), [(b"pixels", True), (b"other", False)])
def test_after_a_lost_answer_the_object_in_the_way_may_be_ours(stored: bytes, created: bool) -> None:  # noqa: FBT001
    """The retry of an upload that had succeeded finds its own object, and says so."""
    found = b'{"name": "x", "crc32c": "%s"}' % checksum(stored).encode()
    store, _ = scripted(ProtocolError("answer lost"), answer(412), answer(200, found))
    assert store.create(URI, b"pixels") is created


def test_the_prefix_counts_towards_the_longest_name() -> None:
    """An address that Cloud Storage could not keep is refused without asking it."""
    store, script = scripted()
    with pytest.raises(PayloadForbidden):
        store.create(f"{store.root}/" + "/".join(["x" * 200] * 5 + ["y" * 17]), b"")
    assert script.requests == []


OTHERS_RULE = {"action": {"type": "SomethingNew"}, "condition": {"age": 3}}
WEEK_S = 7 * 86_400.0


def our_rule(age_days: int) -> dict[str, object]:
    """The rule that removes old requests and results of `scripted`'s store."""
    prefixes = ["team-a/requests/", "team-a/results/"]
    return {"action": {"type": "Delete"}, "condition": {"age": age_days, "matchesPrefix": prefixes}}


def bucket_with(*rules: dict[str, object], metageneration: int = 5) -> HTTPResponse:
    """What Cloud Storage says of a bucket."""
    found = {"name": "batches", "metageneration": str(metageneration), "lifecycle": {"rule": list(rules)}}
    return answer(200, json.dumps(found).encode(), Content_Type="application/json")


def test_declaring_sets_a_rule_for_old_objects_beside_the_others() -> None:
    """Only if nobody changed the bucket since it was looked at; the sentence says what is removed when."""
    store, script = scripted(bucket_with(OTHERS_RULE), bucket_with(OTHERS_RULE, our_rule(7)))
    (sentence,) = store.declare(retention_s=WEEK_S)
    assert sentence == (
        "Objects below team-a/requests/ and team-a/results/ in bucket batches are removed after 7 days."
    )
    look, change = script.requests
    assert (look.method, change.method) == ("GET", "PATCH")
    assert "ifMetagenerationMatch=5" in str(change.url)
    assert json.loads(change.body) == {"lifecycle": {"rule": [OTHERS_RULE, our_rule(7)]}}


def test_a_rule_that_is_there_is_left_alone() -> None:
    """Declaring again does and says nothing; without a retention the rules are not looked at."""
    store, script = scripted(bucket_with(our_rule(7), OTHERS_RULE), bucket_with(our_rule(3)), bucket_with())
    assert store.declare(retention_s=WEEK_S) == []
    assert store.declare() == []
    assert store.declare(retention_s=0) == []
    assert [request.method for request in script.requests] == ["GET", "GET", "GET"]


@pytest.mark.parametrize(
    ("retention_s", "rules", "said"),
    [(WEEK_S + 1, [OTHERS_RULE, our_rule(8)], "after 8 days"), (0.0, [OTHERS_RULE], "are kept for ever now")],
)
def test_another_retention_replaces_our_rule(retention_s: float, rules: list[dict[str, object]], said: str) -> None:
    """Never two of ours; days are rounded up; 0 takes it away."""
    store, script = scripted(bucket_with(our_rule(7), OTHERS_RULE), bucket_with(*rules))
    assert said in store.declare(retention_s=retention_s)[0]
    assert json.loads(script.requests[1].body) == {"lifecycle": {"rule": rules}}


def test_a_bucket_that_others_change_is_looked_at_again() -> None:
    """Their rule and ours both stay."""
    changed = bucket_with(OTHERS_RULE, metageneration=6)
    store, script = scripted(bucket_with(), answer(412), changed, bucket_with(OTHERS_RULE, our_rule(7)))
    assert "after 7 days" in store.declare(retention_s=WEEK_S)[0]
    assert "ifMetagenerationMatch=6" in str(script.requests[3].url)
    assert json.loads(script.requests[3].body) == {"lifecycle": {"rule": [OTHERS_RULE, our_rule(7)]}}


@pytest.mark.parametrize(
    ("reply", "said"),
    [
        (answer(403), "needs storage.buckets.update; ask for it"),
        (answer(405), "needs storage.buckets.update"),
        (bucket_with(), "this server ignores lifecycle rules"),
    ],
)
def test_where_no_rule_can_be_set_the_sentence_says_so(reply: HTTPResponse, said: str) -> None:
    """A role that may not, or a server that cannot, does not keep anyone from the rest."""
    store, _ = scripted(bucket_with(), reply)
    (sentence,) = store.declare(retention_s=WEEK_S)
    assert sentence.startswith("Nothing removes old objects below team-a/requests/")
    assert said in sentence


def test_a_new_bucket_gets_its_rule_too() -> None:
    """Made, then told what to remove."""
    store, _ = scripted(answer(404), bucket_with(metageneration=1), bucket_with(our_rule(7)))
    assert [sentence.split()[0] for sentence in store.declare(retention_s=WEEK_S)] == ["Created", "Objects"]


@pytest.mark.parametrize("url", ["gs://", "gs:///prefix", "gs://A_Bucket!/x", "gs://b", "file:///x"])
def test_a_url_without_a_bucket_is_a_matter_of_settings(url: str) -> None:
    """The sentence shows how to write it."""
    with pytest.raises(SettingsInvalid, match="gs://BUCKET/PREFIX"):
        gcs.connect(url)


class Renewed(Credentials):
    """Credentials whose first token has just been revoked."""

    def __init__(self) -> None:
        super().__init__()
        self.token = "revoked"  # noqa: S105 - none

    def before_request(self, _request: object, _method: str, _url: str, headers: dict[str, str]) -> None:
        """Sign with the token at hand."""
        headers["authorization"] = f"Bearer {self.token}"

    def refresh(self, _request: object) -> None:
        """Fetch a new one."""
        self.token = "renewed"  # noqa: S105 - none


def test_a_token_that_is_no_longer_taken_is_renewed_once() -> None:
    """The service decides how long a token holds; a second refusal is final."""
    store, script = scripted(answer(401), answer(200, b"x"), answer(401), answer(401), credentials=Renewed())
    assert store.read(URI, max_bytes=10) == b"x"
    assert [request.headers["authorization"] for request in script.requests] == ["Bearer revoked", "Bearer renewed"]
    with pytest.raises(SettingsInvalid, match="refuses"):
        store.read(URI, max_bytes=10)


def test_the_reason_of_a_refusal_is_the_services() -> None:
    """Its sentence is passed on, from JSON or from plain text."""
    store, _ = scripted(answer(403, b'{"error": {"message": "may not create"}}'), answer(400, b"odd name"))
    with pytest.raises(SettingsInvalid, match="may not create"):
        store.create(URI, b"x")
    with pytest.raises(SettingsInvalid, match="odd name"):
        store.create(URI, b"x")


def test_the_connections_are_those_of_the_session(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the environment says of proxies and certificates holds for an object's bytes too."""
    monkeypatch.setenv("HTTPS_PROXY", "http://proxy.invalid:3128")
    with requests.Session() as session:
        connections = SessionConnections(session, "https://storage.googleapis.com")
        assert str(connections.pool.proxy) == "http://proxy.invalid:3128"
