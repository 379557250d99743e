"""Origins as Ollama allows them."""

from __future__ import annotations

import pytest

from service.access.origins import AllowedOrigins


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
