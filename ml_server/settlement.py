"""The end of a delivery: what is published about it, and only then its ack."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Sequence
from concurrent.futures import Future
from datetime import UTC, datetime

from handoff.brokers.dead_letters import dead_letter
from handoff.contracts.envelope import client_id_of, response_message
from handoff.contracts.messages import AnalysisResponse, FailureReason
from handoff.contracts.protocols import Broker, Message
from handoff.contracts.topology import Topology
from ml_server.outcomes import Bury, Outcome, Refuse, Reply, Retry, retry_delay_s
from ml_server.results import failed_response
from ml_server.work import Work

_log = logging.getLogger(__name__)


class Settlement:
    """Publishes outcomes and ends deliveries; counts those still open."""

    def __init__(self, broker: Broker, *, topology: Topology, worker: str) -> None:
        self._broker = broker
        self._topology = topology
        self._worker = worker
        self._open_count = 0
        self._changed = threading.Condition()

    def hold(self) -> None:
        """Count a delivery as open."""
        with self._changed:
            self._open_count += 1

    def wait_for_all(self) -> None:
        """Wait until no delivery is open."""
        with self._changed:
            self._changed.wait_for(lambda: self._open_count == 0)

    def settle(self, work: Work, outcome: Outcome) -> None:
        """Give a delivery its outcome; a second one, from another part of its images, is dropped."""
        if not work.end():
            return
        match outcome:
            case Reply(response):
                self._publish_then_ack(work, [self._response(work, response)], f"outcome={response.status}")
            case Refuse(code, reason):
                posts = [self._failure(work, _request_id(work), FailureReason(code, reason))]
                self._publish_then_ack(work, posts, f"outcome=failed code={code} reason={reason!r}")
            case Bury(code, reason, request_id):
                posts = [self._dead_letter(work, code, reason)]
                if request_id is not None:
                    posts.append(self._failure(work, request_id, FailureReason(code, reason)))
                self._publish_then_ack(work, posts, f"outcome=dead-letter code={code} reason={reason!r}")
            case Retry():
                self._retry(work, outcome)

    def _publish_then_ack(self, work: Work, posts: Sequence[tuple[str, Message]], account: str) -> None:
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
                self._retry(work, Retry(retry_delay_s(work.delivery.attempt), f"not published: {errors[0]}"))
            elif last:
                work.delivery.ack()  # last: what was published is durable
                self._close(work, account)

        for topic, message in posts:
            self._broker.publish(topic, message).add_done_callback(published)

    def _retry(self, work: Work, outcome: Retry) -> None:
        work.delivery.nack(outcome.delay_s)
        self._close(work, f"outcome=retry delay_s={outcome.delay_s:.1f} reason={outcome.reason!r}")

    def _response(self, work: Work, response: AnalysisResponse) -> tuple[str, Message]:
        message = response_message(
            response,
            client_id=client_id_of(work.delivery.message),
            traceparent=work.received.traceparent if work.received else None,
            source=f"/workers/{self._worker}",
            now=datetime.now(UTC),
        )
        return self._topology.responses_topic, message

    def _failure(self, work: Work, request_id: str, error: FailureReason) -> tuple[str, Message]:
        return self._response(work, failed_response(work, request_id, error, worker=self._worker))

    def _dead_letter(self, work: Work, code: str, reason: str) -> tuple[str, Message]:
        letter = dead_letter(work.delivery.message, code=code, reason=reason, attempts=work.delivery.attempt)
        return self._topology.dead_letters_topic, letter

    def _close(self, work: Work, account: str) -> None:
        total_ms = (time.perf_counter() - work.pulled_at) * 1e3
        request_id = work.received.request.request_id if work.received else "?"
        images = work.received.request.image_count if work.received else 0
        _log.info(
            "request=%s attempt=%d images=%d total_ms=%.1f %s",
            request_id,
            work.delivery.attempt,
            images,
            total_ms,
            account,
        )
        with self._changed:
            self._open_count -= 1
            self._changed.notify_all()


def _request_id(work: Work) -> str:
    assert work.received is not None  # noqa: S101 - only a request that was parsed can be refused
    return work.received.request.request_id
