"""The address of a model on a TensorFlow Serving: `http://HOST:8501/v1/models/NAME`, one version of it, or a label."""

from __future__ import annotations

import re
from typing import NamedTuple
from urllib.parse import unquote, urlsplit

from handoff.contracts.errors import SettingsInvalid

# What TensorFlow Serving itself takes for a name, a version and a label, less what would have to be escaped.
_WORD = r"[A-Za-z0-9_%-][A-Za-z0-9._~%-]*"
_PATH = re.compile(rf"/v1/models/(?P<name>{_WORD})(?P<pin>/versions/[0-9]+|/labels/{_WORD})?/?")
_HOST = re.compile(r"[A-Za-z0-9._-]+|[0-9A-Fa-f:.]+")
_FORM = "write it as http://HOST:8501/v1/models/NAME, with /versions/N or /labels/L after it where one version is meant"


class ServingUrl(NamedTuple):
    """Where a model is served, in the parts that calls are made of."""

    origin: str
    """Scheme, host and port, without credentials."""
    name: str
    pin: str
    """`/versions/N`, `/labels/L`, or nothing: the newest version that is served."""
    credentials: str
    """`user:password`, for a proxy that asks for them; empty for none."""

    @property
    def path(self) -> str:
        """The model's path, whatever its version."""
        return f"/v1/models/{self.name}"

    @property
    def address(self) -> str:
        """The whole of it, fit to be shown."""
        return f"{self.origin}{self.path}{self.pin}"


def parse_serving_url(text: str) -> ServingUrl:
    """Take the address of a model apart.

    Raises: SettingsInvalid: it is no such address
    """
    try:
        parts = urlsplit(text)
        host, port = parts.hostname or "", parts.port
    except ValueError as error:
        raise SettingsInvalid(f"The model's URL {text!r} is none ({error}); {_FORM}.") from error
    path = _PATH.fullmatch(parts.path)
    if parts.scheme not in {"http", "https"} or not _HOST.fullmatch(host):
        raise SettingsInvalid(f"The model's URL {text!r} names no server; {_FORM}.")
    if path is None or parts.query or parts.fragment:
        raise SettingsInvalid(f"The model's URL {text!r} names no model; {_FORM}.")
    named = f"[{host}]" if ":" in host else host
    return ServingUrl(
        origin=f"{parts.scheme}://{named}" + (f":{port}" if port is not None else ""),
        name=path["name"],
        pin=path["pin"] or "",
        credentials=unquote(parts.netloc.rpartition("@")[0]),
    )
