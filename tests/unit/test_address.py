"""The rule "only our bucket": what is inside, what is outside, and what only pretends."""

from __future__ import annotations

import posixpath
from urllib.parse import unquote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from handoff.contracts.errors import PayloadForbidden
from handoff.stores.address import key_below, prefix_below

ROOT = "gs://fashion-batches/team-a"


@pytest.mark.parametrize(
    "key",
    [
        "images.csv",
        "requests/4f1c/images.csv.gz",
        "a b",
        "ünïcode/画像.npy",
        "..a/b..",
        "a...b",
        "~/x",
        "a:b@c",
        "-",
        "+",
        "\uff0e\uff0e\uff0fx",  # look like dots and a slash; nobody normalises them
        "\u2024\u2024\u2215x",
    ],
)
def test_a_key_below_the_root_is_returned_as_written(key: str) -> None:
    """Odd but harmless names are objects like any other."""
    assert key_below(ROOT, f"{ROOT}/{key}") == key


@pytest.mark.parametrize(
    "uri",
    [
        "gs://another-bucket/team-a/images.csv",
        "gs://fashion-batches/team-b/images.csv",
        "gs://fashion-batches/team-ab/images.csv",
        "gs://fashion-batches.evil.example/team-a/x",
        "gs://user@fashion-batches/team-a/x",
        "GS://fashion-batches/team-a/x",
        "gs:/fashion-batches/team-a/x",
        "//fashion-batches/team-a/x",
        " gs://fashion-batches/team-a/x",
        "s3://fashion-batches/team-a/x",
        "file:///etc/passwd",
        "https://storage.googleapis.com/fashion-batches/team-a/x",
        "http://169.254.169.254/computeMetadata/v1/",
        "requests/1/images.csv",
        "/etc/passwd",
        "",
    ],
)
def test_another_place_is_forbidden(uri: str) -> None:
    """Another scheme, bucket or prefix is refused, however near it looks."""
    with pytest.raises(PayloadForbidden):
        key_below(ROOT, uri)


@pytest.mark.parametrize(
    "key",
    [
        "../team-b/x", "a/../../x", "a/..", "..", ".", "./x", "a/./b", "a//b", "/a", "//etc/passwd", "a/", "/",
        "..\\x", "a\\b", "%2e%2e/x", "%2E%2E%2Fx", "a%2fb", "%252e%252e/x", "%00", "a%", "a?alt=media", "a#b",
        "a\x00b", "a\nb", "a\r", "a\x7f", "a\x85", "a\u2028b", "a\ud800b", "x" * 256, "y/" * 600 + "z", "ä" * 128,
    ],
)  # fmt: skip
def test_a_key_with_two_readings_is_forbidden(key: str) -> None:
    """Traversal, encodings, separators of other systems and control characters are refused, not repaired."""
    with pytest.raises(PayloadForbidden):
        key_below(ROOT, f"{ROOT}/{key}")


@pytest.mark.parametrize("uri", [ROOT, f"{ROOT}/"])
def test_the_root_itself_is_no_object(uri: str) -> None:
    """A store's root can be listed but not read."""
    with pytest.raises(PayloadForbidden):
        key_below(ROOT, uri)
    assert prefix_below(ROOT, uri) == ""


def test_a_trailing_slash_of_the_root_changes_nothing() -> None:
    """`gs://bucket/prefix/` and `gs://bucket/prefix` are one store."""
    assert key_below(f"{ROOT}/", f"{ROOT}/a") == key_below(ROOT, f"{ROOT}/a") == "a"


def test_a_listing_may_end_in_a_slash_or_within_a_name() -> None:
    """Prefixes are texts; only their whole segments have to be harmless."""
    assert prefix_below(ROOT, f"{ROOT}/requests/") == "requests/"
    assert prefix_below(ROOT, f"{ROOT}/requests/ab") == "requests/ab"


@pytest.mark.parametrize(
    "prefix", ["gs://fashion-batches/", "gs://fashion-batches/team-", f"{ROOT}/../", f"{ROOT}//", "gs://", ""]
)
def test_a_listing_outside_the_root_is_forbidden(prefix: str) -> None:
    """Nobody lists a neighbour's objects."""
    with pytest.raises(PayloadForbidden):
        prefix_below(ROOT, prefix)


def test_the_refusal_is_one_short_printable_line() -> None:
    """A stranger's text cannot forge a log line or fill a disk."""
    with pytest.raises(PayloadForbidden) as caught:
        key_below(ROOT, "file:///\n\x1b[2J" + "x" * 100_000)
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 250


@given(st.text() | st.text(alphabet="./%2eEfF\\a:?#\n"))
def test_whatever_is_accepted_stays_below_the_root(rest: str) -> None:
    """For any text: refused, or the same place before and after decoding and normalising."""
    uri = f"{ROOT}/{rest}"
    try:
        key = key_below(ROOT, uri)
    except PayloadForbidden:
        return
    path = f"/srv/store/{key}"
    assert unquote(path) == path
    assert posixpath.normpath(path) == path
    assert f"{ROOT}/{key}" == uri


@given(st.text(max_size=40))
def test_nothing_without_the_root_in_front_is_accepted(uri: str) -> None:
    """No text reaches an object unless it begins with the root and a slash."""
    if not uri.startswith(f"{ROOT}/"):
        with pytest.raises(PayloadForbidden):
            key_below(ROOT, uri)
