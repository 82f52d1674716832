"""An object's bytes on their way to and from Cloud Storage's JSON interface, with their checksum."""

from __future__ import annotations

import base64
import json
import uuid

import google_crc32c
import requests
from google.api_core.exceptions import from_http_response

from handoff.contracts.errors import PayloadTooLarge


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


def checksum(data: bytes) -> str:
    """CRC32C as Cloud Storage writes it: base64 of the big-endian bytes."""
    return base64.b64encode(google_crc32c.value(data).to_bytes(4, "big")).decode()


def check_status(response: requests.Response) -> None:
    """Raise the SDK's exception for a status that is an error."""
    if not response.ok:
        raise from_http_response(response)


def take_body(response: requests.Response, *, max_bytes: int) -> bytes:
    """Read an object's bytes as stored, after a look at the size and the checksum in the headers.

    Raises: PayloadTooLarge; ConnectionError: cut short or changed on the way, worth another attempt
    """
    announced = response.headers.get("Content-Length")
    if announced is not None and int(announced) > max_bytes:
        raise PayloadTooLarge(f"The object has {announced} bytes; at most {max_bytes} are read.")
    data: bytes = response.raw.read(max_bytes + 1, decode_content=False)
    if len(data) > max_bytes:
        raise PayloadTooLarge(f"The object has more than {max_bytes} bytes, the most that are read.")
    expected = _announced_checksum(response)
    if expected not in {None, checksum(data)}:
        raise ConnectionError("the object's bytes do not have the checksum that its headers announce")
    return data


def _announced_checksum(response: requests.Response) -> str | None:
    hashes = dict(part.strip().partition("=")[::2] for part in response.headers.get("X-Goog-Hash", "").split(","))
    return hashes.get("crc32c")
