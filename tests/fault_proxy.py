"""An HTTP proxy in front of one server that breaks what passes through it as it is told, for tests of real programs.

Requests have a Content-Length, as those of Cloud Storage's SDK do.

with FaultProxy("http://127.0.0.1:4443") as proxy:       # point the programs at proxy.url
    rule = proxy.fault("cut-body", method="GET", path="/download/", times=3)
    ...
    proxy.clear()
"""

from __future__ import annotations

import http.client
import random
import re
import socket
import struct
import threading
from collections import Counter
from collections.abc import Callable, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Literal, NamedTuple, Self
from urllib.parse import urlsplit

Kind = Literal[
    "status",  # answer with a status, and do not ask the server
    "hang",  # take the request and never answer
    "hang-body",  # send the answer's head and half of its body, and nothing more
    "cut-body",  # the same, then close the connection
    "lose-answer",  # let the server do it, then close the connection without its answer
    "truncate",  # half of the body, under its right length
    "wrong-bytes",  # one bit of the body changed
    "reset",  # reset the connection instead of reading the request
    "refuse",  # reset a connection as soon as it is made; such a rule knows no method and path
]

# What ends with its hop, RFC 9110 section 7.6.1; lengths and the host are written anew.
_OF_ONE_HOP = frozenset({"connection", "keep-alive", "transfer-encoding", "te", "upgrade", "content-length", "host"})
# Closing sends a reset, and drops what was not sent.
_RESET_ON_CLOSE = struct.pack("ii", 1, 0)
_UPSTREAM_WITHIN_S = 60.0


class Answer(NamedTuple):
    """What the server said."""

    status: int
    headers: list[tuple[str, str]]
    body: bytes


class Rule:
    """One fault, and what it met; `clear` ends it."""

    def __init__(self, kind: Kind, *, method: str, path: str, times: int | None, probability: float) -> None:
        self.kind = kind
        self.hits = 0
        self.status = 503
        self.headers: Mapping[str, str] = {}
        self._method = method
        self._path = re.compile(path)
        self._left = times
        self._probability = probability

    def clear(self) -> None:
        """Meet nothing more."""
        self._left = 0

    def meets(self, method: str, path: str, chance: Callable[[], float]) -> bool:
        """Whether it breaks this request, which then counts."""
        if self._left == 0 or self._method not in {"", method} or not self._path.search(path):
            return False
        if chance() >= self._probability:
            return False
        self.hits += 1
        if self._left is not None:
            self._left -= 1
        return True


class FaultProxy:
    """Passes requests on to one server, but for those that a rule meets; the first rule that does counts."""

    def __init__(self, upstream: str, *, seed: int = 0) -> None:
        self.upstream = urlsplit(upstream).netloc
        self.counts: Counter[str] = Counter()
        """How often each kind of fault was done, and "passed" what went through."""
        self._rules: list[Rule] = []
        self._chance = random.Random(seed)
        self._lock = threading.Lock()
        self._closing = threading.Event()
        self._connections: set[socket.socket] = set()
        self._server = _Server(self)
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(0.05,), name="fault-proxy", daemon=True
        )

    @property
    def url(self) -> str:
        """Where programs find it."""
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._closing.set()
        self._server.shutdown()
        self.cut()
        self._server.server_close()
        self._thread.join()

    def fault(
        self,
        kind: Kind,
        *,
        method: str = "",
        path: str = "",
        times: int | None = None,
        probability: float = 1.0,
        status: int = 503,
        headers: Mapping[str, str] | None = None,
    ) -> Rule:
        """From now on break requests of this method whose path and query match: so many of them, or of each a share.

        `status` and `headers` are those of the kind "status".
        """
        rule = Rule(kind, method=method, path=path, times=times, probability=probability)
        rule.status, rule.headers = status, headers or {}
        with self._lock:
            self._rules.append(rule)
        return rule

    def clear(self) -> None:
        """Break nothing more; what hangs goes on hanging until `cut`."""
        with self._lock:
            for rule in self._rules:
                rule.clear()
            self._rules = []

    def cut(self) -> None:
        """Reset every connection that is open."""
        with self._lock:
            connections = list(self._connections)
        for connection in connections:
            reset(connection)

    def met_by(self, method: str, path: str, *, on_connect: bool = False) -> Rule | None:
        """The rule that breaks this request, or this connection, if any does."""
        with self._lock:
            rules = [rule for rule in self._rules if (rule.kind == "refuse") == on_connect]
            met = next((rule for rule in rules if rule.meets(method, path, self._chance.random)), None)
            if met or not on_connect:
                self.counts[met.kind if met else "passed"] += 1
            return met

    def joined(self, connection: socket.socket) -> None:
        """Remember a connection, so that it can be cut."""
        with self._lock:
            self._connections.add(connection)

    def left(self, connection: socket.socket) -> None:
        """Forget a connection."""
        with self._lock:
            self._connections.discard(connection)

    def hang(self, connection: socket.socket) -> None:
        """Wait until the other side gives up, or the proxy is closed."""
        connection.settimeout(0.05)
        while not self._closing.is_set():
            try:
                if not connection.recv(65536):
                    return
            except TimeoutError:
                continue
            except OSError:
                return

    def ask(self, method: str, path: str, headers: list[tuple[str, str]], body: bytes) -> Answer:
        """Have the server answer."""
        upstream = http.client.HTTPConnection(self.upstream, timeout=_UPSTREAM_WITHIN_S)
        try:
            upstream.putrequest(method, path, skip_host=True, skip_accept_encoding=True)
            for name, value in [("Host", self.upstream), *headers, ("Content-Length", str(len(body)))]:
                upstream.putheader(name, value)
            upstream.endheaders(body)
            response = upstream.getresponse()
            # The server names itself where an upload goes on.
            said = [(name, value.replace(f"http://{self.upstream}", self.url)) for name, value in response.getheaders()]
            return Answer(response.status, said, response.read())
        finally:
            upstream.close()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 128

    def __init__(self, proxy: FaultProxy) -> None:
        self.proxy = proxy
        super().__init__(("127.0.0.1", 0), _Passage)

    def handle_error(self, *_: object) -> None:
        """A connection that broke is what this is for."""


class _Passage(BaseHTTPRequestHandler):
    """One connection of a program."""

    protocol_version = "HTTP/1.1"
    server: _Server

    def setup(self) -> None:
        """Join, unless connections are refused."""
        super().setup()
        self.proxy = self.server.proxy
        self.proxy.joined(self.connection)
        if self.proxy.met_by("", "", on_connect=True):
            reset(self.connection)

    def finish(self) -> None:
        """Leave."""
        self.proxy.left(self.connection)
        super().finish()

    def __getattr__(self, name: str) -> Callable[[], None]:
        """Take every method: `do_GET` and so on."""
        if name.startswith("do_"):
            return self._pass
        raise AttributeError(name)

    def log_message(self, format: str, *arguments: object) -> None:
        """Say nothing."""

    def _pass(self) -> None:
        rule = self.proxy.met_by(self.command, self.path)
        if rule and rule.kind == "reset":
            self._end()
            reset(self.connection)
            return
        body = self._body()
        match rule.kind if rule else None:
            case "status":
                assert rule is not None
                self._send(Answer(rule.status, list(rule.headers.items()), b'{"error": {"message": "a fault"}}'))
            case "hang":
                self.proxy.hang(self.connection)
                self._end()
            case kind:
                self._break(kind, self.proxy.ask(self.command, self.path, self._passed_headers(), body))

    def _break(self, kind: str | None, answer: Answer) -> None:
        half = answer.body[: len(answer.body) // 2]
        match kind:
            case "lose-answer":
                self._end()
            case "hang-body" | "cut-body":
                self._send(answer, only=half)
                if kind == "hang-body":
                    self.proxy.hang(self.connection)
                self._end()
            case "truncate":
                self._send(answer._replace(body=half))
            case "wrong-bytes" if answer.body:
                self._send(
                    answer._replace(body=half + bytes([answer.body[len(half)] ^ 1]) + answer.body[len(half) + 1 :])
                )
            case _:
                self._send(answer)

    def _body(self) -> bytes:
        return self.rfile.read(int(self.headers.get("Content-Length", 0)))

    def _passed_headers(self) -> list[tuple[str, str]]:
        return [(name, value) for name, value in self.headers.items() if name.lower() not in _OF_ONE_HOP]

    def _send(self, answer: Answer, *, only: bytes | None = None) -> None:
        self.send_response_only(answer.status)
        for name, value in answer.headers:
            if name.lower() not in _OF_ONE_HOP:
                self.send_header(name, value)
        self.send_header("Content-Length", str(len(answer.body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(answer.body if only is None else only)

    def _end(self) -> None:
        self.close_connection = True


def reset(connection: socket.socket) -> None:
    """End a connection in both directions; closed, it resets the other side."""
    try:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
        connection.shutdown(socket.SHUT_RDWR)
    except OSError:
        pass  # it is gone already
