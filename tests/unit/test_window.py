"""A subscriber asks for what fits, counted in messages and in images."""

from __future__ import annotations

import threading

import pytest

from handoff.brokers.window import IMAGE_COUNT_ATTRIBUTE, Window, image_count
from handoff.contracts.protocols import Limits, Message


def of_images(count: int) -> Message:
    """A message that stands for so many images."""
    return Message(body=b"", attributes={IMAGE_COUNT_ATTRIBUTE: str(count)})


def room_of(window: Window) -> int:
    """What the window would ask for now."""
    return window.wait_for_room(timeout_s=0)


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("5", 5),
        ("0", 1),
        ("", 1),
        ("-3", 1),
        ("many", 1),
        ("\u0665", 1),
        ("1e3", 1),
        ("999999999", 999_999_999),
        ("9" * 10, 1),
    ],
)
def test_a_message_that_does_not_say_counts_as_one_image(text: str, count: int) -> None:
    """Whatever the attribute holds, a count comes of it."""
    assert image_count(Message(body=b"", attributes={IMAGE_COUNT_ATTRIBUTE: text})) == count
    assert image_count(Message(body=b"")) == 1


def test_the_first_question_is_for_one() -> None:
    """Nothing is known of the messages' size until the first has come."""
    window = Window(Limits(max_in_flight=10, max_images=100))
    assert room_of(window) == 1
    window.take(of_images(10))
    assert room_of(window) == 9


def test_images_bound_what_messages_do_not() -> None:
    """Messages of ten images each fill a window of forty images after four."""
    window = Window(Limits(max_in_flight=100, max_images=40))
    for left in (3, 2, 1, 0):
        window.take(of_images(10))
        assert room_of(window) == left
    assert window.messages == 4


def test_a_message_over_the_bound_is_taken_alone() -> None:
    """An empty window always has room for one; a window with an oversized message has none."""
    window, large = Window(Limits(max_in_flight=10, max_images=8)), of_images(1000)
    window.take(large)
    assert room_of(window) == 0
    window.give_back(large)
    assert room_of(window) == 1


def test_small_messages_are_asked_for_by_the_quarter() -> None:
    """A busy subscriber does not ask for each message that it has room for."""
    window, one = Window(Limits(max_in_flight=8, max_images=1000)), of_images(1)
    for _ in range(8):
        window.take(one)
    window.give_back(one)
    assert room_of(window) == 0
    window.give_back(one)
    assert room_of(window) == 2


def test_what_is_shown_is_taken_as_far_as_it_fits() -> None:
    """In its order, by the images that each message says it has; then there is no room until something goes."""
    window, small, large = Window(Limits(max_in_flight=100, max_images=40)), of_images(10), of_images(22)
    assert window.fitting([small, large, small]) == 2
    window.take(small)
    window.take(large)
    assert window.fitting([]) == 0
    assert window.fitting([small]) == 0
    assert room_of(window) == 0
    window.give_back(small)
    assert room_of(window) == 1
    assert window.fitting([small, small]) == 1


def test_what_fits_nowhere_is_taken_alone() -> None:
    """By an empty window; the next one waits."""
    window, large = Window(Limits(max_in_flight=100, max_images=40)), of_images(1000)
    assert window.fitting([large, large]) == 1
    window.take(large)
    assert window.fitting([large]) == 0


def test_what_is_given_back_makes_room() -> None:
    """Taking and giving back everything ends where it began."""
    window, one = Window(Limits(max_in_flight=2, max_images=1000)), of_images(1)
    window.take(one)
    window.take(one)
    assert room_of(window) == 0
    window.give_back(one)
    assert (room_of(window), window.messages) == (1, 1)
    window.give_back(one)
    assert (room_of(window), window.messages) == (2, 0)


def test_a_change_of_size_is_followed() -> None:
    """After a run of large messages the window asks for fewer, though it began with small ones."""
    window, small, large = Window(Limits(max_in_flight=1000, max_images=1000)), of_images(1), of_images(100)
    window.take(small)
    window.give_back(small)
    assert room_of(window) == 1000
    for _ in range(8):
        window.take(large)
        window.give_back(large)
    assert room_of(window) == 10


def test_a_waiter_wakes_when_there_is_room() -> None:
    """Giving back ends another thread's wait."""
    window, one = Window(Limits(max_in_flight=1)), of_images(1)
    window.take(one)
    found: list[int] = []
    waiter = threading.Thread(target=lambda: found.append(window.wait_for_room(30)))
    waiter.start()
    window.give_back(one)
    waiter.join(30)
    assert found == [1]


def test_a_closed_window_has_no_room() -> None:
    """Close ends the waits that are, and those to come."""
    window, one = Window(Limits(max_in_flight=1)), of_images(1)
    window.take(one)
    found: list[int] = []
    waiter = threading.Thread(target=lambda: found.append(window.wait_for_room(30)))
    waiter.start()
    window.close()
    waiter.join(30)
    window.give_back(one)
    assert found == [0]
    assert window.wait_for_room(30) == 0
