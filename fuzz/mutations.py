"""From one input to another: a part of it is changed the way its format is made, then its checksum is set right."""

from __future__ import annotations

import gzip
from random import Random

import msgspec

from fuzz.cases import DEFAULT_URI, Case, fields_of, fitted
from fuzz.formats import Noise, change_bytes
from fuzz.hostile import ATTRIBUTES, CELLS, KEYS, NAMES, URIS, VALUES
from fuzz.seeds import deliveries
from handoff.contracts.envelope import parse_request
from handoff.contracts.errors import MalformedMessage
from handoff.contracts.protocols import Message

GOOD = tuple(deliveries())
_FIELDS = ("request_id", "batch_uri", "format", "image_count", "checksum", "model", "deadline", "labels")
# How often each part of a delivery is changed, beside the others.
_PARTS = {"data": 1, "fields": 4, "attributes": 2, "format": 1, "attempts": 1, "stored": 1, "payload": 4}
_FORMATS = ("csv", "csv.gz", "npy")
replace = msgspec.structs.replace


def mutated(case: Case, random: Random, noise: Noise) -> Case:
    """Change a case once, or a few times; its checksum and count mostly fit afterwards."""
    change = _change_delivery if case.target == "delivery" else _change_file
    case = _healed(case, random) if case.target == "delivery" else case
    for _ in range(random.choice((1, 1, 2, 4))):
        case = change(case, random, noise)
    return fitted(case, checksum=random.random() < 0.95, count=random.random() < 0.8)


def _healed(case: Case, random: Random) -> Case:
    """Mostly go on from a request that is one: of those that are none, most are refused at the same few places."""
    good = random.choice(GOOD)
    try:
        parse_request(Message(case.data, case.attributes))
    except MalformedMessage:
        if random.random() < 0.8:
            case = replace(case, data=good.data, attributes=good.attributes)
    if random.random() < 0.2:
        return replace(good, stored=case.stored, attempts=case.attempts)
    return case


def random_noise(random: Random) -> Noise:
    """The noise where there is no libFuzzer: bytes flipped, cut out, doubled or put in."""

    def noise(data: bytes) -> bytes:
        begin = random.randint(0, len(data))
        end = min(len(data), begin + random.choice((0, 1, 1, 4, 64)))
        middle = random.choice((b"", random.randbytes(max(1, end - begin)), 2 * data[begin:end]))
        return data[:begin] + middle + data[end:]

    return noise


def _change_delivery(case: Case, random: Random, noise: Noise) -> Case:
    part = random.choices([*_PARTS], [*_PARTS.values()])
    match part:
        case ["data"]:
            changed: object = noise(case.data)
        case ["fields"]:
            part, changed = ["data"], _change_fields(case.data, random, noise)
        case ["attributes"]:
            changed = _change_attributes(case.attributes, random)
        case ["format"]:
            return _reformatted(case, random)
        case ["attempts"]:
            changed = tuple(random.choices(range(1, 7), k=random.randint(1, 3)))
        case ["stored"]:
            changed = _change_stored(case, random, noise)
        case _:
            changed = change_bytes(case.payload, random, noise)
    return replace(case, **{part[0]: changed})


def _change_file(case: Case, random: Random, noise: Noise) -> Case:
    if case.target in {"response", "stored response", "manifest"} and random.random() < 0.5:
        return replace(case, data=_change_fields(case.data, random, noise))
    if case.target == "response" and random.random() < 0.1:
        return replace(case, attributes=_change_attributes(case.attributes, random))
    return replace(case, data=change_bytes(case.data, random, noise))


def _change_fields(body: bytes, random: Random, noise: Noise) -> bytes:
    fields = fields_of(body)
    if fields is None:
        return noise(body)
    # Never drawn from hash order: the same seed makes the same inputs.
    name = random.choice((*_FIELDS, *fields, random.choice(KEYS)))
    match random.randrange(6):
        case 0:
            fields.pop(name, None)
        case 1 if isinstance(fields.get(name), str):
            fields[name] = noise(fields[name].encode()).decode(errors="replace")
        case 2:
            fields["batch_uri"] = random.choice(URIS)
        case 3 if isinstance(fields.get(name), dict):
            fields[name][random.choice((*KEYS, *fields[name]))] = random.choice(VALUES)
        case 4:
            fields["labels"] = [random.choice(CELLS) for _ in range(random.randrange(4))]
        case _:
            fields[name] = random.choice(VALUES)
    try:
        return msgspec.json.encode(fields)
    except (UnicodeEncodeError, RecursionError):  # a lone surrogate
        return noise(body)


def _change_attributes(attributes: dict[str, str], random: Random) -> dict[str, str]:
    changed = dict(attributes)
    name = random.choice((*ATTRIBUTES, *attributes))
    match random.randrange(4):
        case 0:
            changed.pop(name, None)
        case 1:
            changed |= {f"x-{number}": random.choice(CELLS) for number in range(random.choice((1, 120)))}
        case _:
            changed[name] = random.choice((*CELLS, *NAMES))
    return changed


def _change_stored(case: Case, random: Random, noise: Noise) -> dict[str, bytes]:
    key = random.choice(("results/r-1/response.json", "results/r-1/predictions.csv", *case.stored))
    data = case.stored.get(key, case.payload)
    changed = _change_fields(data, random, noise) if key.endswith("json") else change_bytes(data, random, noise)
    return case.stored | {key: changed}


def _reformatted(case: Case, random: Random) -> Case:
    fields = fields_of(case.data)
    if fields is None:
        return case
    fields["format"] = random.choice(_FORMATS)
    payload = case.payload
    if fields["format"] == "csv.gz" and not payload.startswith(b"\x1f\x8b"):
        payload = gzip.compress(payload, 1)
    if random.random() < 0.5:
        fields["batch_uri"] = DEFAULT_URI
    return replace(case, data=msgspec.json.encode(fields), payload=payload)
