"""The end of a delivery: what is published about it, and only then its ack."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from concurrent.futures import Future
from datetime import UTC, datetime

from handoff.brokers.dead_letters import dead_letter
from handoff.contracts.envelope import client_id_of, response_message
from handoff.contracts.messages import AnalysisResponse, FailureReason
from handoff.contracts.protocols import Broker, Message
from handoff.contracts.topology import Topology
from handoff.telemetry.tracing import NO_TRACER, Tracer
from ml_server.delivery_log import log_end
from ml_server.outcomes import Bury, Outcome, Refuse, Reply, Retry, code_of, retry_delay_s
from ml_server.recording import NO_RECORDER, End, Recorder
from ml_server.results import failed_response
from ml_server.traces import begin_process, end_process
from ml_server.work import Work


class Settlement:
    """Publishes outcomes and ends deliveries; counts those still open."""

    def __init__(
        self,
        broker: Broker,
        *,
        topology: Topology,
        worker: str,
        recorder: Recorder = NO_RECORDER,
        tracer: Tracer = NO_TRACER,
    ) -> None:
        self._broker = broker
        self._topology = topology
        self._worker = worker
        self._recorder = recorder
        self._tracer = tracer
        self._open_count = 0
        self._changed = threading.Condition()

    def hold(self, work: Work) -> None:
        """Count a delivery as open."""
        with self._changed:
            self._open_count += 1
        self._recorder.pulled(work)

    def wait_for_all(self) -> None:
        """Wait until no delivery is open."""
        with self._changed:
            self._changed.wait_for(lambda: self._open_count == 0)

    def settle(self, work: Work, outcome: Outcome) -> None:
        """Give a delivery its outcome; a second one, from another part of its images, is dropped."""
        if not work.end():
            return
        work.span = begin_process(self._tracer, work, topic=self._topology.requests_topic)
        match outcome:
            case Reply(response):
                self._publish_then_ack(work, [self._response(work, response)], End(response.status))
            case Refuse(code, reason):
                posts = [self._failure(work, _request_id(work), FailureReason(code, reason))]
                self._publish_then_ack(work, posts, End("failed", code, reason))
            case Bury(code, reason, request_id):
                posts = [self._dead_letter(work, code, reason)]
                if request_id is not None:
                    posts.append(self._failure(work, request_id, FailureReason(code, reason)))
                self._publish_then_ack(work, posts, End("dead-letter", code, reason))
            case Retry():
                self._retry(work, outcome)

    def _publish_then_ack(self, work: Work, posts: Sequence[tuple[str, Message]], end: End) -> None:
        """Publish everything; ack when the broker has it all, nack when it does not."""
        unpublished, errors = len(posts), list[BaseException]()
        lock = threading.Lock()

        def published(future: Future[str]) -> None:
            nonlocal unpublished
            with lock:
                unpublished -= 1
                errors.extend(filter(None, [future.exception()]))
                last = unpublished == 0
            if last and errors:
                delay_s, why = retry_delay_s(work.delivery.attempt), f"not published: {errors[0]}"
                self._retry(work, Retry(delay_s, code_of(errors[0]), why))
            elif last:
                work.delivery.ack()  # last: what was published is durable
                self._close(work, end)

        for topic, message in posts:
            self._broker.publish(topic, message).add_done_callback(published)

    def _retry(self, work: Work, outcome: Retry) -> None:
        work.delivery.nack(outcome.delay_s)
        self._close(work, End("retry", outcome.code, outcome.reason, outcome.delay_s))

    def _response(self, work: Work, response: AnalysisResponse) -> tuple[str, Message]:
        message = response_message(
            response,
            client_id=client_id_of(work.delivery.message),
            traceparent=work.span.traceparent,
            source=f"/workers/{self._worker}",
            now=datetime.now(UTC),
        )
        return self._topology.responses_topic, message

    def _failure(self, work: Work, request_id: str, error: FailureReason) -> tuple[str, Message]:
        return self._response(work, failed_response(work, request_id, error, worker=self._worker))

    def _dead_letter(self, work: Work, code: str, reason: str) -> tuple[str, Message]:
        letter = dead_letter(work.delivery.message, code=code, reason=reason, attempts=work.delivery.attempt)
        return self._topology.dead_letters_topic, letter

    def _close(self, work: Work, end: End) -> None:
        end_process(self._tracer, work, end)
        log_end(work, end, worker=self._worker)
        self._recorder.ended(work, end)
        with self._changed:
            self._open_count -= 1
            self._changed.notify_all()


def _request_id(work: Work) -> str:
    assert work.received is not None  # noqa: S101 - only a request that was parsed can be refused
    return work.received.request.request_id
