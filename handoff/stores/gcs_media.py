"""An object's bytes on their way to and from Cloud Storage's JSON interface, with their checksum.

One HTTP request a read and one a create. The SDK's own download cannot look at an object's size before it takes the
bytes, its upload needs two requests over 8 MiB, and each of its requests takes twice the processor time of these: they
go over the SDK's connections with its credentials, but not through `requests` (docs/measurements.md).
"""

from __future__ import annotations

import base64
import json
import uuid
from collections.abc import Mapping
from typing import Protocol
from urllib.parse import quote

import google.auth.transport.requests
import google_crc32c
import requests
import urllib3
from google.api_core.exceptions import from_http_status
from google.auth.credentials import Credentials
from requests.adapters import HTTPAdapter

from handoff.contracts.errors import PayloadTooLarge

# (connect, wait for bytes) of one attempt.
ATTEMPT_S = (3.05, 15.0)
# Connections kept for the threads that fetch and store; more would be opened and thrown away.
POOL_SIZE = 32

_UNAUTHORIZED = 401
_FIRST_ERROR = 400
# Of an answer that says no: what is read for the sentence.
_MOST_SAID_BYTES = 4096


class Connections(Protocol):
    """What is needed of urllib3's connection pool for one host."""

    def urlopen(
        self, method: str, url: str, body: bytes | None, headers: Mapping[str, str]
    ) -> urllib3.BaseHTTPResponse:
        """Send a request for a path of that host; the answer's body is left to be read."""


class Upload:
    """The body of a multipart upload: the object's name and checksum, then its bytes."""

    def __init__(self, name: str, data: bytes) -> None:
        self.checksum = checksum(data)
        boundary = uuid.uuid4().hex
        self.content_type = f"multipart/related; boundary={boundary}"
        about = json.dumps({"name": name, "crc32c": self.checksum})
        head = f"--{boundary}\r\nContent-Type: application/json; charset=UTF-8\r\n\r\n{about}\r\n"
        head += f"--{boundary}\r\nContent-Type: application/octet-stream\r\n\r\n"
        self.body = b"".join((head.encode(), data, f"\r\n--{boundary}--\r\n".encode()))


class ObjectMedia:
    """The bytes of one bucket's objects."""

    def __init__(self, connections: Connections, *, credentials: Credentials, endpoint: str, bucket: str) -> None:
        self._connections = connections
        self._credentials = credentials
        self._refresh = google.auth.transport.requests.Request()
        self._endpoint = endpoint
        self._objects = f"storage/v1/b/{quote(bucket)}/o"

    def download(self, name: str, *, max_bytes: int) -> bytes:
        """Read an object in one request, its size and checksum in the headers first.

        Raises: PayloadTooLarge; ConnectionError; google.api_core.exceptions.GoogleAPICallError
        """
        # Gzip is accepted so that what is stored compressed comes as stored, not unpacked beyond all limits.
        headers = {"Accept-Encoding": "gzip"}
        response = self._send("GET", f"/download/{self._objects}/{quote(name, safe='')}?alt=media", None, headers)
        try:
            data = take_body(response, max_bytes=max_bytes)
        except urllib3.exceptions.HTTPError as error:
            response.close()
            raise ConnectionError(str(error)) from error
        except BaseException:
            response.close()  # unread bytes would be taken for the next answer
            raise
        response.release_conn()
        return data

    def upload(self, upload: Upload) -> None:
        """Write an object unless one of its name is there, in one request that the service checks.

        Raises: ConnectionError; google.api_core.exceptions.GoogleAPICallError: PreconditionFailed where one is there
        """
        path = f"/upload/{self._objects}?uploadType=multipart&ifGenerationMatch=0&fields=name"
        self._send("POST", path, upload.body, {"Content-Type": upload.content_type}).drain_conn()

    def _send(self, method: str, path: str, body: bytes | None, headers: Mapping[str, str]) -> urllib3.BaseHTTPResponse:
        response = self._attempt(method, path, body, headers)
        if response.status == _UNAUTHORIZED:
            response.drain_conn()
            self._credentials.refresh(self._refresh)
            response = self._attempt(method, path, body, headers)
        if response.status >= _FIRST_ERROR:
            said = response.read(_MOST_SAID_BYTES, decode_content=True)
            response.drain_conn()  # a missing object is an everyday answer: its connection is used again
            raise from_http_status(response.status, _sentence(said))
        return response

    def _attempt(
        self, method: str, path: str, body: bytes | None, headers: Mapping[str, str]
    ) -> urllib3.BaseHTTPResponse:
        signed = dict(headers)
        self._credentials.before_request(self._refresh, method, self._endpoint + path, signed)
        try:
            return self._connections.urlopen(method, path, body, signed)
        except urllib3.exceptions.HTTPError as error:
            raise ConnectionError(str(error)) from error


class SessionConnections:
    """The connections of a `requests` session to one host: its proxies and certificates, without its cost a request."""

    def __init__(self, session: requests.Session, endpoint: str) -> None:
        session.mount(endpoint, HTTPAdapter(pool_connections=2, pool_maxsize=POOL_SIZE))
        chosen = session.merge_environment_settings(endpoint, {}, None, None, None)
        adapter = session.get_adapter(endpoint)
        assert isinstance(adapter, HTTPAdapter)  # noqa: S101 - mounted above
        self.pool = adapter.get_connection_with_tls_context(
            requests.Request("GET", endpoint).prepare(), chosen["verify"], chosen["proxies"], chosen["cert"]
        )
        self._timeout = urllib3.Timeout(connect=ATTEMPT_S[0], read=ATTEMPT_S[1])

    def urlopen(
        self, method: str, url: str, body: bytes | None, headers: Mapping[str, str]
    ) -> urllib3.BaseHTTPResponse:
        """Send a request for a path of that host; the answer's body is left to be read."""
        return self.pool.urlopen(
            method,
            url,
            body,
            headers=headers,
            retries=False,
            redirect=False,
            timeout=self._timeout,
            preload_content=False,
            decode_content=False,
        )


def checksum(data: bytes) -> str:
    """CRC32C as Cloud Storage writes it: base64 of the big-endian bytes."""
    return base64.b64encode(google_crc32c.value(data).to_bytes(4, "big")).decode()


def take_body(response: urllib3.BaseHTTPResponse, *, max_bytes: int) -> bytes:
    """Read an object's bytes as stored, after a look at the size and the checksum in the headers.

    Raises: PayloadTooLarge; ConnectionError: cut short or changed on the way, worth another attempt
    """
    announced = response.headers.get("Content-Length", "")
    size = int(announced) if announced.isdecimal() else None
    if size is not None and size > max_bytes:
        raise PayloadTooLarge(f"The object has {size} bytes; at most {max_bytes} are read.")
    data: bytes = response.read(max_bytes + 1, decode_content=False)
    if len(data) > max_bytes:
        raise PayloadTooLarge(f"The object has more than {max_bytes} bytes, the most that are read.")
    if size not in {None, len(data)}:
        raise ConnectionError(f"{len(data)} bytes came of an object of {size}")
    expected = _announced_checksum(response.headers.get("X-Goog-Hash", ""))
    if expected not in {None, checksum(data)}:
        raise ConnectionError("the object's bytes do not have the checksum that its headers announce")
    return data


def _announced_checksum(header: str) -> str | None:
    hashes = dict(part.strip().partition("=")[::2] for part in header.split(","))
    return hashes.get("crc32c")


def _sentence(said: bytes) -> str:
    """What an answer that says no gives as its reason: JSON with a message, or text."""
    try:
        return str(json.loads(said)["error"]["message"])
    except (ValueError, LookupError, TypeError):
        return said.decode(errors="replace").strip() or "unknown error"
