"""Host headers as Ollama allows them."""

from __future__ import annotations

import socket

import pytest

from service.access.host_header import AllowedHosts


@pytest.mark.parametrize(
    ("host", "allowed"),
    [
        ("", True),
        ("localhost", True),
        ("LOCALHOST:11434", True),
        (socket.gethostname(), True),
        ("llm.localhost", True),
        ("printer.local:80", True),
        ("host.docker.internal:11434", True),
        ("127.0.0.1:11434", True),
        ("127.8.9.1", True),
        ("[::1]:11434", True),
        ("[::1]", True),
        ("0.0.0.0:11434", True),
        ("192.168.1.7", True),
        ("10.0.0.1:80", True),
        ("[fd00::1]:80", True),
        ("203.0.113.7", False),
        ("[2001:db8::1]:80", False),
        ("172.32.0.1", False),
        ("evil.example", False),
        ("evil.example:11434", False),
        ("localhost.evil.example", False),
        ("local", False),
        ("127.0.0.1.evil.example", False),
        ("[evil", False),
    ],
)
def test_ollamas_own_hosts_are_allowed_and_no_others(host: str, allowed: bool):
    assert AllowedHosts([]).allows(host) is allowed


def test_more_hosts_can_be_allowed_or_all():
    hosts = AllowedHosts(["llm.corp.example", "203.0.113.7"])
    assert hosts.allows("LLM.corp.example:443")
    assert hosts.allows("203.0.113.7")
    assert not hosts.allows("other.example")
    assert not AllowedHosts(["*"]).watches("127.0.0.1")


@pytest.mark.parametrize(
    ("server_name", "watched"),
    [
        ("127.0.0.1", True),
        ("::1", True),
        ("localhost", True),
        ("0.0.0.0", False),
        ("192.168.1.7", False),
        ("waitress.invalid", False),
        ("/", False),
        ("", False),
    ],
)
def test_the_host_counts_where_the_server_listens_on_loopback(server_name: str, watched: bool):
    assert AllowedHosts([]).watches(server_name) is watched
