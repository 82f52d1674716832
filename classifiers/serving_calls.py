"""The calls of TensorFlow Serving's REST protocol, each with a time limit and its failures told apart."""

from __future__ import annotations

import time
from http import HTTPStatus
from typing import Literal, NamedTuple

import msgspec
import urllib3
from urllib3 import exceptions

from classifiers.serving_responses import connections_to
from handoff.contracts.errors import RuntimeFailed, RuntimeUnavailable
from handoff.contracts.sentences import as_sentence
from handoff.contracts.serving_url import ServingUrl

# A host that is there answers to a connection at once; a lost packet is sent again after 1 s, then after 3 s.
_CONNECT_WITHIN_S = 5.0
# A signature of a few tensors is 1 kB; TensorFlow Serving lists a version in 200 bytes.
_MOST_STATUS_BYTES = 1024 * 1024
_CHUNK_BYTES = 64 * 1024
# Characters of what a server says of an error that still make a sentence.
_LONGEST_REASON = 300
_objects = msgspec.json.Decoder(dict[str, object])

# Answers of a server, or of a proxy before it, that say no more than "not now": too many calls at once, a queue that
# is full, a server that is starting, a model that is being replaced, a caller that is not let in. None is about images.
_NOT_NOW = frozenset(
    {
        HTTPStatus.UNAUTHORIZED,
        HTTPStatus.FORBIDDEN,
        HTTPStatus.NOT_FOUND,
        HTTPStatus.PROXY_AUTHENTICATION_REQUIRED,
        HTTPStatus.REQUEST_TIMEOUT,
        HTTPStatus.TOO_MANY_REQUESTS,
        HTTPStatus.BAD_GATEWAY,
        HTTPStatus.SERVICE_UNAVAILABLE,
        HTTPStatus.GATEWAY_TIMEOUT,
    }
)


class _Answer(NamedTuple):
    status: int
    body: bytes


class ServingCalls:
    """One model on one server; thread-safe, with a connection a thread that stays open."""

    def __init__(self, url: ServingUrl, *, timeout_s: float, connection_count: int) -> None:
        self._url = url
        self._timeout_s = timeout_s
        self._pool = connections_to(url.origin, maxsize=connection_count, retries=False, headers=_headers(url))

    @property
    def address(self) -> str:
        """What is called, fit to be shown."""
        return self._url.address

    def status(self) -> bytes:
        """Ask which versions are served.

        Raises: RuntimeUnavailable: no answer, or no good one
        """
        answer = self._call("GET", self._url.path + self._url.pin, most_bytes=_MOST_STATUS_BYTES)
        if answer.status != HTTPStatus.OK:
            raise RuntimeUnavailable(self._said(answer))
        return answer.body

    def metadata(self, version: str | None) -> bytes:
        """Ask what a version takes and gives; nothing where the server does not tell.

        Raises: RuntimeUnavailable
        """
        answer = self._call("GET", f"{self._version_path(version)}/metadata", most_bytes=_MOST_STATUS_BYTES)
        if answer.status in _NOT_NOW - {HTTPStatus.NOT_FOUND}:
            raise RuntimeUnavailable(self._said(answer))
        return answer.body if answer.status == HTTPStatus.OK else b""

    def predict(self, version: str | None, instances: bytes, *, most_bytes: int) -> bytes:
        """Have images classified.

        Raises: RuntimeUnavailable: not now; RuntimeFailed: not these images, or with too long an answer
        """
        answer = self._call("POST", f"{self._version_path(version)}:predict", body=instances, most_bytes=most_bytes)
        if answer.status in _NOT_NOW:
            raise RuntimeUnavailable(self._said(answer))
        if answer.status != HTTPStatus.OK:
            raise RuntimeFailed(self._said(answer))
        return answer.body

    def _version_path(self, version: str | None) -> str:
        return self._url.path + (self._url.pin if version is None else f"/versions/{version}")

    def _said(self, answer: _Answer) -> str:
        return f"{self.address} answered {answer.status} ({_reason(answer.body) or 'without a reason'})."

    def _call(
        self, method: Literal["GET", "POST"], path: str, *, body: bytes | None = None, most_bytes: int
    ) -> _Answer:
        limits = urllib3.Timeout(connect=min(self._timeout_s, _CONNECT_WITHIN_S), read=self._timeout_s)
        ends_at = time.monotonic() + self._timeout_s
        try:
            response = self._pool.request(
                method, path, body=body, timeout=limits, redirect=False, preload_content=False
            )
            try:
                return _Answer(response.status, self._read(response, most_bytes=most_bytes, ends_at=ends_at))
            finally:
                response.close()  # one that was read to its end has given its connection back already
        except exceptions.HTTPError as error:
            raise RuntimeUnavailable(self._explain(error)) from error

    def _read(self, response: urllib3.BaseHTTPResponse, *, most_bytes: int, ends_at: float) -> bytes:
        """Read a body, which may neither be endless nor come for ever in small pieces."""
        body = bytearray()
        while chunk := response.read1(_CHUNK_BYTES, decode_content=False):
            body += chunk
            if len(body) > most_bytes:
                raise RuntimeFailed(f"{self.address} answered with more than {most_bytes:,} bytes.")
            if time.monotonic() > ends_at:
                raise RuntimeUnavailable(self._too_late())
        return bytes(body)

    def _explain(self, error: exceptions.HTTPError) -> str:
        match error:
            case exceptions.SSLError():
                return f"There is no secure connection to {self.address} ({_last_words(error)})."
            case exceptions.NewConnectionError() | exceptions.ConnectTimeoutError():
                why = _last_words(error)
                return f"Nothing answers at {self.address} ({why}); is TensorFlow Serving running there?"
            case exceptions.TimeoutError():
                return self._too_late()
            case exceptions.ProtocolError():
                return f"{self.address} hung up before it had answered."
        return f"{self.address} cannot be asked ({_last_words(error)})."

    def _too_late(self) -> str:
        return f"{self.address} did not answer within {self._timeout_s:g} s."


def _headers(url: ServingUrl) -> dict[str, str]:
    headers = {"Content-Type": "application/json", "Accept": "application/json"}
    if url.credentials:
        headers |= urllib3.make_headers(basic_auth=url.credentials)
    return headers


def _last_words(error: exceptions.HTTPError) -> str:
    """Of what urllib3 says the part that tells why, which comes last: `[Errno 111] Connection refused`."""
    why = str(error).rpartition(": ")[2].rpartition("] ")[2].rstrip(".")
    if why.count(")") > why.count("("):  # that of the reason in brackets, whose beginning was cut off
        why = why.removesuffix(")")
    return as_sentence(why, most=_LONGEST_REASON)


def _reason(body: bytes) -> str:
    """What a server says of an error: JSON, most often; TensorFlow Serving's is not always valid."""
    text = body[: 4 * _LONGEST_REASON].decode(errors="replace")
    try:
        told = _objects.decode(body)
    except ValueError:
        told = {}
    said = next((told[key] for key in ("error", "detail") if isinstance(told.get(key), str)), text)
    return as_sentence(str(said).strip().rstrip("."), most=_LONGEST_REASON)
