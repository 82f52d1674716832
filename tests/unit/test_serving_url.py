"""The address of a served model: what is taken, what is refused, and that no password shows."""

from __future__ import annotations

import pytest

from handoff.contracts.errors import SettingsInvalid
from handoff.contracts.serving_url import parse_serving_url


@pytest.mark.parametrize(
    ("text", "origin", "pin"),
    [
        ("http://serving:8501/v1/models/fashion", "http://serving:8501", ""),
        ("https://serving.example/v1/models/fashion/", "https://serving.example", ""),
        ("http://127.0.0.1:8501/v1/models/fashion/versions/12", "http://127.0.0.1:8501", "/versions/12"),
        ("http://[::1]:8501/v1/models/fashion/labels/stable", "http://[::1]:8501", "/labels/stable"),
        ("http://tf_serving:8501/v1/models/fashion", "http://tf_serving:8501", ""),
    ],
)
def test_an_address_is_taken_apart(text: str, origin: str, pin: str) -> None:
    """The newest version, one version or a label, on any host."""
    url = parse_serving_url(text)
    assert (url.origin, url.name, url.pin, url.credentials) == (origin, "fashion", pin, "")
    assert url.path == "/v1/models/fashion"
    assert url.address == f"{origin}/v1/models/fashion{pin}"


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("serving:8501/v1/models/fashion", "names no server"),
        ("grpc://serving:8500/v1/models/fashion", "names no server"),
        ("http:///v1/models/fashion", "names no server"),
        ("http://a b/v1/models/fashion", "names no server"),
        ("http://serving\r\nX: y/v1/models/fashion", "is none"),
        ("http://serving:port/v1/models/fashion", "is none"),
        ("http://serving:99999/v1/models/fashion", "is none"),
        ("http://[::1/v1/models/fashion", "is none"),
        ("http://serving:8501", "names no model"),
        ("http://serving:8501/v1/models/", "names no model"),
        ("http://serving:8501/v2/models/fashion", "names no model"),
        ("http://serving:8501/v1/models/fashion:predict", "names no model"),
        ("http://serving:8501/v1/models/fashion/versions/new", "names no model"),
        ("http://serving:8501/v1/models/fashion/versions/1/labels/x", "names no model"),
        ("http://serving:8501/v1/models/..", "names no model"),
        ("http://serving:8501/v1/models/fashion?x=1", "names no model"),
    ],
)
def test_anything_else_is_refused_with_the_form_to_write(text: str, told: str) -> None:
    """One sentence says what is wrong and what it should look like."""
    with pytest.raises(SettingsInvalid, match=told) as refused:
        parse_serving_url(text)
    assert "http://HOST:8501/v1/models/NAME" in str(refused.value)
    assert "\n" not in str(refused.value)


def test_credentials_go_to_the_server_and_into_no_sentence() -> None:
    """They are taken out of what is shown, and masked where an address is refused."""
    url = parse_serving_url("https://me:p%40ss@serving/v1/models/fashion")
    assert url.credentials == "me:p@ss"
    assert "me" not in url.address.replace("models", "")
    with pytest.raises(SettingsInvalid) as refused:
        parse_serving_url("https://me:secret@serving/v1/model")
    assert "secret" not in str(refused.value)
