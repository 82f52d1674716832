"""A server that classifies nothing and answers every call after the same time, any number of them at once.

It shows what a worker can send to a server, and read from it, that has cores to spare:
python bench/delayed_serving.py PORT DELAY_S
"""

from __future__ import annotations

import json
import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

LABEL_COUNT = 10
# As long as a softmax' digits are.
ROW = json.dumps([0.0123456789] * (LABEL_COUNT - 1) + [1 - 0.0123456789 * (LABEL_COUNT - 1)])


class Request(BaseHTTPRequestHandler):
    """One call."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        """Be ready; of versions and metadata nothing is told."""
        self._send(b'{"ready": true}')

    def do_POST(self) -> None:
        """Answer for as many images as were sent, each of which ends in three brackets."""
        body = self.rfile.read(int(self.headers["Content-Length"]))
        time.sleep(float(sys.argv[2]))
        rows = ",".join([ROW] * (body.count(b"]]],") + 1))
        self._send(f'{{"predictions": [{rows}]}}'.encode())

    def log_message(self, format: str, *args: object) -> None:
        """Nothing."""

    def _send(self, body: bytes) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


if __name__ == "__main__":
    ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Request).serve_forever()
