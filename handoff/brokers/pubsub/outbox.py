"""What goes to the service from one thread, off the busy ones, and together what came while the last call was out."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")


class Outbox(Generic[T]):
    """Hands what is put in, in its order, to `send` on a thread of its own: an idle one at once, a busy one in groups.

    `send` may take long, and must not raise.
    """

    def __init__(
        self, send: Callable[[list[T]], None], *, name: str, linger_s: float = 0.0, max_waiting: float = float("inf")
    ) -> None:
        """`linger_s` is how long items wait for company; `put` waits while `max_waiting` is exceeded, in its sizes."""
        self._send = send
        self._linger_s = linger_s
        self._max_waiting = max_waiting
        self._changed = threading.Condition()
        self._items: list[T] = []
        self._waiting = 0.0
        self._urgent = False
        self._closed = False
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        """Begin to send."""
        self._thread.start()

    def put(self, item: T, *, size: float = 1.0, urgent: bool = False) -> bool:
        """Have this sent soon, or without lingering where it is urgent; False after `stop`."""
        with self._changed:
            self._changed.wait_for(lambda: self._closed or self._waiting <= self._max_waiting)
            if self._closed:
                return False
            self._items.append(item)
            self._waiting += size
            self._urgent |= urgent
            self._changed.notify_all()
            return True

    def stop(self) -> None:
        """Send everything put in so far, then end."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        self._thread.join()

    def _run(self) -> None:
        while items := self._next_items():
            self._send(items)

    def _next_items(self) -> list[T]:
        with self._changed:
            self._changed.wait_for(lambda: self._items or self._closed)
            if self._linger_s:
                self._changed.wait_for(lambda: self._urgent or self._closed, self._linger_s)
            items, self._items = self._items, []
            self._waiting, self._urgent = 0.0, False
            self._changed.notify_all()
            return items
