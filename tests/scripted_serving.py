"""A small stand-in for TensorFlow Serving's REST routes, with what no other server here has: versions, labels, faults.

It calls an image bright by its mean, as `tests.fakes.BrightnessClassifier` does.
"""

from __future__ import annotations

import json
import re
import socket
import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple

import numpy as np

from classifiers.protocol import Images
from tests.fakes import SIDE, BrightnessClassifier

_ROUTE = re.compile(r"/v1/models/(?P<name>[^/:]+)(?:/(?P<pin>versions|labels)/(?P<value>[^/:]+))?(?P<rest>[:/]\w+)?")


class Call(NamedTuple):
    """One call as it came."""

    method: str
    path: str
    body: bytes
    authorization: str | None
    connection: int


class Answer(NamedTuple):
    """What is said to the next call for predictions instead of the truth."""

    status: int = 200
    body: bytes = b""


class Hang(NamedTuple):
    """Say nothing until the client is gone."""


class Drip(NamedTuple):
    """Begin to answer, and go on byte by byte for ever."""


class DripHead(NamedTuple):
    """Send this before an answer, again and again for ever."""

    piece: bytes


class HangUp(NamedTuple):
    """Close the connection without a word."""


Fault = Answer | Hang | Drip | DripHead | HangUp


class ScriptedServing:
    """Serves one model, `fashion`, as told."""

    def __init__(self) -> None:
        self.versions: dict[int, str] = {3: "AVAILABLE"}
        self.labels: dict[str, int] = {}
        self.metadata: Callable[[int], dict[str, Any]] | None = lambda _: signature([-1, SIDE, SIDE, 1], [-1, 2])
        self.label_count = 2
        """The first two are dark and bright; nothing is called anything else."""
        self.faults: deque[Fault] = deque()
        self.calls: list[Call] = []
        self.port = 0
        self._server: _Server | None = None

    @property
    def url(self) -> str:
        """The model's address."""
        return f"http://127.0.0.1:{self.port}/v1/models/fashion"

    @property
    def paths(self) -> list[str]:
        """What was called, in order."""
        return [call.path for call in self.calls]

    @property
    def predicted(self) -> list[int]:
        """How many images each call for predictions carried."""
        return [len(json.loads(call.body)["instances"]) for call in self.calls if call.path.endswith(":predict")]

    def start(self) -> None:
        """Listen, at the port of before if there was one."""
        self._server = _Server(self.port, self)
        self.port = self._server.server_port
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()

    def stop(self) -> None:
        """Hang up on everybody and listen no more."""
        if self._server is not None:
            self._server.shutdown()
            self._server.hang_up()
            self._server.server_close()
            self._server = None

    def answer(self, method: str, path: str, body: bytes) -> Answer:
        """What TensorFlow Serving would say."""
        found = _ROUTE.fullmatch(path)
        if found is None or found["name"] != "fashion":
            return _error(404, f"Servable not found for request: Latest({found and found['name']})")
        version = self._version(found["pin"], found["value"])
        if version is None:
            return _error(404, f"Servable not found for request: Specific(fashion, {found['value']})")
        match method, found["rest"]:
            case "GET", None:
                shown = self.versions if found["pin"] is None else {version: self.versions[version]}
                return _json({"model_version_status": [_status(*each) for each in shown.items()]})
            case "GET", "/metadata" if self.metadata is not None:
                return _json(self.metadata(version))
            case "POST", ":predict":
                return _json({"predictions": self._classify(np.array(json.loads(body)["instances"], np.uint8))})
        return _error(404, "Not found")

    def _classify(self, images: Images) -> list[list[float]]:
        probabilities = BrightnessClassifier().classify(images)
        return np.pad(probabilities, [(0, 0), (0, self.label_count - 2)]).tolist()

    def _version(self, pin: str | None, value: str | None) -> int | None:
        if pin == "labels":
            return self.labels.get(str(value))
        if pin == "versions":
            return int(str(value)) if int(str(value)) in self.versions else None
        return max(self.versions, default=None)


@contextmanager
def scripted_serving() -> Iterator[ScriptedServing]:
    """Run one for the length of a block."""
    serving = ScriptedServing()
    serving.start()
    try:
        yield serving
    finally:
        serving.stop()


def signature(images: list[int], probabilities: list[int], *, dtype: str = "DT_UINT8") -> dict[str, Any]:
    """Metadata of a model with such an input and such an output, as TensorFlow Serving writes them."""
    served = {
        "inputs": {"images": _tensor(dtype, images)},
        "outputs": {"probabilities": _tensor("DT_FLOAT", probabilities)},
        "method_name": "tensorflow/serving/predict",
        "defaults": {},
    }
    start = {"inputs": {}, "outputs": {"__saved_model_init_op": _tensor("DT_INVALID", [])}, "method_name": ""}
    signatures = {"serving_default": served, "__saved_model_init_op": start}
    return {
        "model_spec": {"name": "fashion", "signature_name": "", "version": "3"},
        "metadata": {"signature_def": {"signature_def": signatures}},
    }


def _tensor(dtype: str, sides: list[int]) -> dict[str, Any]:
    dim = [{"size": str(side), "name": ""} for side in sides]
    return {"dtype": dtype, "tensor_shape": {"dim": dim, "unknown_rank": False}, "name": "x:0"}


def _status(version: int, state: str) -> dict[str, Any]:
    return {"version": str(version), "state": state, "status": {"error_code": "OK", "error_message": ""}}


def _json(content: dict[str, Any]) -> Answer:
    return Answer(200, json.dumps(content, indent=1).encode())


def _error(status: int, text: str) -> Answer:
    return Answer(status, json.dumps({"error": text}).encode())


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    allow_reuse_address = True

    def __init__(self, port: int, serving: ScriptedServing) -> None:
        self.serving = serving
        self.stopped = threading.Event()
        self.connections: list[socket.socket] = []
        super().__init__(("127.0.0.1", port), _Request)

    def get_request(self) -> tuple[socket.socket, Any]:
        """Remember each connection."""
        connection, address = super().get_request()
        self.connections.append(connection)
        return connection, address

    def hang_up(self) -> None:
        """End every connection."""
        self.stopped.set()
        for connection in self.connections:
            try:
                connection.shutdown(socket.SHUT_RDWR)
            except OSError:
                continue  # it was closed before

    def handle_error(self, request: Any, client_address: Any) -> None:  # noqa: ANN401 - socketserver's own signature
        """Nothing: clients that hang up are part of the tests."""


class _Request(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def do_GET(self) -> None:
        """Answer, or do what the script says."""
        serving = self.server.serving
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        serving.calls.append(
            Call(self.command, self.path, body, self.headers.get("Authorization"), self.client_address[1])
        )
        fault = serving.faults.popleft() if serving.faults and self.command == "POST" else None
        match fault:
            case Hang():
                self.server.stopped.wait(60)
                self.close_connection = True
            case Drip():
                self._drip()
            case DripHead():
                while not self.server.stopped.wait(0.02):
                    self.wfile.write(fault.piece)
            case HangUp():
                self.close_connection = True
            case Answer():
                self._send(fault)
            case None:
                self._send(serving.answer(self.command, self.path, body))

    do_POST = do_GET  # noqa: N815 - what http.server looks for

    def log_message(self, format: str, *args: object) -> None:
        """Nothing."""

    def _send(self, answer: Answer) -> None:
        self.send_response(answer.status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(answer.body)))
        self.end_headers()
        self.wfile.write(answer.body)

    def _drip(self) -> None:
        self.send_response(200)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        while not self.server.stopped.wait(0.02):
            self.wfile.write(b"1\r\n \r\n")
