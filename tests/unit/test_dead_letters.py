"""Dead letters: read without taking any away, told apart, published again, and shown whatever strangers wrote."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from concurrent.futures import Future

import pytest

from handoff import dead_letters
from handoff.brokers.dead_letters import Burial, burial_of, dead_letter, original_message
from handoff.contracts.envelope import request_message
from handoff.contracts.errors import BrokerUnavailable, DeadLetterUnknown, MalformedMessage, StoreUnavailable
from handoff.contracts.messages import AnalysisRequest
from handoff.contracts.protocols import Delivery, Message
from handoff.dead_letter_objects import look_up
from handoff.dead_letter_text import body_lines, figures, header, page, printable, row, summary, whole
from handoff.dead_letters import Letter, Reading, chosen, letter_of, republication
from tests.fakes import NOW, FakeBroker, FakeDelivery, FakeStore, FakeSubscription, batch_of, upload

PUBSUBS_OWN = {
    "CloudPubSubDeadLetterSourceDeliveryCount": "5",
    "CloudPubSubDeadLetterSourceSubscription": "read-analysis-requests",
    "CloudPubSubDeadLetterSourceSubscriptionProject": "tests",
    "CloudPubSubDeadLetterSourceTopicPublishTime": "2026-11-21T20:07:12.254Z",
}
SENT = {"ce-type": "fashion.analysis.requested.v1", "client_id": "c-1", "note": "grün 画像", "empty": ""}

HOSTILE = {
    "nothing": b"",
    "no text": bytes(range(256)) * 100,
    "no JSON": b"{'a': 1}\r\n\x1b]0;owned\x07",
    "deep": b"[" * 200_000,
    "a colour in JSON": b'{"a": "\\u001b[31m", "b": "\xc2\x9b31m"}',
    "right to left": '{"a": "\u202egnp.exe"}'.encode(),
    "long line": b"x" * 1_000_000,
    "many lines": b"\n" * 1_000_000,
    "large JSON": json.dumps({"labels": ["Bag"] * 100_000}).encode(),
    "half UTF-8": b'{"request_id": "r-1\xff"}',
}


def request(request_id: str = "r-1") -> Message:
    """A request's message as a client sends it."""
    said = AnalysisRequest(
        request_id=request_id,
        batch_uri=f"memory://store/requests/{request_id}/images.csv",
        format="csv",
        image_count=2,
        checksum="sha256:" + 64 * "0",
    )
    return request_message(said, client_id="c-1", now=NOW)


def buried(message: Message, *, code: str = "store_unavailable") -> FakeDelivery:
    """A delivery of a message that a worker gave up."""
    return FakeDelivery(dead_letter(message, code=code, reason="The store did not answer.", attempts=5))


def letters(*deliveries: Delivery, limit: int = 100) -> tuple[list[Letter], Reading]:
    """Read deliveries to the end."""
    with Reading(FakeSubscription(deliveries), limit=limit, silence_s=30) as found:
        return list(found), found


def shown(letter: Letter) -> str:
    """Everything that a terminal would get of a letter."""
    rows = [row(letter, columns=columns) for columns in (None, 20, 80, 200)]
    return "\n".join([*rows, summary([letter]), *page(letter)])


@pytest.mark.parametrize("added", [{}, {"republished": "1"}])
def test_a_letter_is_the_message_as_it_was(added: Mapping[str, str]) -> None:
    """Body, attributes and key, whoever buried it; and what was written on it is read."""
    message = Message(b"\x00body", {**SENT, **added}, "key")
    ours = dead_letter(message, code="internal_error", reason="Why.", attempts=3)
    theirs = Message(message.body, {**message.attributes, **PUBSUBS_OWN}, "key")
    assert original_message(ours) == original_message(theirs) == message
    assert burial_of(ours) == Burial("internal_error", "Why.", 3)
    reason = "Delivered 5 times and never acked; its workers died or gave it back."
    assert burial_of(theirs) == Burial("max_attempts", reason, 5)
    assert burial_of(message) == Burial("unknown", "", None)


def test_figures_that_are_none_are_not_believed() -> None:
    """A count that is no number, or a number no broker counts to."""
    for count in ("", "five", "-1", "9" * 5_000, "٣"):
        assert burial_of(Message(b"", {"dead-letter-code": "x", "dead-letter-attempts": count})).attempts is None


def test_a_letters_id_is_of_what_was_published() -> None:
    """Who buried it, when and how often changes nothing; neither does having been published again. All else does."""
    message = request()
    same = [
        buried(message).message,
        buried(message, code="internal_error").message,
        buried(republication(message)).message,
        Message(message.body, {**message.attributes, **PUBSUBS_OWN}),
        Message(message.body, dict(reversed(message.attributes.items()))),
    ]
    other = [
        Message(message.body + b" ", message.attributes),
        Message(message.body, {**message.attributes, "note": ""}),
        request("r-2"),
    ]
    assert len({letter_of(FakeDelivery(each)).digest for each in same}) == 1
    assert len({letter_of(FakeDelivery(each)).digest for each in [message, *other]}) == 4


def test_reading_takes_nothing_away() -> None:
    """Everything is given back at once at the end; what was acked meanwhile is not."""
    deliveries = [buried(request(f"r-{number}")) for number in range(3)]
    with Reading(FakeSubscription(deliveries), limit=100, silence_s=30) as found:
        first = next(iter(found))
        list(found)
        assert [each.ends for each in deliveries] == [[], [], []]
        dead_letters.drop(first)
    assert [each.ends for each in deliveries] == [["ack"], ["nack"], ["nack"]]
    assert [each.delay_s for each in deliveries[1:]] == [0.0, 0.0]


def test_two_copies_are_one_letter() -> None:
    """It is told once, and dropped whole."""
    one, other, again = buried(request()), buried(request("r-2")), buried(request())
    with Reading(FakeSubscription([one, other, again]), limit=100, silence_s=30) as found:
        told = list(found)
        assert [(letter.request_id, len(letter.held)) for letter in told] == [("r-1", 2), ("r-2", 1)]
        assert summary(told) == "2 letters: 2 store_unavailable; 1 in several copies."
        dead_letters.drop(told[0])
    assert [each.ends for each in (one, other, again)] == [["ack"], ["nack"], ["ack"]]


def test_reading_ends_with_a_silence() -> None:
    """A subscription never ends by itself; it is closed then, and what is held stays held."""
    subscription = FakeSubscription([buried(request())], closed=False)
    with Reading(subscription, limit=100, silence_s=0.05) as found:
        assert len(list(found)) == 1
        assert subscription.closed.is_set()
        assert not found.is_cut
        assert found.letters


def test_reading_ends_at_its_limit() -> None:
    """It says so, and everything is given back."""
    deliveries = [buried(request(f"r-{number}")) for number in range(5)]
    told, found = letters(*deliveries, limit=3)
    assert (len(told), found.is_cut) == (3, True)
    assert [each.ends for each in deliveries] == [["nack"], ["nack"], ["nack"], [], []]


def test_reading_ends_at_its_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Letters may be large, and memory is not."""
    monkeypatch.setattr(dead_letters, "MAX_HELD_BYTES", 2_500)
    told, found = letters(*[FakeDelivery(Message(b"%d" % number * 1_000)) for number in range(5)])
    assert (len(told), found.is_cut) == (3, True)


class SlowSubscription(FakeSubscription):
    """Yields its second delivery only once it was closed, as a pull under way does."""

    def __iter__(self) -> Iterator[Delivery]:
        yield self.deliveries[0]
        assert self.closed.wait(30)
        yield self.deliveries[1]


def test_what_comes_after_the_silence_is_given_back() -> None:
    """No letter stays leased because it came too late."""
    deliveries = [buried(request("r-1")), buried(request("r-2"))]
    with Reading(SlowSubscription(deliveries, closed=False), limit=100, silence_s=0.05) as found:
        assert len(list(found)) == 1
    assert [each.ends for each in deliveries] == [["nack"], ["nack"]]


class BrokenSubscription(FakeSubscription):
    """Loses its broker after what it was given."""

    def __iter__(self) -> Iterator[Delivery]:
        yield from self.deliveries
        raise BrokerUnavailable("The broker did not answer.")


def test_a_broker_that_goes_away_is_an_error() -> None:
    """Half a listing never passes for a whole one; what came is given back."""
    delivery = buried(request())
    with (
        pytest.raises(BrokerUnavailable),
        Reading(BrokenSubscription([delivery]), limit=100, silence_s=30) as found,
    ):
        list(found)
    assert delivery.ends == ["nack"]


def test_the_beginning_of_an_id_will_do() -> None:
    """As with commits: some digits, in either case, or all; what names nothing is told apart."""
    told, found = letters(*[buried(request(f"r-{number}")) for number in range(3)])
    first = told[0]
    assert chosen(found.letters, [first.id, first.digest, first.id[:8].upper()]) == ([first], [])
    assert chosen(found.letters, ["beef" * 4, first.id, "no id"]) == ([first], ["beef" * 4, "no id"])


def test_an_ambiguous_id_is_refused_with_the_digits_that_are_not() -> None:
    """Whole digests decide, so nobody can craft a message that is taken for another."""
    (letter,), _ = letters(buried(request()))
    one, two = "ab12" * 16, "ab12" * 4 + "ffff" * 12
    with pytest.raises(DeadLetterUnknown, match="ab12ab12ab12ab12a or ab12ab12ab12ab12f"):
        chosen({one: letter, two: letter}, ["ab12"])
    assert chosen({one: letter, two: letter}, [one]) == ([letter], [])


def test_replay_publishes_what_was_sent_then_acks() -> None:
    """Byte for byte, with the one word that has a worker look for its answer first."""
    fresh = [letter_of(buried(request())), letter_of(buried(Message(bytes(range(256)), SENT, "key")))]
    broker = FakeBroker()
    assert [each.refusal for each in dead_letters.replay(broker, "requests", fresh)] == [None, None]
    assert broker.published == [
        ("requests", Message(request().body, {**request().attributes, "republished": "1"}, "r-1")),
        ("requests", Message(bytes(range(256)), {**SENT, "republished": "1"}, "key")),
    ]
    assert {end for letter in fresh for each in letter.held for end in each.ends} == {"ack"}  # type: ignore[attr-defined]


def test_a_letter_whose_request_was_not_confirmed_stays() -> None:
    """The broker went away between the two: nothing after it is acked either."""
    fresh = [letter_of(buried(request(f"r-{number}"))) for number in range(2)]
    broker = FakeBroker()
    broker.failures = 1
    with pytest.raises(BrokerUnavailable):
        list(dead_letters.replay(broker, "requests", fresh))
    assert [each.ends for letter in fresh for each in letter.held] == [[], []]  # type: ignore[attr-defined]


class RefusingBroker(FakeBroker):
    """Refuses messages of too many attributes, as a service does."""

    def publish(self, topic: str, message: Message) -> Future[str]:
        """Keep a message, or refuse it."""
        if len(message.attributes) <= 100:
            return super().publish(topic, message)
        refused: Future[str] = Future()
        refused.set_exception(MalformedMessage("More than 100 attributes."))
        return refused


def test_a_message_that_the_broker_refuses_stays_alone() -> None:
    """The others go."""
    full = Message(b"", {f"a{number}": "" for number in range(100)})
    fresh = [letter_of(buried(message)) for message in (full, request())]
    done = list(dead_letters.replay(RefusingBroker(), "requests", fresh))
    assert [each.refusal for each in done] == ["More than 100 attributes.", None]
    assert [each.ends for letter in fresh for each in letter.held] == [[], ["ack"]]  # type: ignore[attr-defined]


def test_replaying_many_is_bounded() -> None:
    """No more are published ahead of the letter that is acked next than the bound."""
    broker = FakeBroker()
    fresh = [letter_of(buried(request(f"r-{number}"))) for number in range(1_000)]
    done = dead_letters.replay(broker, "requests", fresh)
    next(done)
    assert len(broker.published) == dead_letters.IN_FLIGHT
    assert len(list(done)) == 999


@pytest.mark.parametrize("body", HOSTILE.values(), ids=HOSTILE)
def test_nothing_a_stranger_wrote_steers_the_terminal(body: bytes) -> None:
    """Whatever the body: printable text, a bounded amount of it, and JSON that anything reads."""
    letter = letter_of(FakeDelivery(Message(body, {"ce-time": "0001-01-01T00:00:00+14:00"})))
    text = shown(letter)
    assert all(line.isprintable() for line in text.split("\n"))
    assert len(text) < 60_000
    assert len(list(body_lines(body))) <= 61
    json.dumps([whole(letter), figures(letter)])


def test_nothing_a_stranger_wrote_on_the_letter_does_either() -> None:
    """Codes, reasons, names and values of attributes are all theirs."""
    nasty = "\x1b[2J\r\n\x9b\u202e" + "x" * 100_000
    attributes = {nasty: nasty, "ce-time": nasty, "dead-letter-code": nasty, "dead-letter-reason": nasty}
    letter = letter_of(FakeDelivery(Message(b'{"request_id": "\\u001b"}', attributes)))
    text = shown(letter)
    assert all(line.isprintable() for line in text.split("\n"))
    assert len(text) < 20_000
    assert printable("a\tb\\") == "a\\tb\\"


def test_a_letter_is_shown_whole() -> None:
    """Its request, why it is there, everything that was sent, and its body laid out."""
    told, _ = letters(buried(request()))
    text = shown(told[0])
    for part in ("r-1", "2026-01-02T03:04:05Z", "store_unavailable", "The store did not answer.", "client_id: c-1"):
        assert part in text
    assert '    "image_count": 2,' in text
    assert "dead-letter-code" not in text
    assert whole(told[0])["body"] == request().body.decode()
    assert whole(letter_of(FakeDelivery(Message(b"\xff"))))["body_base64"] == "/w=="


def test_a_row_is_as_wide_as_the_terminal() -> None:
    """Its reason is cut, its request's id before that; but a reason never so far that it says nothing."""
    told, _ = letters(FakeDelivery(dead_letter(request("r" * 128), code="x", reason="y" * 250, attempts=5)))
    assert [len(row(told[0], columns=columns)) for columns in (130, 200)] == [130, 200]
    assert row(told[0], columns=40).endswith(" " + 39 * "y" + "…")
    assert row(told[0]).endswith(250 * "y")
    assert 128 * "r" in row(told[0])
    assert "r" * 12 not in row(told[0], columns=130)
    assert header(columns=130).index("reason") == row(told[0], columns=130).index("y")


def test_the_summary_counts_by_code() -> None:
    """The most frequent first, and a bounded number of them."""
    codes = ["a", "b", "b", *(f"other-{number}" for number in range(20))]
    told, _ = letters(*[buried(request(f"r-{number}"), code=code) for number, code in enumerate(codes)])
    assert summary(told).startswith("23 letters: 2 b, 1 a, 1 other-0,")
    assert summary(told).endswith("14 of other codes.")
    assert summary(told[:1]) == "1 letter: 1 a."


def test_the_store_is_asked_for_batch_and_answer() -> None:
    """There, not there, outside; and a store that does not answer is said, not raised."""
    store = FakeStore()
    upload(store, "r-1", batch_of(1, 2))
    (letter,), _ = letters(buried(request()))
    found = look_up(letter, lambda: store)
    assert (found.batch.is_there, found.answer.is_there) == (True, False)
    store.create("memory://store/results/r-1/response.json", b"{}")
    store.delete("memory://store/requests/r-1/images.csv")
    store.create("memory://store/requests/r-1/images.csv.gz", b"another")
    found = look_up(letter, lambda: store)
    assert (found.batch.is_there, found.answer.is_there) == (False, True)
    outside = Message(request().body.replace(b"memory://store", b"file:///etc/passwd"), request().attributes)
    assert "outside the store" in look_up(letter_of(buried(outside)), lambda: store).batch.words
    assert look_up(letter_of(buried(Message(b"x"))), lambda: store).batch.is_there is None

    def absent() -> FakeStore:
        raise StoreUnavailable("The store did not answer.")

    assert look_up(letter, absent).batch == (None, "unknown: The store did not answer.")
