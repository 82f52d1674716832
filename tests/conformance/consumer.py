"""A subscriber in a thread of its own, so that a test can wait for deliveries with a bound."""

from __future__ import annotations

import queue
import threading
import time

from handoff.contracts.protocols import Delivery, Subscription


class Consumer:
    """Iterates a subscription and keeps what it yields for the test to take."""

    def __init__(self, subscription: Subscription) -> None:
        self.subscription = subscription
        self._deliveries: queue.Queue[Delivery] = queue.Queue()
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def take(self, count: int = 1, *, within_s: float = 30.0) -> list[Delivery]:
        """Wait for so many deliveries; fewer fail the test."""
        taken = self.take_up_to(count, within_s=within_s)
        assert len(taken) == count, f"{len(taken)} of {count} deliveries came within {within_s} s"
        return taken

    def take_up_to(self, count: int, *, within_s: float) -> list[Delivery]:
        """Wait for so many deliveries, or for as long as said."""
        deadline, taken = time.monotonic() + within_s, []
        try:
            while len(taken) < count:
                taken.append(self._deliveries.get(timeout=max(0.001, deadline - time.monotonic())))
        except queue.Empty:
            pass
        return taken

    def ends(self, *, within_s: float = 30.0) -> bool:
        """Say whether the iteration ends in time, without an error."""
        self._thread.join(within_s)
        return not self._thread.is_alive() and self._error is None

    def _run(self) -> None:
        try:
            for delivery in self.subscription:
                self._deliveries.put(delivery)
        except BaseException as error:
            self._error = error
            raise


def bodies(deliveries: list[Delivery]) -> list[bytes]:
    """What was published, sorted, for no broker promises an order."""
    return sorted(delivery.message.body for delivery in deliveries)
