"""A wire between programs and one server, of any protocol over TCP, that a test freezes, cuts and takes away."""

from __future__ import annotations

import socket
import threading
from types import TracebackType
from typing import Self

from tests.fault_proxy import reset

_PIECE_BYTES = 65_536


class Wire:
    """Passes bytes on in both directions while it is whole."""

    def __init__(self, server: str) -> None:
        host, _, port = server.rpartition(":")
        self._server = (host, int(port))
        self._listening = socket.create_server(("127.0.0.1", 0), backlog=128)
        self._flowing = threading.Event()
        self._flowing.set()
        self._closed = False
        self._refusing = False
        self._ends: set[socket.socket] = set()
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self._accept, name="wire", daemon=True)

    @property
    def address(self) -> str:
        """Where programs find the server."""
        return f"127.0.0.1:{self._listening.getsockname()[1]}"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._closed = True
        self._flowing.set()
        self._listening.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self._listening.close()
        self.cut()

    def freeze(self) -> None:
        """Pass nothing on, and say nothing about it, until `thaw`."""
        self._flowing.clear()

    def thaw(self) -> None:
        """Pass on what has waited, and all that comes."""
        self._flowing.set()

    def cut(self) -> None:
        """Reset every connection."""
        with self._lock:
            ends = list(self._ends)
        for end in ends:
            reset(end)

    def take_away(self) -> None:
        """Reset every connection, and each new one, until `put_back`."""
        self._refusing = True
        self.cut()

    def put_back(self) -> None:
        """Take connections again."""
        self._refusing = False

    def _accept(self) -> None:
        while not self._closed:
            try:
                near, _ = self._listening.accept()
            except OSError:
                return
            if self._refusing:
                reset(near)
                near.close()
                continue
            far = socket.create_connection(self._server)
            with self._lock:
                self._ends |= {near, far}
            for source, target in ((near, far), (far, near)):
                threading.Thread(target=self._pass, args=(source, target), name="wire-pass", daemon=True).start()

    def _pass(self, source: socket.socket, target: socket.socket) -> None:
        try:
            while piece := source.recv(_PIECE_BYTES):
                self._flowing.wait()
                target.sendall(piece)
        except OSError:
            pass  # cut, at one end or the other
        reset(target)
        source.close()
        with self._lock:
            self._ends.discard(source)
