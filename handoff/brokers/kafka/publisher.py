"""Publishing to Kafka: in order, confirmed by every replica that counts, from librdkafka's own threads."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future

from confluent_kafka import KafkaError, KafkaException, Producer
from confluent_kafka import Message as KafkaMessage

from handoff.brokers.kafka.calls import ANSWER_WITHIN_S, error_of, meaning
from handoff.brokers.kafka.records import headers_of, key_of
from handoff.brokers.kafka.topics import Topics
from handoff.contracts.errors import BrokerUnavailable, FashionError, SettingsInvalid
from handoff.contracts.protocols import Message

Report = Callable[[KafkaError | None, KafkaMessage], None]

# Between two looks whether `close` was called; a report of a delivery wakes it at once.
_LOOK_S = 0.1


class Publisher:
    """Publishes messages, each confirmed by its future."""

    def __init__(self, producer: Producer, *, topics: Topics) -> None:
        self._producer = producer
        self._topics = topics
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._report, name="kafka-publisher", daemon=True)

    def start(self) -> None:
        """Begin to hear of deliveries."""
        self._thread.start()

    def publish(self, topic: str, message: Message, *, notes: Mapping[str, object] | None = None) -> Future[str]:
        """Publish a message, with what the adapter notes on it; the future's id is its partition and offset.

        The future raises also: MalformedMessage: larger than the topic takes
        """
        confirmed: Future[str] = Future()
        confirmed.set_running_or_notify_cancel()

        def report(error: KafkaError | None, sent: KafkaMessage) -> None:
            if error is not None:
                confirmed.set_exception(meaning(error, f"publish to {topic}"))
            else:
                confirmed.set_result(f"{sent.partition()}:{sent.offset()}")

        try:
            if self._closed.is_set():
                raise BrokerUnavailable(f"Cannot publish to {topic}: the connection is closed.")
            if not self._topics.has(topic):
                # Brokers make topics that are published to, with other settings than `fashion init`.
                raise SettingsInvalid(f"Cannot publish to {topic}: Kafka knows no such topic; run `fashion init`.")
            self._produce(topic, message, notes or {}, report)
        except KafkaException as problem:
            confirmed.set_exception(meaning(error_of(problem), f"publish to {topic}"))
        except FashionError as error:
            confirmed.set_exception(error)
        return confirmed

    def close(self) -> None:
        """Have everything confirmed or given up."""
        self._closed.set()
        if self._thread.is_alive():
            self._thread.join()
        self._producer.flush(2 * ANSWER_WITHIN_S)

    def _produce(self, topic: str, message: Message, notes: Mapping[str, object], report: Report) -> None:
        headers = headers_of(message, notes)
        give_up_at = time.monotonic() + ANSWER_WITHIN_S
        is_reporting = threading.current_thread() is self._thread
        while True:
            try:
                self._producer.produce(topic, message.body, key_of(message), headers=headers, on_delivery=report)
            except BufferError as error:
                # Reports free the room; the thread that brings them must not wait for itself.
                is_hopeless = self._closed.is_set() or is_reporting
                if is_hopeless or time.monotonic() > give_up_at:
                    raise BrokerUnavailable(f"Cannot publish to {topic}: too much waits to be sent.") from error
                self._closed.wait(_LOOK_S)
            else:
                # Closed in between, so that nobody else may bring its report; a report itself must not ask for others.
                if self._closed.is_set() and not is_reporting:
                    self._producer.flush(2 * ANSWER_WITHIN_S)
                return

    def _report(self) -> None:
        while not self._closed.is_set():
            self._producer.poll(_LOOK_S)
