"""What came of it, from the outside: what the client showed, what its journal says, and every object in the store."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from handoff.contracts.messages import AnalysisRequest, AnalysisResponse
from handoff.contracts.protocols import Store
from tests.e2e.programs import Program

MAX_OBJECT_BYTES = 16 * 1024 * 1024
RESULT_NAMES = frozenset({"predictions.csv", "response.json"})


@dataclass
class Verdict:
    """The counts that have to be nought, and the ones beside them."""

    requests: int
    answered: int = 0
    failed: int = 0
    differing: int = 0
    """Answered with other predictions than on a calm run."""
    orphans: list[str] = field(default_factory=list)
    """Objects that belong to no answered request."""
    shown: Counter[str] = field(default_factory=Counter)
    republished: int = 0

    @property
    def lost(self) -> int:
        """Requests that were never answered."""
        return self.requests - self.answered

    @property
    def shown_twice(self) -> int:
        """Requests whose answer was shown more than once."""
        return sum(1 for times in self.shown.values() if times > 1)

    @property
    def holds(self) -> bool:
        """Whether every promise was kept."""
        return not (self.lost or self.failed or self.shown_twice or self.differing or self.orphans)


def shown_requests(clients: Iterable[Program], request_ids: frozenset[str]) -> Counter[str]:
    """How often each request's line was printed, by all the client's lives together."""
    lines = (line for client in clients for line in client.output.splitlines() if line)
    return Counter(first for first in (line.split(maxsplit=1)[0] for line in lines) if first in request_ids)


def digest_of(store: Store, uri: str) -> str:
    """The digest of an object's bytes."""
    return hashlib.sha256(store.read(uri, max_bytes=MAX_OBJECT_BYTES)).hexdigest()


def orphans(store: Store, request_ids: frozenset[str]) -> Iterator[str]:
    """Objects that no answered request explains: of an unknown request, or beside what it should have."""
    for entry in store.list(store.root):
        folder, _, rest = entry.uri.removeprefix(f"{store.root}/").partition("/")
        request_id, _, name = rest.partition("/")
        known = name == "images.csv" if folder == "requests" else folder == "results" and name in RESULT_NAMES
        if not known or request_id not in request_ids:
            yield entry.uri


def judged(
    rows: Iterable[tuple[AnalysisRequest, AnalysisResponse | None, int]],
    *,
    store: Store,
    calm: Mapping[str, str],
    clients: Iterable[Program],
    request_count: int,
) -> Verdict:
    """Hold the journal's rows (request, response, publications) and the store against the calm run's digests.

    `calm`: the digest of the predictions, by the checksum of their batch.
    """
    verdict = Verdict(requests=request_count)
    answered = set()
    for request, response, publications in rows:
        verdict.republished += max(0, publications - 1)
        if response is None:
            continue
        answered.add(request.request_id)
        if response.status != "succeeded" or response.predictions_uri is None:
            verdict.failed += 1
        elif digest_of(store, response.predictions_uri) != calm[request.checksum]:
            verdict.differing += 1
    verdict.answered = len(answered)
    verdict.orphans = list(orphans(store, frozenset(answered)))
    verdict.shown = shown_requests(clients, frozenset(answered))
    return verdict
