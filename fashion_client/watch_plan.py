"""What `fashion watch` writes down before it sends: a request with its files, and whose journal it is."""

from __future__ import annotations

import secrets

from msgspec import Struct, field

from fashion_client.image_blocks import Reading
from fashion_client.request_plan import Deployment
from fashion_client.watch_scan import Identity
from handoff.contracts.messages import AnalysisRequest


class WatchedFile(Struct, frozen=True, kw_only=True):
    """One file as its bytes were published."""

    name: str
    """Below the watched folder; the image's id."""
    size_bytes: int
    mtime_ns: int
    inode: int
    sha256: str
    label: str = ""
    destination: str = ""
    """Where it goes, below the folder of the published; chosen once the request is published."""

    @property
    def identity(self) -> Identity:
        """By what it is known to be the same still."""
        return Identity(self.size_bytes, self.mtime_ns, self.inode)


class Plan(Struct, frozen=True, kw_only=True):
    """One request, and all it takes to make it again."""

    request: AnalysisRequest
    files: list[WatchedFile]
    reading: Reading

    @property
    def request_id(self) -> str:
        """The request's id."""
        return self.request.request_id


class Binding(Struct, frozen=True, kw_only=True):
    """What a journal belongs to."""

    input: str
    published: str
    deployment: Deployment
    client_id: str = field(default_factory=lambda: f"watch-{secrets.token_hex(16)}")

    def is_for(self, other: Binding) -> bool:
        """Whether both are about the same folders and deployment."""
        return (self.input, self.published, self.deployment) == (other.input, other.published, other.deployment)
