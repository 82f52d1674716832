"""What the store has of a dead letter's request: whether another try can succeed, or an answer is there already."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from handoff.contracts.envelope import parse_request
from handoff.contracts.errors import FashionError, MalformedMessage, PayloadForbidden
from handoff.contracts.objects import response_uri
from handoff.contracts.protocols import Store
from handoff.dead_letters import Letter


class Finding(NamedTuple):
    """Whether an object is there, None where that cannot be told; and the same in words."""

    is_there: bool | None
    words: str


class Findings(NamedTuple):
    """A request's batch and its answer."""

    batch: Finding
    answer: Finding


def look_up(letter: Letter, open_store: Callable[[], Store]) -> Findings:
    """Look for the batch and the stored answer; a store that does not answer is a finding too."""
    try:
        request = parse_request(letter.message).request
    except MalformedMessage:
        unknown = Finding(None, "unknown: no request can be made of it")
        return Findings(unknown, unknown)
    try:
        store = open_store()
        return Findings(_find(store, request.batch_uri), _find(store, response_uri(store.root, request.request_id)))
    except FashionError as error:
        unknown = Finding(None, f"unknown: {error}")
        return Findings(unknown, unknown)


def _find(store: Store, uri: str) -> Finding:
    try:
        # A listing says what is there without its bytes; an object's own URI is the first that begins with it.
        first = next(iter(store.list(uri)), None)
    except PayloadForbidden:
        return Finding(is_there=False, words=f"outside the store: {uri}")
    if first is None or first.uri != uri:
        return Finding(is_there=False, words=f"not there: {uri}")
    return Finding(is_there=True, words=f"{first.size_bytes:,} bytes at {uri}")
