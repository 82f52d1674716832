"""HTTP for probes and scrapers: `/livez`, `/readyz`, `/metrics`, beside the worker and never in its way."""

from __future__ import annotations

import logging
import socket
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple

from handoff.contracts.errors import SettingsInvalid

_log = logging.getLogger(__name__)

# Probes and scrapers come one by one; more than this at a time are hung up on.
MOST_CONNECTIONS = 16
# How long one may take to say what it wants, and to take the answer.
CONNECTION_TIMEOUT_S = 5.0
# How long the end of a worker may wait for the server's.
END_WITHIN_S = 0.1


class Answer(NamedTuple):
    """What a path says now."""

    status: HTTPStatus
    body: bytes
    content_type: str = "text/plain; charset=utf-8"


Pages = Mapping[str, Callable[[], Answer]]


@contextmanager
def health_served(host: str, port: int, pages: Pages) -> Iterator[int]:
    """Answer on a port of this machine until the block ends; yields the port.

    Raises: SettingsInvalid: it cannot be listened on
    """
    try:
        server = _Server((host, port), pages)
    except OSError as error:
        why = error.strerror or error
        raise SettingsInvalid(
            f"Health cannot be asked at {host} port {port} ({why}); set another worker.health_port or health_host."
        ) from error
    thread = threading.Thread(target=server.serve_forever, args=(END_WITHIN_S,), name="health", daemon=True)
    thread.start()
    try:
        yield server.server_port
    finally:
        server.shutdown()
        server.server_close()


class _Server(ThreadingHTTPServer):
    """A thread a connection, a few at a time; none of them keeps the process from ending."""

    daemon_threads = True
    block_on_close = False
    request_queue_size = 64

    def __init__(self, address: tuple[str, int], pages: Pages) -> None:
        self.pages = pages
        self._free = threading.BoundedSemaphore(MOST_CONNECTIONS)
        self.address_family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
        super().__init__(address, _Request)

    def process_request(self, request: Any, client_address: Any) -> None:  # noqa: ANN401 - socketserver's own signature
        """Answer in a thread, unless too many are at it."""
        if self._free.acquire(blocking=False):
            super().process_request(request, client_address)
        else:
            self.shutdown_request(request)

    def process_request_thread(self, request: Any, client_address: Any) -> None:  # noqa: ANN401 - the same
        """Answer."""
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._free.release()

    def handle_error(self, request: Any, client_address: Any) -> None:  # noqa: ANN401, ARG002 - the same
        """Say in a line what would otherwise be a traceback: most often, that somebody hung up."""
        _log.debug("a health request was not answered", exc_info=True)

    def server_bind(self) -> None:
        """Bind without the reverse look-up of the host's name, which can take seconds and serves nothing here."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.socket.bind(self.server_address)
        self.server_address = self.socket.getsockname()
        self.server_name, self.server_port = str(self.server_address[0]), int(self.server_address[1])


class _Request(BaseHTTPRequestHandler):
    """One request."""

    timeout = CONNECTION_TIMEOUT_S
    server: _Server

    def do_GET(self) -> None:
        """Answer with the page."""
        answer = self._answer()
        self.send_response(answer.status)
        self.send_header("Content-Type", answer.content_type)
        self.send_header("Content-Length", str(len(answer.body)))
        self.send_header("Cache-Control", "no-store")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(answer.body)

    do_HEAD = do_GET  # noqa: N815 - what http.server looks for

    def log_message(self, format: str, *args: object) -> None:
        """Nothing: a probe comes every few seconds."""

    def version_string(self) -> str:
        """The Server header, without versions."""
        return "fashion-worker"

    def _answer(self) -> Answer:
        page = self.server.pages.get(self.path.partition("?")[0])
        if page is None:
            return Answer(HTTPStatus.NOT_FOUND, f"There are {', '.join(self.server.pages)}.\n".encode())
        return page()
