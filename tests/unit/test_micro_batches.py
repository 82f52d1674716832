"""Images of many requests are cut and joined to micro-batches, in order, with a bound on what waits."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable

import numpy as np
import pytest

from ml_server.micro_batches import MicroBatches, Slice, join
from ml_server.work import Work
from tests.fakes import FakeDelivery, Message, images_of


def work_of(*levels: int) -> Work:
    """A decoded request with one image a level."""
    work = Work(FakeDelivery(Message(body=b"")))
    work.images, work.image_ids = images_of(*levels), [str(level) for level in levels]
    return work


def filled(*works: Work, size: int = 4, closed: bool = True) -> MicroBatches:
    """Micro-batches of these works."""
    batches = MicroBatches(size=size, max_waiting=1000)
    for work in works:
        batches.expect()
        batches.put(work)
    if closed:
        batches.close()
    return batches


def levels(slices: list[Slice]) -> list[int]:
    """The level of each image of a micro-batch."""
    return [int(image[0, 0, 0]) for image in join(slices)]


def taken(batches: MicroBatches) -> list[list[int]]:
    """Every micro-batch until the end."""
    found = []
    while slices := batches.take():
        found.append(levels(slices))
    return found


def test_small_requests_are_joined() -> None:
    """Requests fill a micro-batch in the order they came."""
    assert taken(filled(work_of(1), work_of(2, 3), work_of(4), work_of(5))) == [[1, 2, 3, 4], [5]]


def test_large_requests_are_cut() -> None:
    """A request over the size spreads over several, and the last one is shared with whoever comes next."""
    assert taken(filled(work_of(*range(10)), work_of(20, 21, 22))) == [
        [0, 1, 2, 3],
        [4, 5, 6, 7],
        [8, 9, 20, 21],
        [22],
    ]


@pytest.mark.parametrize("size", [1, 3, 4, 7, 100])
def test_nothing_is_lost_or_doubled(size: int) -> None:
    """Whatever the size: every image once, in order, each slice knowing its place in its request."""
    works = [work_of(*range(start, start + count)) for start, count in ((0, 1), (10, 9), (30, 4), (40, 12))]
    batches, seen = filled(*works, size=size), []
    while slices := batches.take():
        assert sum(len(part.images) for part in slices) <= size
        for part in slices:
            assert part.work.images is not None
            assert np.array_equal(part.work.images[part.start : part.stop], part.images)
            seen += part.images[:, 0, 0, 0].tolist()
    assert seen == [*range(1), *range(10, 19), *range(30, 34), *range(40, 52)]


def test_one_requests_images_are_not_copied() -> None:
    """Only joining needs a copy."""
    work = work_of(1, 2)
    (part,) = filled(work).take()
    assert join([part]) is part.images
    assert np.shares_memory(join([part]), work.images)


def test_a_part_filled_micro_batch_goes_when_nothing_is_coming() -> None:
    """With no other request under way there is nothing to wait for."""
    batches = filled(work_of(1), closed=False)
    assert levels(batches.take()) == [1]


def test_a_part_filled_micro_batch_goes_though_others_are_slow() -> None:
    """A request whose download takes long holds nobody up; it goes with the next micro-batch."""
    batches = filled(work_of(1), closed=False)
    batches.expect()
    assert levels(batches.take()) == [1]
    batches.put(work_of(2))
    assert levels(batches.take()) == [2]


def test_a_request_without_images_is_no_longer_expected() -> None:
    """What was refused leaves nothing behind to wait for."""
    batches = MicroBatches(size=4, max_waiting=10)
    batches.expect()
    batches.put(None)
    batches.close()
    assert batches.take() == []
    assert batches._coming == 0


def test_closing_ends_a_wait() -> None:
    """The classifying thread ends when nothing more will come."""
    batches, found = MicroBatches(size=4, max_waiting=10), [[Slice(work_of(1), images_of(1), 0)]]
    waiting = threading.Thread(target=lambda: found.append(batches.take()))
    waiting.start()
    batches.close()
    waiting.join(30)
    assert found[1:] == [[]]


def test_a_thread_whose_images_another_took_waits_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two threads linger over one request; one gets it, and the other gets the next one instead of ending."""
    monkeypatch.setattr("ml_server.micro_batches.LINGER_S", 30.0)
    batches, found = MicroBatches(size=4, max_waiting=10), queue.SimpleQueue[list[Slice]]()
    lingering, wait_for = threading.Semaphore(0), batches._changed.wait_for

    def noted_wait_for(predicate: Callable[[], object], timeout_s: float | None = None) -> object:
        if timeout_s is not None:
            lingering.release()
        return wait_for(predicate, timeout_s)

    monkeypatch.setattr(batches._changed, "wait_for", noted_wait_for)
    threads = [threading.Thread(target=lambda: found.put(batches.take())) for _ in range(2)]
    for _ in range(3):
        batches.expect()
    for thread in threads:
        thread.start()
    batches.put(work_of(1))
    assert lingering.acquire(timeout=30)
    assert lingering.acquire(timeout=30)
    batches.put(None)
    batches.put(None)
    assert levels(found.get(timeout=30)) == [1]
    batches.expect()
    batches.put(work_of(2))
    assert levels(found.get(timeout=30)) == [2]
    for thread in threads:
        thread.join(30)


def test_decoding_waits_when_enough_is_waiting() -> None:
    """Over the bound `put` waits until something was taken, so that memory is bounded whatever the backlog."""
    batches = MicroBatches(size=4, max_waiting=4)
    for work in (work_of(1, 2, 3), work_of(4, 5, 6)):
        batches.expect()
        batches.put(work)  # the first leaves room, the second goes over
    batches.expect()
    done = threading.Event()
    putting = threading.Thread(target=lambda: (batches.put(work_of(7)), done.set()))
    putting.start()
    assert not done.wait(0.02)
    assert levels(batches.take()) == [1, 2, 3, 4]
    assert done.wait(30)
    putting.join(30)
    batches.close()
    assert taken(batches) == [[5, 6, 7]]
