"""A Kafka cluster in memory, for what no healthy one does: it is silent, refuses commits and takes partitions away."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future
from types import SimpleNamespace

from confluent_kafka import AcknowledgeType, KafkaError, KafkaException, TopicPartition

from handoff.brokers.kafka.records import headers_of, key_of
from handoff.contracts.errors import FashionError
from handoff.contracts.protocols import Message

WITHIN_S = 20.0
SILENCE = KafkaError(KafkaError._TIMED_OUT, "no answer")

Headers = Iterable[tuple[str, str | bytes | None]]


def wait_until(true: Callable[[], object], *, within_s: float = WITHIN_S) -> None:
    """Look again and again until something is so; fail when it is not in time."""
    deadline = time.monotonic() + within_s
    while not true():
        assert time.monotonic() < deadline, f"not within {within_s} s"
        time.sleep(0.002)


class FakeRecord:
    """A record, or an error, as a consumer is given it; headers may be an exception, which reading them raises."""

    def __init__(
        self,
        value: bytes | None,
        *,
        partition: int = 0,
        offset: int = 0,
        key: bytes | None = None,
        headers: Headers | Exception = (),
        error: KafkaError | None = None,
        deliveries: int = 1,
    ) -> None:
        self.value = lambda: value
        self.partition = lambda: partition
        self.offset = lambda: offset
        self.key = lambda: key
        self.error = lambda: error
        self.delivery_count = lambda: deliveries
        self.timestamp = lambda: (1, 1_000 * (offset + 1))
        self._headers = headers

    def headers(self) -> list[tuple[str, str | bytes | None]] | None:
        """Name and value of each; None where there is none."""
        if isinstance(self._headers, Exception):
            raise self._headers
        return list(self._headers) or None


class FakeCluster:
    """Topics by partition, what groups committed, and what goes wrong."""

    def __init__(self, partition_counts: Mapping[str, int]) -> None:
        self.logs: dict[tuple[str, int], list[FakeRecord]] = {
            (topic, number): [] for topic, count in partition_counts.items() for number in range(count)
        }
        self.removed_below: dict[tuple[str, int], int] = {}
        """Offsets under this one were removed by retention."""
        self.committed: dict[tuple[str, str, int], tuple[int, str]] = {}
        self.commit_errors: deque[KafkaError] = deque()
        self.committed_errors: deque[KafkaError] = deque()
        self.unaware_count = 0
        """So many questions for a topic's partitions go to a broker that has not heard of it."""
        self.lost_commits = 0
        """So many asynchronous commits fail without a word."""
        self.may_commit = threading.Event()
        self.may_commit.set()
        self.committing = threading.Semaphore(0)
        """Released by each commit that waits for its answer."""
        self.is_silent = False
        self.unanswered: list[float] = []
        self.answer_count = 0
        self.changed = threading.Condition()

    def append(
        self, topic: str, message: Message, *, notes: Mapping[str, object] | None = None, partition: int = 0
    ) -> int:
        """Have a record at the end of a partition; its offset."""
        with self.changed:
            log = self.logs[topic, partition]
            headers = headers_of(message, notes or {})
            log.append(
                FakeRecord(message.body, partition=partition, offset=len(log), key=key_of(message), headers=headers)
            )
            self.changed.notify_all()
            return len(log) - 1

    def answer(self) -> None:
        """Fail as a client does whose cluster says nothing."""
        if self.is_silent:
            self.unanswered.append(time.monotonic())
            raise KafkaException(KafkaError(KafkaError._TIMED_OUT, "Failed to get an answer"))
        self.answer_count += 1


class FakeConsumer:
    """A consumer of a cluster in memory, used by one thread; tests tell it what happens in its group."""

    def __init__(self, cluster: FakeCluster, group: str, *, tells_end: bool = False) -> None:
        self.cluster = cluster
        self.group = group
        self.errors: deque[KafkaError] = deque()
        self.is_closed = False
        self._is_calling_back = False
        self.polls = 0
        self.paused: set[int] = set()
        self.subscriptions: list[list[str]] = []
        self.positions: dict[int, int] = {}
        self._topic = ""
        self._tells_end = tells_end
        self._told_end_at: dict[int, int] = {}
        self._news: deque[tuple[str, list[int]]] = deque()
        self._callbacks: dict[str, Callable[..., None]] = {}

    def tell(self, what: str, numbers: Iterable[int]) -> None:
        """Have a coming poll call `on_assign`, `on_revoke` or `on_lost` with these partitions."""
        with self.cluster.changed:
            self._news.append((what, list(numbers)))
            self.cluster.changed.notify_all()

    def subscribe(self, topics: list[str], **callbacks: Callable[..., None]) -> None:
        """Join: every partition is given in a coming poll."""
        self._use()
        (self._topic,) = topics
        self.subscriptions.append(topics)
        self._callbacks = callbacks
        self.tell("on_assign", [number for topic, number in self.cluster.logs if topic == self._topic])

    def unsubscribe(self) -> None:
        """Leave: every partition is taken in a coming poll."""
        self._use()
        self.tell("on_revoke", list(self.positions))

    def incremental_assign(self, partitions: list[TopicPartition]) -> None:
        """Fetch these, too."""
        self._use()
        for each in partitions:
            self._topic = each.topic
            low = self.cluster.removed_below.get((each.topic, each.partition), 0)
            high = len(self.cluster.logs[each.topic, each.partition])
            self.positions[each.partition] = each.offset if low <= each.offset <= high else low

    def assign(self, partitions: list[TopicPartition]) -> None:
        """Fetch these."""
        self.positions = {}
        self.incremental_assign(partitions)

    def unassign(self) -> None:
        """Fetch nothing."""
        self.positions = {}

    def assignment(self) -> list[TopicPartition]:
        """What is fetched."""
        self._use()
        return [TopicPartition(self._topic, number) for number in self.positions]

    def pause(self, partitions: list[TopicPartition]) -> None:
        """Fetch nothing of these for now."""
        self.paused |= {each.partition for each in partitions}

    def resume(self, partitions: list[TopicPartition]) -> None:
        """Fetch these again."""
        self.paused -= {each.partition for each in partitions}

    def list_topics(self, topic: str, timeout: float) -> SimpleNamespace:
        """The partitions of a topic."""
        del timeout
        self._use()
        assert not self._is_calling_back, "the library aborts the process for this call within a callback"
        self.cluster.answer()
        if self.cluster.unaware_count:
            self.cluster.unaware_count -= 1
            error = KafkaError(KafkaError.UNKNOWN_TOPIC_OR_PART)
            return SimpleNamespace(topics={topic: SimpleNamespace(partitions={}, error=error)})
        numbers = {number: None for name, number in self.cluster.logs if name == topic}
        return SimpleNamespace(topics={topic: SimpleNamespace(partitions=numbers, error=None)})

    def get_watermark_offsets(self, partition: TopicPartition, timeout: float) -> tuple[int, int]:
        """The first offset and the one after the last."""
        del timeout
        place = partition.topic, partition.partition
        self.cluster.answer()
        return self.cluster.removed_below.get(place, 0), len(self.cluster.logs[place])

    def committed(self, partitions: list[TopicPartition], timeout: float) -> list[TopicPartition]:
        """What the group has committed."""
        del timeout
        self._use()
        self.cluster.answer()
        if self.cluster.committed_errors:
            raise KafkaException(self.cluster.committed_errors.popleft())
        found = []
        for each in partitions:
            offset, metadata = self.cluster.committed.get((self.group, each.topic, each.partition), (-1001, ""))
            found.append(TopicPartition(each.topic, each.partition, offset, metadata))
        return found

    def commit(self, *, offsets: list[TopicPartition], asynchronous: bool) -> list[TopicPartition] | None:
        """Commit, or be refused; who waits for the answer may wait for long."""
        self._use()
        if not asynchronous:
            self.cluster.committing.release()
            assert self.cluster.may_commit.wait(WITHIN_S)
            self.cluster.answer()
            if self.cluster.commit_errors:
                raise KafkaException(self.cluster.commit_errors.popleft())
        elif self.cluster.is_silent:
            return None
        elif self.cluster.lost_commits:
            self.cluster.lost_commits -= 1
            return None
        for each in offsets:
            self.cluster.committed[self.group, each.topic, each.partition] = each.offset, each.metadata
        return None if asynchronous else offsets

    def poll(self, timeout: float) -> FakeRecord | None:
        """The next record, after what happened in the group; None after the time-out."""
        self._use()
        self.polls += 1
        deadline = time.monotonic() + timeout
        while True:
            while self._news:
                self._call_back(*self._news.popleft())
            with self.cluster.changed:
                found = self._next()
                left_s = deadline - time.monotonic()
                if found is not None or (left_s <= 0 and not self._news):
                    return found
                if not self._news:
                    self.cluster.changed.wait(left_s)

    def consume(self, count: int, timeout: float) -> list[FakeRecord]:
        """Several records."""
        found = (self.poll(timeout) for _ in range(count))
        return [each for each in iter(lambda: next(found, None), None) if each is not None]

    def close(self) -> None:
        """Leave for good: what is left is taken."""
        if not self.is_closed and self.positions and self._callbacks:
            try:
                self._call_back("on_revoke", list(self.positions))
            finally:
                self.is_closed = True
        self.is_closed = True

    def _next(self) -> FakeRecord | None:
        if self.errors:
            return FakeRecord(None, error=self.errors.popleft())
        for number, position in self.positions.items():
            log = self.cluster.logs[self._topic, number]
            if number in self.paused or self.cluster.is_silent:
                continue
            if position < len(log):
                self.positions[number] = position + 1
                return log[position]
            if self._tells_end and self._told_end_at.get(number) != position:
                self._told_end_at[number] = position
                end = KafkaError(KafkaError._PARTITION_EOF)
                return FakeRecord(None, partition=number, offset=position, error=end)
        return None

    def _call_back(self, what: str, numbers: list[int]) -> None:
        """As librdkafka does, which goes on where a callback fails, and then raises what it raised."""
        self._is_calling_back = True
        try:
            self._callbacks[what](self, [TopicPartition(self._topic, number) for number in numbers])
        finally:
            self._is_calling_back = False
            if what != "on_assign":
                # What was paused stays so, should it come back.
                self.positions = {each: at for each, at in self.positions.items() if each not in numbers}
            elif not set(numbers) <= set(self.positions):
                self.incremental_assign([TopicPartition(self._topic, number, 0) for number in numbers])

    def _use(self) -> None:
        if self.is_closed:
            raise RuntimeError("Consumer closed")


class FakeShareConsumer:
    """A member of a share group, given polls by tests; demands that a poll is acknowledged before the next one."""

    def __init__(self) -> None:
        self.acknowledged: list[tuple[int, AcknowledgeType]] = []
        """Offset of each record, and what was said of it."""
        self.commits: list[str] = []
        self.is_closed = False
        self.polls = 0
        self._given: deque[list[FakeRecord] | KafkaError] = deque()
        self._locked: set[tuple[int, int]] = set()
        self._changed = threading.Condition()

    def give(self, *records: FakeRecord | KafkaError) -> None:
        """Have a coming poll bring these, or fail."""
        with self._changed:
            for each in records:
                if isinstance(each, KafkaError):
                    self._given.append(each)
            self._given.append([each for each in records if isinstance(each, FakeRecord)])
            self._changed.notify_all()

    @property
    def locked_count(self) -> int:
        """Records that are this member's own."""
        return len(self._locked)

    def subscribe(self, topics: list[str]) -> None:
        """Join."""

    def set_acknowledgement_commit_callback(self, callback: Callable[..., None]) -> None:
        """Be told of commits; none fails here."""

    def poll(self, timeout: float) -> list[FakeRecord]:
        """The next records."""
        self._use()
        self.polls += 1
        assert not self._locked, "polled before all was acknowledged"
        with self._changed:
            self._changed.wait_for(lambda: self._given, timeout)
            found = self._given.popleft() if self._given else []
            if isinstance(found, KafkaError):
                raise KafkaException(found)
            self._locked = {(each.partition(), each.offset()) for each in found if each.error() is None}
            return found

    def acknowledge_offset(self, topic: str, partition: int, offset: int, how: AcknowledgeType) -> None:
        """Say what became of a record."""
        del topic
        self._use()
        if (partition, offset) not in self._locked:
            raise KafkaException(KafkaError(KafkaError._STATE, "not locked"))
        self._locked.discard((partition, offset))
        self.acknowledged.append((offset, how))

    def commit_async(self) -> None:
        """Send it."""
        self._use()
        self.commits.append("asynchronous")

    def commit_sync(self, timeout: float) -> None:
        """Send it and wait."""
        del timeout
        self._use()
        self.commits.append("synchronous")

    def close(self) -> None:
        """Leave."""
        self.is_closed = True

    def _use(self) -> None:
        if self.is_closed:
            raise RuntimeError("Consumer closed")


class FakeClients:
    """Connects to a cluster in memory."""

    def __init__(self, cluster: FakeCluster) -> None:
        self.cluster = cluster
        self.consumers: list[FakeConsumer] = []
        self.protocols: list[str] = []
        self.errors: deque[FashionError] = deque()

    def consumer(self, group: str, *, ack_deadline_s: float, classic: bool, tells_end: bool = False) -> FakeConsumer:
        """A member of a group."""
        del ack_deadline_s
        if self.errors:
            raise self.errors.popleft()
        self.protocols.append("classic" if classic else "consumer")
        self.consumers.append(FakeConsumer(self.cluster, group, tells_end=tells_end))
        return self.consumers[-1]


class FakePublisher:
    """Publishes to a cluster in memory: at once, or when it is told to."""

    def __init__(self, cluster: FakeCluster) -> None:
        self._cluster = cluster
        self.sent: list[tuple[str, Message, dict[str, object]]] = []
        self.errors: deque[FashionError] = deque()
        self.is_held = False
        self._held: list[tuple[Future[str], str, Message, dict[str, object]]] = []
        self._lock = threading.Lock()

    def publish(self, topic: str, message: Message, *, notes: Mapping[str, object] | None = None) -> Future[str]:
        """Publish, or fail as told."""
        confirmed: Future[str] = Future()
        with self._lock:
            self._held.append((confirmed, topic, message, dict(notes or {})))
        if not self.is_held:
            self.confirm()
        return confirmed

    def confirm(self) -> int:
        """Answer for all that was published; how many there were."""
        self.is_held = False
        with self._lock:
            held, self._held = self._held, []
        for confirmed, topic, message, notes in held:
            if self.errors:
                confirmed.set_exception(self.errors.popleft())
                continue
            self.sent.append((topic, message, notes))
            offset = self._cluster.append(topic, message, notes=notes) if (topic, 0) in self._cluster.logs else 0
            confirmed.set_result(f"0:{offset}")
        return len(held)

    @property
    def held_count(self) -> int:
        """Publications without an answer."""
        return len(self._held)

    def bodies(self, topic: str) -> list[bytes]:
        """What was published to a topic, but for what is only said of leases."""
        return [message.body for sent_to, message, _ in self.sent if sent_to == topic and message.body]


def messages(*texts: bytes) -> Sequence[Message]:
    """Messages that can be told apart."""
    return [Message(body=text) for text in texts]
