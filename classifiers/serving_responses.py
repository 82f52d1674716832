"""HTTP responses that come in time or not at all: a read time-out bounds each piece, and pieces may come for ever."""

from __future__ import annotations

import http.client
import io
import socket
import time
from typing import Any

import urllib3
from urllib3.connection import HTTPConnection, HTTPSConnection


class _TimedStream(io.RawIOBase):
    """What a socket receives until a time limit is over."""

    def __init__(self, received: io.RawIOBase, connection: socket.socket) -> None:
        super().__init__()
        self._received = received
        self._connection = connection
        self._limit_s = connection.gettimeout()
        self._ends_at = time.monotonic() + (self._limit_s or 0.0)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:  # noqa: ANN401 - io's own signature
        if self._limit_s is None:
            return self._received.readinto(buffer)
        left_s = self._ends_at - time.monotonic()
        if left_s <= 0:
            raise TimeoutError("timed out")
        self._connection.settimeout(left_s)
        try:
            return self._received.readinto(buffer)
        finally:
            self._connection.settimeout(self._limit_s)  # of what is sent next

    def close(self) -> None:
        if not self.closed:
            self._received.close()
        super().close()


class _TimedResponse(http.client.HTTPResponse):
    """Status line, headers and body together within the connection's read time-out."""

    def __init__(self, sock: socket.socket, *args: Any, **options: Any) -> None:  # noqa: ANN401 - http.client's own
        super().__init__(sock, *args, **options)
        self.fp = io.BufferedReader(_TimedStream(self.fp.detach(), sock))


class _TimedConnection(HTTPConnection):
    response_class = _TimedResponse


class _TimedSecureConnection(HTTPSConnection):
    response_class = _TimedResponse


class _TimedPool(urllib3.HTTPConnectionPool):
    ConnectionCls = _TimedConnection


class _TimedSecurePool(urllib3.HTTPSConnectionPool):
    ConnectionCls = _TimedSecureConnection


def connections_to(origin: str, **options: Any) -> urllib3.HTTPConnectionPool:  # noqa: ANN401 - the pool's own
    """Connections to a server, made when they are needed."""
    parts = urllib3.util.parse_url(origin)
    kind = _TimedSecurePool if parts.scheme == "https" else _TimedPool
    return kind(parts.host or "", port=parts.port, **options)
