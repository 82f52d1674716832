"""A worker written the plain way, to measure ours beside: one message at a time, pandas, Keras' `predict`, the ack.

Pub/Sub and Cloud Storage only. It serves the reference model of the artifact that ours serves, and answers alike.
"""

from __future__ import annotations

import io
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import keras
import numpy as np
import pandas as pd
from google.api_core.exceptions import DeadlineExceeded
from google.cloud import pubsub_v1, storage
from google.cloud.pubsub_v1.types import ReceivedMessage

from handoff.contracts.envelope import client_id_of, parse_request, response_message
from handoff.contracts.messages import AnalysisRequest, AnalysisResponse
from handoff.contracts.objects import predictions_uri
from handoff.contracts.protocols import Message
from handoff.settings import load_settings, model_path


class ReferenceWorker:
    """Takes one request, answers it, takes the next."""

    def __init__(self) -> None:
        settings = load_settings().settings
        self._root, self._topology = settings.store, settings.topology
        self._model = keras.saving.load_model(model_path(settings) / "model.keras", compile=False)
        self._subscriber, self._publisher = pubsub_v1.SubscriberClient(), pubsub_v1.PublisherClient()
        project = settings.broker.partition("://")[2]
        self._subscription = self._subscriber.subscription_path(project, self._topology.requests_subscription)
        self._responses = self._publisher.topic_path(project, self._topology.responses_topic)
        self._storage = storage.Client()

    def run(self) -> None:
        """Serve until the process is ended."""
        self._model.predict(np.zeros((1, *self._model.input_shape[1:]), np.uint8), verbose=0)
        print(f"worker=reference ready_s={time.process_time():.1f}", file=sys.stderr, flush=True)
        while True:
            try:
                pulled = self._subscriber.pull(subscription=self._subscription, max_messages=1)
            except DeadlineExceeded:
                continue
            for received in pulled.received_messages:
                self._serve(received)

    def _serve(self, received: ReceivedMessage) -> None:
        message = Message(received.message.data, dict(received.message.attributes))
        response = self._classify(parse_request(message).request)
        answer = response_message(
            response, client_id=client_id_of(message), traceparent=None, source="/reference", now=datetime.now(UTC)
        )
        self._publisher.publish(self._responses, answer.body, **answer.attributes).result()
        self._subscriber.acknowledge(subscription=self._subscription, ack_ids=[received.ack_id])

    def _classify(self, request: AnalysisRequest) -> AnalysisResponse:
        rows = pd.read_csv(io.BytesIO(self._blob(request.batch_uri).download_as_bytes()))
        pixels = rows.filter(like="pixel_").to_numpy(np.uint8)
        probabilities = self._model.predict(pixels.reshape(-1, *self._model.input_shape[1:]), verbose=0)
        label_ids = probabilities.argmax(axis=1)
        table = pd.DataFrame(probabilities, columns=[f"probability_{label}" for label in range(probabilities.shape[1])])
        table.insert(0, "label_id", label_ids)
        table.insert(0, "image_id", rows.get("image_id", pd.RangeIndex(len(rows))))
        uri = predictions_uri(self._root, request.request_id)
        self._blob(uri).upload_from_string(table.to_csv(index=False), content_type="text/csv")
        counts = {str(label): int(count) for label, count in enumerate(np.bincount(label_ids)) if count}
        return AnalysisResponse(
            request_id=request.request_id,
            status="succeeded",
            image_count=len(rows),
            worker="reference",
            attempt=1,
            predictions_uri=uri,
            label_counts=counts,
        )

    def _blob(self, uri: str) -> storage.Blob:
        bucket, _, name = uri.removeprefix("gs://").partition("/")
        return self._storage.bucket(bucket).blob(name)


if __name__ == "__main__":
    ReferenceWorker().run()
