"""Dead letters as an operator meets them: read without taking any away, published again, or dropped.

Made of what every broker offers, so that each has it: letters are deliveries that are held while one looks at them.
"""

from __future__ import annotations

import hashlib
import queue
import threading
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from datetime import datetime
from typing import NamedTuple, Self

import msgspec
from msgspec import Struct

from handoff.brokers.dead_letters import Burial, burial_of, original_message
from handoff.contracts.envelope import REPUBLISHED_ATTRIBUTE, parse_request, time_of
from handoff.contracts.errors import DeadLetterUnknown, FashionError, MalformedMessage
from handoff.contracts.protocols import Broker, Delivery, Limits, Message, Subscription, SweptBroker
from handoff.contracts.topology import SubscriptionSpec

ID_DIGITS = 12

# Of a letter with its usual ~300 bytes of body some 4 KB are held: 40 MB for so many.
DEFAULT_LIMIT = 10_000
# The bodies held are bounded too, for a letter may have a megabyte.
MAX_HELD_BYTES = 256 * 1024 * 1024

# A service may answer a pull with a part of what it has, or with nothing; an adapter's pull takes up to 3 s.
SILENCE_S = 5.0
# Where no service is behind the broker, everything is at hand: this is for a machine that is busy with other things.
LOCAL_SILENCE_S = 1.0

# Publications that wait for their confirmation together.
IN_FLIGHT = 256

# Letters are counted, whatever they say of their images.
_ANY_IMAGES = 10**15


class Letter(Struct, frozen=True, kw_only=True):
    """One message that could not be served, and every delivery of it that is held: a broker may bury it twice."""

    digest: str
    message: Message
    """As it was before it became a dead letter."""
    burial: Burial
    request_id: str | None
    requested_at: datetime | None
    held: list[Delivery]

    @property
    def id(self) -> str:
        """What people call it by; the digest, which it begins, is what tells letters apart."""
        return self.digest[:ID_DIGITS]

    @property
    def is_malformed(self) -> bool:
        """Say whether no request can be made of it, however often it is tried."""
        return self.burial.code == MalformedMessage.code


class Replayed(NamedTuple):
    """What became of a letter: published again and acked; or still there, where the broker refuses the message."""

    letter: Letter
    refusal: str | None


class Reading:
    """Letters as they come, until a silence; what was not acked meanwhile is given back at the end.

    Two of them at once each see a part: what one holds, the other does not get.
    """

    def __init__(self, subscription: Subscription, *, limit: int, silence_s: float) -> None:
        self.letters: dict[str, Letter] = {}
        self.is_cut = False
        """Whether it ended at a bound, so that there may be more."""
        self._subscription = subscription
        self._limit = limit
        self._silence_s = silence_s
        self._arrived: queue.SimpleQueue[Delivery | FashionError | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._take, name="dead-letters", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._subscription.close()
        self._thread.join()
        while not self._arrived.empty():
            arrived = self._arrived.get()
            if arrived is not None and not isinstance(arrived, FashionError):
                arrived.nack()
        for letter in self.letters.values():
            for delivery in letter.held:
                delivery.nack()  # nothing where it was acked

    def __iter__(self) -> Iterator[Letter]:
        """Yield each letter when its first copy comes.

        Raises: BrokerUnavailable; SettingsInvalid: the subscription has gone
        """
        while (delivery := self._next()) is not None:
            letter = letter_of(delivery)
            known = self.letters.setdefault(letter.digest, letter)
            if known is letter:
                yield letter
            else:
                known.held.append(delivery)
        self._subscription.close()  # what is held stays so, and nothing more comes while one decides about it

    def _next(self) -> Delivery | None:
        try:
            # Only the wait counts as silence: a reader that is slow, or a pager that waits, loses nothing.
            arrived = self._arrived.get(timeout=self._silence_s)
        except queue.Empty:
            return None
        if isinstance(arrived, FashionError):
            raise arrived
        return arrived

    def _take(self) -> None:
        count = size_bytes = 0
        try:
            for delivery in self._subscription:
                self._arrived.put(delivery)
                count, size_bytes = count + 1, size_bytes + len(delivery.message.body)
                if count >= self._limit or size_bytes >= MAX_HELD_BYTES:
                    self.is_cut = True
                    break
        except FashionError as error:
            self._arrived.put(error)
        finally:
            self._arrived.put(None)


def read(
    broker: Broker, spec: SubscriptionSpec, *, limit: int = DEFAULT_LIMIT, silence_s: float | None = None
) -> Reading:
    """Begin to read the dead letters; without `silence_s` it is what the broker needs.

    Raises: SettingsInvalid: no such subscription; BrokerUnavailable
    """
    if silence_s is None:
        silence_s = LOCAL_SILENCE_S if isinstance(broker, SweptBroker) else SILENCE_S
    # Twice as many: a subscriber may ask again only when a good part of its window is free.
    limits = Limits(max_in_flight=2 * limit, max_images=_ANY_IMAGES)
    return Reading(broker.subscribe(spec, limits), limit=limit, silence_s=silence_s)


def letter_of(delivery: Delivery) -> Letter:
    """Read a dead letter."""
    message = original_message(delivery.message)
    return Letter(
        digest=_digest(message),
        message=message,
        burial=burial_of(delivery.message),
        request_id=_request_id(message),
        requested_at=time_of(message),
        held=[delivery],
    )


def chosen(letters: Mapping[str, Letter], ids: Iterable[str]) -> tuple[list[Letter], list[str]]:
    """The letters that these ids, or their first digits, name; and the ids that name none.

    Raises: DeadLetterUnknown: one names several
    """
    found: dict[str, Letter] = {}
    unknown = []
    for given in ids:
        digests = [digest for digest in letters if digest.startswith(given.lower())]
        if len(digests) > 1:
            raise DeadLetterUnknown(
                f"'{given}' begins the ids of {len(digests)} dead letters; give more digits of"
                f" {' or '.join(_distinct(digests[:3]))}."
            )
        if not digests:
            unknown.append(given)
        found |= {digest: letters[digest] for digest in digests}
    return list(found.values()), unknown


def replay(broker: Broker, topic: str, letters: Iterable[Letter]) -> Iterator[Replayed]:
    """Publish each letter's message once more, and ack the letter when the broker has the message for good.

    Who is interrupted between the two finds the letter again; a worker then finds the answer that is stored.

    Raises: BrokerUnavailable; SettingsInvalid: no such topic
    """
    published = deque[tuple[Letter, Future[str]]]()
    for letter in letters:
        published.append((letter, broker.publish(topic, republication(letter.message))))
        if len(published) >= IN_FLIGHT:
            yield _acked(*published.popleft())
    while published:
        yield _acked(*published.popleft())


def republication(message: Message) -> Message:
    """The message to publish: as it was, with a word that it was published before, so that its answer is looked for."""
    return Message(message.body, {**message.attributes, REPUBLISHED_ATTRIBUTE: "1"}, message.key)


def drop(letter: Letter) -> None:
    """End a letter for good, with all its copies."""
    for delivery in letter.held:
        delivery.ack()


def _acked(letter: Letter, confirmed: Future[str]) -> Replayed:
    try:
        confirmed.result()
    except MalformedMessage as error:  # over a limit of this broker's, and so of no other letter's concern
        return Replayed(letter, str(error))
    drop(letter)
    return Replayed(letter, None)


def _digest(message: Message) -> str:
    """Tell messages apart by all that was published; once published again, a message is the same one still."""
    attributes = sorted((name, value) for name, value in message.attributes.items() if name != REPUBLISHED_ATTRIBUTE)
    digest = hashlib.sha256(msgspec.json.encode((len(message.body), attributes)))
    digest.update(message.body)
    return digest.hexdigest()


def _request_id(message: Message) -> str | None:
    try:
        return parse_request(message).request.request_id
    except MalformedMessage as error:
        return error.request_id


def _distinct(digests: Sequence[str]) -> list[str]:
    """As few digits as tell these apart, and no fewer than ids are shown with."""
    digits = next(
        n for n in range(ID_DIGITS, len(digests[0]) + 1) if len({each[:n] for each in digests}) == len(digests)
    )
    return [each[:digits] for each in digests]
