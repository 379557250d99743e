"""Where requests come from, which keys they bring, and where the server may listen."""

from __future__ import annotations

from pathlib import Path

import pytest

from service.access.addresses import check_bind, is_local, presented
from service.config import Settings
from service.errors import SettingsError


@pytest.mark.parametrize(
    ("headers", "keys"),
    [
        ({}, []),
        ({"Authorization": "Bearer a"}, ["a"]),
        ({"Authorization": "bearer  a "}, ["a"]),
        ({"Authorization": "BEARER a"}, ["a"]),
        ({"Authorization": "Basic YTpi"}, []),
        ({"Authorization": "Bearer"}, []),
        ({"Authorization": "a"}, []),
        ({"X-Api-Key": "a"}, ["a"]),
        ({"X-Api-Key": " "}, []),
        ({"Authorization": "Bearer a", "X-Api-Key": "b"}, ["a", "b"]),
    ],
)
def test_a_key_is_read_from_either_header(headers: dict[str, str], keys: list[str]):
    assert presented({f"HTTP_{name.upper().replace('-', '_')}": value for name, value in headers.items()}) == keys


@pytest.mark.parametrize(
    ("address", "local"),
    [
        ("127.0.0.1", True),
        ("127.8.9.1", True),
        ("::1", True),
        ("::ffff:127.0.0.1", True),
        # A Unix socket's peer, as gunicorn writes it.
        ("", True),
        (None, False),
        ("10.0.0.1", False),
        ("::ffff:10.0.0.1", False),
        ("fe80::1", False),
        ("0.0.0.0", False),
        ("localhost.evil.example", False),
    ],
)
def test_a_peer_on_loopback_or_a_unix_socket_is_local(address: str | None, local: bool):
    assert is_local(address) is local


@pytest.mark.parametrize("address", ["0.0.0.0", "::", "10.0.0.1", "example.org", ""])
def test_an_address_that_others_reach_needs_keys_or_the_setting(address: str, keys: Path):
    # An empty host is every address for gunicorn; the empty address of a peer is that of a Unix socket.
    with pytest.raises(SettingsError, match="VLLM_WSGI_KEYS"):
        check_bind(Settings(), [("127.0.0.1", 1), (address, 1)])
    check_bind(Settings(allow_anyone=True), [(address, 1)])
    check_bind(Settings(keys=str(keys)), [(address, 1)])


def test_loopback_and_unix_sockets_need_neither():
    check_bind(Settings(), [("127.0.0.1", 1), ("::1", 1), ("localhost", 1), "/run/web.sock"])
