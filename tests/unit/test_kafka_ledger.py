"""A partition's ledger: whatever was done, open or delivered before is known again from what was committed."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from handoff.brokers.kafka.ledger import MAX_METADATA_CHARACTERS, Ledger

FIRST = 1_000

Steps = list[tuple[str, Any]]


class Model:
    """What the ledger of a partition should know, as sets and counts."""

    def __init__(self) -> None:
        self.attempts: dict[int, int] = {}
        self.done: set[int] = set()
        self.next = FIRST

    def apply(self, ledger: Ledger, step: tuple[str, Any]) -> None:
        """Do a step to both; one that is about an open message is about none where none is open."""
        what, number = step
        open_ones = sorted(self.attempts)
        if what == "fetch":
            offset = self.next + number  # what compaction and transactions leave out is no message
            self.done |= set(range(self.next, offset))
            self.next, self.attempts[offset] = offset + 1, 1
            assert ledger.begin(offset) == 1
        elif open_ones:
            offset = open_ones[number % len(open_ones)]
            if what == "again":
                self.attempts[offset] += 1
                assert ledger.begin(offset) == self.attempts[offset]
            elif what == "undo":
                self.attempts[offset] = max(0, self.attempts[offset] - 1)
                ledger.undo(offset)
            else:
                del self.attempts[offset]
                self.done.add(offset)
                ledger.end(offset)


steps = st.lists(st.tuples(st.sampled_from(["fetch", "fetch", "again", "undo", "end", "end"]), st.integers(0, 3)))


@given(steps=steps)
def test_a_committed_ledger_is_known_again(steps: Steps) -> None:
    """After any sequence of deliveries, another member knows the same of every message."""
    model, ledger = Model(), Ledger(FIRST)
    for step in steps:
        model.apply(ledger, step)
    known = Ledger(ledger.committed_offset, ledger.metadata())
    assert known.committed_offset == ledger.committed_offset == min(model.attempts, default=model.next)
    assert known.next_offset == model.next
    assert known.open_count(0) == len(model.attempts)
    assert not known.is_changed
    for offset in range(FIRST, model.next + 3):
        assert known.is_done(offset) is (offset in model.done), offset
        assert ledger.is_done(offset) is (offset in model.done), offset
    for offset, attempts in sorted(model.attempts.items()):
        assert known.begin(offset) == attempts + 1


@given(steps=steps, later=steps)
def test_a_ledger_that_was_known_again_goes_on(steps: Steps, later: Steps) -> None:
    """What happens after a takeover is kept beside what happened before."""
    model, ledger = Model(), Ledger(FIRST)
    for step in steps:
        model.apply(ledger, step)
    taken_over = Ledger(ledger.committed_offset, ledger.metadata())
    for offset in sorted(model.attempts):  # all of them are fetched again, in their order
        model.attempts[offset] += 1
        taken_over.begin(offset)
    for step in later:
        model.apply(taken_over, step)
    known = Ledger(taken_over.committed_offset, taken_over.metadata())
    assert {offset for offset in range(FIRST, model.next) if not known.is_done(offset)} == set(model.attempts)


@settings(max_examples=25)
@given(count=st.integers(600, 1_500), done=st.sets(st.integers(0, 1_499)), attempts=st.integers(1, 500))
def test_a_text_that_would_be_too_long_is_cut(count: int, done: set[int], attempts: int) -> None:
    """It stays within what brokers take, and what it leaves out counts as never delivered: nothing is lost by it."""
    ledger = Ledger(FIRST)
    for offset in range(FIRST, FIRST + count):
        for _ in range(attempts if offset == FIRST else 1):
            ledger.begin(offset)
    for number in done:
        ledger.end(FIRST + number)
    text = ledger.metadata()
    known = Ledger(ledger.committed_offset, text)
    assert len(text.encode()) <= MAX_METADATA_CHARACTERS + 30 < 4_096
    for offset in range(FIRST, FIRST + count):
        assert ledger.is_done(offset) or not known.is_done(offset), offset
    assert all(known.is_done(offset) is ledger.is_done(offset) for offset in range(FIRST, known.next_offset))


@pytest.mark.parametrize(
    "metadata",
    [
        "", "mine", "1", "1 5", "1 5 x", "1 5 0:", "1 5 0:1 ", "1 x 0:1", "2 5 0:1", "1 5 0:1:2", "{}", "\x00",
        # What no ledger says of itself, because its offset is the first message that is not done.
        "1 5 ", "1 5 2:1", "1 5 -1:1", "1 -1 ", "1 2 0:1,7:1", "1 2 0:-1",
    ],
)  # fmt: skip
def test_the_texts_of_others_count_as_none(metadata: str) -> None:
    """Another program's commit, an operator's reset or a later version's: begin at the offset, and count from one."""
    ledger = Ledger(FIRST, metadata)
    assert ledger.committed_offset == ledger.next_offset == FIRST
    assert not ledger.is_done(FIRST)
    assert ledger.begin(FIRST) == 1


@given(st.text(max_size=40) | st.from_regex(r"1 -?\d{1,3} (-?\d{1,3}:-?\d{1,3},?){0,4}", fullmatch=True))
def test_no_text_harms(metadata: str) -> None:
    """Whatever stands there, the message at the committed offset is not taken for done."""
    ledger = Ledger(FIRST, metadata)
    assert ledger.committed_offset == FIRST
    assert not ledger.is_done(FIRST)
    assert ledger.begin(FIRST) >= 1


def test_what_retention_has_removed_is_waited_for_no_more() -> None:
    """Fetching goes on behind open messages: they are gone, and the offset moves on."""
    ledger = Ledger(FIRST, "1 5 0:2,3:1")
    assert ledger.begin(FIRST + 6) == 1
    assert (ledger.open_count(0), ledger.committed_offset) == (1, FIRST + 6)
    ledger.end(FIRST + 6)
    assert (ledger.open_count(0), ledger.committed_offset) == (0, FIRST + 7)


def test_a_delivery_that_nobody_saw_is_not_counted() -> None:
    """The message stays open, and its next delivery is the first."""
    ledger = Ledger(FIRST)
    ledger.begin(FIRST)
    ledger.undo(FIRST)
    ledger.undo(FIRST)
    known = Ledger(ledger.committed_offset, ledger.metadata())
    assert not known.is_done(FIRST)
    assert known.begin(FIRST) == 1


def test_ending_what_is_not_open_changes_nothing() -> None:
    """Settled twice, or of another member's time."""
    ledger = Ledger(FIRST)
    ledger.end(FIRST + 1)
    ledger.undo(FIRST + 1)
    assert not ledger.is_changed
    assert ledger.next_offset == FIRST
