"""Flow control: how many messages a subscriber may ask for, given what it already holds."""

from __future__ import annotations

import itertools
import threading
from collections import deque
from collections.abc import Sequence

from handoff.contracts.envelope import IMAGE_COUNT_ATTRIBUTE
from handoff.contracts.protocols import Limits, Message


def image_count(message: Message) -> int:
    """Say how many images a message stands for; 1 where it does not say."""
    text = message.attributes.get(IMAGE_COUNT_ATTRIBUTE, "")
    return max(1, int(text)) if text.isascii() and text.isdigit() and len(text) < 10 else 1  # noqa: PLR2004 - under 2^31


# The size of coming messages is taken from so many of the last: few, so that a change is followed at once.
MEAN_OF = 8
# Of a window: a busy subscriber asks again when so much of it is free.
LEAST_ASKED_SHARE = 0.25


class Window:
    """The unacked messages of one subscriber, counted in messages and in images."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._changed = threading.Condition()
        self._messages = 0
        self._images = 0
        self._last_images: deque[int] = deque(maxlen=MEAN_OF)
        self._next_fits = True
        self._closed = False

    @property
    def messages(self) -> int:
        """Messages held now."""
        return self._messages

    def wait_for_room(self, timeout_s: float | None = None) -> int:
        """Wait until at least one more message fits; how many to ask for, or 0 after `close` or the timeout.

        Before anything is known of the messages' size it asks for one; after that for what fits by the last ones' mean,
        once that is a quarter of what would fit an empty window: asking for every single one would cost more than it.
        One message always fits in an empty window, whatever its size.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._closed or self._room() > 0, timeout_s)
            return 0 if self._closed else self._room()

    def fitting(self, messages: Sequence[Message]) -> int:
        """How many of these, from the first on, fit by the images they say they have; one always fits alone.

        For a broker that shows what it has before it is taken: what does not fit is left to others. Where not even
        the first one does, there is no room until something is given back.
        """
        with self._changed:
            spare_images = self._limits.max_images - self._images
            filled = itertools.accumulate(image_count(message) for message in messages)
            count = sum(1 for images in filled if images <= spare_images) or int(self._messages == 0)
            self._next_fits = count > 0 or not messages
            return min(count, len(messages))

    def take(self, message: Message) -> None:
        """Count a message as held."""
        images = image_count(message)
        with self._changed:
            self._messages += 1
            self._images += images
            self._last_images.append(images)

    def give_back(self, message: Message) -> None:
        """Count a message as no longer held."""
        with self._changed:
            self._messages -= 1
            self._images -= image_count(message)
            self._next_fits = True
            self._changed.notify_all()

    def close(self) -> None:
        """End every wait, now and later."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def _room(self) -> int:
        idle = self._messages == 0
        spare_messages = self._limits.max_in_flight - self._messages
        spare_images = self._limits.max_images - self._images
        if not self._next_fits:
            return 0
        if not self._last_images:
            return 1 if idle else 0
        mean_images = sum(self._last_images) / len(self._last_images)
        room = min(spare_messages, int(spare_images / mean_images))
        capacity = min(self._limits.max_in_flight, int(self._limits.max_images / mean_images))
        return room if room >= max(1, int(capacity * LEAST_ASKED_SHARE)) else int(idle)
