"""Origins as Ollama allows them."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.access.origins import AllowedOrigins, allowed_headers


@pytest.mark.parametrize(
    ("origin", "allowed"),
    [
        ("http://localhost", True),
        ("https://localhost:3000", True),
        ("http://127.0.0.1:8080", True),
        ("app://obsidian.md", True),
        ("vscode-webview://abc", True),
        ("null", False),
        ("chrome-extension://abc", False),
        ("http://tauri.localhost", False),
        ("http://[::1]:3000", False),
        ("http://localhost.evil.com", False),
        ("https://evil.example", False),
    ],
)
def test_ollamas_own_origins_are_allowed_and_no_others(origin: str, allowed: bool):
    assert AllowedOrigins([]).allows(origin) is allowed


def test_more_origins_can_be_allowed():
    origins = AllowedOrigins(["https://chat.example", "https://*.corp.example"])
    assert origins.allows("https://chat.example")
    assert origins.allows("https://a.corp.example")
    assert not origins.allows("https://corp.example")
    assert AllowedOrigins(["*"]).allows("null")


def test_a_page_may_send_the_headers_that_its_browser_asks_for():
    allowed = allowed_headers("traceparent, X-Request-Id,last-event-id,authorization,X-Weird!#$").split(",")
    assert {"traceparent", "X-Request-Id", "last-event-id", "X-Weird!#$", "Authorization", "X-Stainless-Lang"} <= set(
        allowed
    )
    assert len({name.lower() for name in allowed}) == len(allowed)


@given(st.text())
def test_what_is_not_a_headers_name_is_never_repeated(requested: str):
    more = allowed_headers(requested).removeprefix(allowed_headers(""))
    assert re.fullmatch(r"(,[!#$%&'*+.^_`|~0-9A-Za-z-]+)*", more)
