"""An ONNX graph behind KServe, on 127.0.0.1; run by the Python of the environment that KServe has to itself.

build/kserve/bin/python tests/kserve_model.py GRAPH.onnx PORT [NAME]
"""

from __future__ import annotations

import asyncio
import sys

import numpy as np
import onnxruntime
from kserve import Model
from kserve.errors import InvalidInput
from kserve.model_repository import ModelRepository
from kserve.protocol.dataplane import DataPlane
from kserve.protocol.model_repository_extension import ModelRepositoryExtension
from kserve.protocol.rest.server import RESTServer

APP = "kserve.model_server:app"


class GraphModel(Model):
    """A graph that takes `images` and gives probabilities."""

    def __init__(self, name: str, path: str) -> None:
        super().__init__(name)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        self._session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        self._shape = tuple(self._session.get_inputs()[0].shape[1:])
        self.ready = True

    def predict(
        self, payload: dict[str, object], headers: object = None, response_headers: object = None
    ) -> dict[str, object]:
        """Classify the instances."""
        del headers, response_headers
        images = np.array(payload["instances"])
        if images.shape[1:] != self._shape:
            raise InvalidInput(f"instances of {images.shape[1:]}, not of {self._shape}")
        (probabilities,) = self._session.run(None, {"images": images.astype(np.uint8)})
        return {"predictions": probabilities.tolist()}


def main() -> None:
    """Serve until killed."""
    path, port, *named = sys.argv[1:]
    models = ModelRepository()
    models.update(GraphModel(named[0] if named else "fashion", path))
    server = RESTServer(APP, DataPlane(models), ModelRepositoryExtension(models), int(port))
    server.config.host = "127.0.0.1"  # it says 0.0.0.0 and takes no other word for it
    asyncio.run(server.start())


if __name__ == "__main__":
    main()
