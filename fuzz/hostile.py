"""Values that have hurt parsers before, by the place they are put in."""

from __future__ import annotations

from typing import Any

from fuzz.cases import DEFAULT_URI
from tests.fakes import FakeStore

_ROOT = FakeStore.root

URIS = (
    DEFAULT_URI,
    f"{_ROOT}/requests/r-1/other.csv",
    f"{_ROOT}/results/r-1/response.json",
    f"{_ROOT}/results/r-1/predictions.csv",
    f"{_ROOT}",
    f"{_ROOT}/",
    f"{_ROOT}/../secret",
    f"{_ROOT}/a/..%2f..%2fsecret",
    f"{_ROOT}/%252e%252e/secret",
    f"{_ROOT}/a\\..\\secret",
    f"{_ROOT}/a\0b",
    f"{_ROOT}/a\nb",
    f"{_ROOT}/\uff0e\uff0e/secret",
    f"{_ROOT}/\u2028",
    f"{_ROOT}/\u202e\u200bgnp",
    f"{_ROOT}-evil/object",
    f"{_ROOT}/{'x' * 255}/{'é' * 127}",
    f"{_ROOT}/{'a/' * 1000}b",
    "memory://other/requests/r-1/images.csv",
    "file:///etc/passwd",
    "gs://bucket/object",
    "http://user:secret@localhost/",
    "//store/x",
    "",
    "x" * 2048,
)

NAMES = (
    "r-1",
    "r-2",
    "../r-1",
    "r-1/../..",
    "a" * 128,
    "a" * 129,
    "fashion.analysis.requested.v1",
    "fashion.analysis.requested.v2",
    "fashion.analysis.completed.v1",
    "fashion:7",
    "1.0",
    "0001-01-01T00:00:00+23:59",
    "9999-12-31T23:59:59-23:59",
    "2026-01-02T03:04:05.123456789Z",
    f"00-{32 * 'a'}-{16 * 'b'}-01",
)

CELLS = (
    "",
    "0",
    "255",
    "256",
    "007",
    "-1",
    "1e2",
    "1_0",
    " 7",
    "٣",
    "NaN",
    "inf",
    "1e999",
    '"',
    '"7"',
    '"a\nb"',
    'a"b',
    "\0",
    "\r",
    "a\nforged line",
    "\x1b[2J",
    "\u202e",
    "\u2028",
    "\ufeff",
    "é" * 600,
    "x" * 5_000,
    "9" * 5_000,
    "image_id",
    "label",
    "dark",
    "bright",
    "1",
    "pixel_0",
    "pixel" + 5_000 * "1",
    "=1+1",
)

_DEEP: Any = 0
for _ in range(200):
    _DEEP = [_DEEP]

VALUES: tuple[Any, ...] = (
    None,
    True,
    0,
    1,
    3,
    -1,
    2**31 - 1,
    2**31,
    2**63 - 1,
    2**64 - 1,
    0.5,
    1e308,
    [],
    {},
    [None],
    {"a": {"b": []}},
    _DEEP,
    "sha256:" + 64 * "0",
    "sha256:" + 64 * "F",
    *NAMES,
    *CELLS,
)

KEYS = ("", "x", "x\ny", "\0", "__proto__", "$ref", "request_id", "graph", "files", "../x", "error", "predictions")

ATTRIBUTES = (
    "ce-type",
    "ce-specversion",
    "ce-time",
    "ce-imagecount",
    "client_id",
    "traceparent",
    "republished",
    "dead-letter-code",
    "dead-letter-reason",
    "",
    "\0",
    "x" * 300,
)

_SHAPES = ("(1, 2, 2, 1)", "(2, 4)", "()", "(0, 2, 2)", "(2**9,)", "(-1, 2, 2)", f"({'9' * 400}, 2, 2)", "[2, 2]")
_TYPES = ("'|u1'", "'<f8'", "'|O'", "'<U9'", "'|V0'", "'<M8[s]'", "()", "[()]", "[('a', '|u1')]", "{}", "None", "'c'")

HEADERS = (
    *(f"{{'descr': {kind}, 'fortran_order': False, 'shape': (2, 2, 2), }}\n" for kind in _TYPES),
    *(f"{{'descr': '|u1', 'fortran_order': True, 'shape': {shape}, }}\n" for shape in _SHAPES),
    *(f"{{'descr': '<f4', 'fortran_order': False, 'shape': {shape}, }}\n" for shape in _SHAPES),
    "{'descr': '|u1', 'fortran_order': False, 'shape': (4294967295, 4294967295, 4294967295), }\n",
    "{'descr': '|u1', 'fortran_order': False, 'shape': (0, 4294967295, 4294967295, 4294967295), }\n",
    "{'descr': '|u1', 'fortran_order': False, 'shape': (2, 2, 2), 'x': '\\d', }\n",
    "(" * 300,
    "[" * 99 + "]" * 99,
    "-" * 9_000 + "1",
    "__import__('os').abort()",
    "",
)
