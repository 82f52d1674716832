"""The client: uploads batches, publishes requests, and receives the responses to its own."""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from datetime import UTC, datetime
from types import TracebackType
from typing import Literal, Self

import msgspec
import numpy as np
import numpy.typing as npt

from fashion_client.receiving import Receiver, once_each
from fashion_client.submission import Prepared, Submission
from handoff.brokers.urls import open_broker
from handoff.contracts.batches import Batch, encode_batch
from handoff.contracts.envelope import new_traceparent, request_message
from handoff.contracts.errors import InvalidBatch, PayloadTooLarge, RequestConflict, SettingsInvalid
from handoff.contracts.messages import AnalysisRequest, AnalysisResponse, PayloadFormat, RequestId
from handoff.contracts.objects import batch_uri
from handoff.contracts.protocols import Broker, Limits, Store
from handoff.contracts.topology import Topology
from handoff.stores.responses import read_response
from handoff.stores.urls import open_store
from handoff.telemetry.tracing import NO_TRACER, Span, Tracer, messaging_attributes, open_tracer

# Responses are small and handled at once; more of them in flight than this would only sit in memory.
RESPONSE_LIMITS = Limits(max_in_flight=256, max_images=1_000_000_000)

IMAGES_DIMENSIONS = (3, 4)

SERVICE_NAME = "fashion-client"
"""What its spans are filed under."""

Images = npt.NDArray[np.uint8]
Receive = Literal["own", "stream", "shared", "nothing"]


class Client:
    """A connection to the service; thread-safe.

    With `receive="own"` it has a response subscription of its own, which nobody else reads and which goes away with
    it; `"stream"` has one too, read through `responses`, for whoever keeps no future for each of a million requests.
    `"shared"` competes with the other receive consoles instead, and `"nothing"` only sends.

        with Client.open("embedded:var/queue.db", "file:var/store") as client:
            result = client.submit(images).result(timeout_s=30)
    """

    def __init__(
        self,
        broker: Broker,
        *,
        store: Store,
        topology: Topology,
        client_id: str,
        receive: Receive = "own",
        tracer: Tracer = NO_TRACER,
    ) -> None:
        """Subscribe, so that no response published from now on is missed; `open` also connects."""
        self.client_id = client_id
        self._tracer = tracer
        self._broker = broker
        self._store = store
        self._topology = topology
        self._receiver: Receiver | None = None
        self._subscription = None
        if receive == "own":
            own = broker.subscribe(topology.responses_for(client_id), RESPONSE_LIMITS)
            self._receiver = Receiver(own, tracer=tracer, topic=topology.responses_topic)
            self._receiver.start()
        elif receive != "nothing":
            spec = topology.responses if receive == "shared" else topology.responses_for(client_id)
            self._subscription = broker.subscribe(spec, RESPONSE_LIMITS)

    @classmethod
    def open(
        cls,
        broker_url: str,
        store_url: str,
        *,
        topology: Topology | None = None,
        client_id: str | None = None,
        receive: Receive = "own",
        telemetry_endpoint: str = "",
    ) -> Self:
        """Connect to the broker and the store that the URLs name; an OTLP endpoint gets a trace of each request.

        Raises: SettingsInvalid; MissingPackage; BrokerUnavailable
        """
        topology = topology or Topology()
        client_id = client_id or f"client-{uuid.uuid4().hex}"
        store = open_store(store_url)
        broker = open_broker(broker_url, topology)
        try:
            tracer = open_tracer(telemetry_endpoint, service=SERVICE_NAME, instance=client_id, broker_url=broker_url)
            return cls(broker, store=store, topology=topology, client_id=client_id, receive=receive, tracer=tracer)
        except BaseException:
            broker.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Flush what was published and leave; submissions without a response stay without."""
        self.stop_receiving()
        self._broker.close()
        self._tracer.close()

    def submit(
        self,
        images: Images | Batch,
        *,
        labels: Sequence[str | int] | None = None,
        image_ids: Sequence[str] | None = None,
        format: PayloadFormat = "csv",
        model: str | None = None,
        deadline: datetime | None = None,
        request_id: str | None = None,
    ) -> Submission:
        """Upload images and publish a request for them; returns when both are durable.

        `labels` are the true ones, where known: the response then says how many predictions were right. The same
        `request_id` again is the same request: nothing is uploaded or classified twice. The format `npy` carries pixels
        alone: the predictions' image ids are then the positions in the batch.

        Shapes: images uint8 (N, H, W) or (N, H, W, C)
        Raises: InvalidBatch: not such images; RequestConflict: the id was used for another batch; SettingsInvalid;
            StoreUnavailable; BrokerUnavailable
        """
        batch = images if isinstance(images, Batch) else _batch_of(images, image_ids=image_ids, labels=labels)
        request_id = _checked(request_id or uuid.uuid4().hex)
        with self.sending(request_id) as span:
            prepared = self.prepare(batch, format=format, model=model, deadline=deadline, request_id=request_id)
            is_new = self.upload(prepared)
            return self.publish(prepared.request, republished=not is_new, span=span)

    def sending(self, request_id: str) -> Span:
        """The span, as a `with` block, of all that is done until a request is published; its message carries it on."""
        topic = self._topology.requests_topic
        said = messaging_attributes("publish", topic=topic, request_id=request_id, client_id=self.client_id)
        return self._tracer.span(f"publish {topic}", kind="producer", attributes=said)

    def prepare(
        self,
        batch: Batch,
        *,
        format: PayloadFormat = "csv",
        model: str | None = None,
        deadline: datetime | None = None,
        request_id: str | None = None,
    ) -> Prepared:
        """Encode a batch and make the request for it; nothing leaves this process. The first step of `submit`.

        Raises: SettingsInvalid: the id is none
        """
        request_id = _checked(request_id or uuid.uuid4().hex)
        with self._tracer.span("encode"):
            data = encode_batch(batch, format=format)
        request = AnalysisRequest(
            request_id=request_id,
            batch_uri=batch_uri(self._store.root, request_id, format),
            format=format,
            image_count=len(batch),
            checksum=f"sha256:{hashlib.sha256(data).hexdigest()}",
            model=model,
            deadline=deadline,
            # npy carries pixels alone; the CSV formats carry the labels in the object.
            labels=batch.labels if format == "npy" else None,
        )
        return Prepared(request, data)

    def upload(self, prepared: Prepared) -> bool:
        """Store a prepared batch; False when it was there already. The second step of `submit`.

        Raises: RequestConflict: another batch is there; StoreUnavailable
        """
        uri = prepared.request.batch_uri
        with self._tracer.span("upload"):
            if self._store.create(uri, prepared.data):
                return True
        try:
            is_same = self._store.read(uri, max_bytes=len(prepared.data)) == prepared.data
        except PayloadTooLarge:
            is_same = False
        if not is_same:
            raise RequestConflict(
                f"The request id {prepared.request.request_id} was used for another batch; give this one an id of its"
                " own."
            )
        return False

    def publish(self, request: AnalysisRequest, *, republished: bool = False, span: Span | None = None) -> Submission:
        """Publish the request for a batch that lies in the store; `republished` where it may have been before.

        The last step of `submit`; returns when the broker has it. Outside of a `span` of `sending` it has its own.

        Raises: BrokerUnavailable; SettingsInvalid
        """
        if span is None:
            with self.sending(request.request_id) as its_own:
                return self.publish(request, republished=republished, span=its_own)
        expected = self._receiver.expect(request.request_id) if self._receiver else Future[AnalysisResponse]()
        self._publish(request, traceparent=span.traceparent, republished=republished)
        return Submission(request, response=expected, store=self._store)

    def submit_again(self, submission: Submission) -> None:
        """Publish a submission's request once more, where its response does not come; its images lie in the store.

        Raises: BrokerUnavailable
        """
        with self.sending(submission.request_id) as span:
            self._publish(submission.request, traceparent=span.traceparent, republished=True)

    def stored_response(self, request_id: str) -> AnalysisResponse | None:
        """Ask the store for a response whose message was lost; None while the request is not answered.

        Raises: StoreUnavailable
        """
        return read_response(self._store, request_id)

    def responses(self) -> Iterator[AnalysisResponse]:
        """Yield responses from the shared or the streamed subscription, each request once, until `stop_receiving`.

        A response is acked when the next one is asked for, so one whose handling failed comes again.

        Raises: SettingsInvalid: this client has neither, or it has gone; BrokerUnavailable
        """
        if self._subscription is None:
            raise SettingsInvalid(
                'Open the client with receive="shared" to read everybody\'s responses, or "stream" to read its own.'
            )
        return once_each(self._subscription, tracer=self._tracer, topic=self._topology.responses_topic)

    def stop_receiving(self) -> None:
        """End `responses`; callable from any thread."""
        if self._receiver is not None:
            self._receiver.close()
        if self._subscription is not None:
            self._subscription.close()

    def _publish(self, request: AnalysisRequest, *, traceparent: str | None, republished: bool = False) -> None:
        message = request_message(
            request,
            client_id=self.client_id,
            traceparent=traceparent or new_traceparent(),
            republished=republished,
            now=datetime.now(UTC),
        )
        with self._tracer.span("publish"):
            self._broker.publish(self._topology.requests_topic, message).result()


def _checked(request_id: str) -> str:
    try:
        return msgspec.convert(request_id, RequestId)
    except msgspec.ValidationError as error:
        raise SettingsInvalid(f"The request id {request_id!r} must be 1 to 128 letters, digits, '-' or '_'.") from error


def _batch_of(images: Images, *, image_ids: Sequence[str] | None, labels: Sequence[str | int] | None) -> Batch:
    if images.dtype != np.uint8 or images.ndim not in IMAGES_DIMENSIONS or not images.size:
        raise InvalidBatch(f"Images must be uint8 (N, H, W) or (N, H, W, C); these are {images.dtype} {images.shape}.")
    if images.ndim == IMAGES_DIMENSIONS[0]:
        images = images[..., np.newaxis]
    ids = [str(position) for position in range(len(images))] if image_ids is None else list(image_ids)
    return Batch(images, ids, None if labels is None else [str(label) for label in labels])
