"""One key sends many bodies and ends none of them: another key's client is answered, and memory has a bound."""

from __future__ import annotations

import socket
from contextlib import ExitStack
from pathlib import Path

import httpx

from service.web.body import READ_BYTES
from tests.support.keys import table
from tests.support.servers import SCRIPTED, Server

# Two pieces in which a web worker reads, and a byte.
LENGTH = 2 * READ_BYTES + 1
ROOM = 1_000_000


def send_most(server: Server, key: str) -> socket.socket:
    """All of a body but its last byte."""
    sock = server.connect()
    head = f"POST /api/generate HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {key}\r\nContent-Length: {LENGTH}"
    sock.sendall(f"{head}\r\n\r\n".encode() + b" " * (LENGTH - 1))
    return sock


def test_bodies_that_do_not_end_take_only_their_keys_part_of_the_room(tmp_path: Path):
    keys = tmp_path / "keys.toml"
    keys.write_text(table("attacker", "inference") + table("victim", "inference", "observe"))
    server = Server(tmp_path, {**SCRIPTED, "VLLM_WSGI_KEYS": str(keys), "VLLM_WSGI_MAX_BODIES": str(ROOM)})
    server.headers = {"Authorization": "Bearer victim"}
    server.wait_until_ready()
    with ExitStack() as stack:
        stack.callback(server.stop)
        sockets = [stack.enter_context(send_most(server, "attacker")) for _ in range(8)]
        # Three fit into the key's half.
        refused = [each for each in sockets if answered(each)]
        assert len(refused) == 5
        assert all(each.recv(65536).startswith(b"HTTP/1.1 429 ") for each in refused)
        body = {"model": "demo", "prompt": "a" * 90_000, "stream": False}
        answer = httpx.post(f"{server.url}/api/generate", json=body, headers=server.headers, timeout=120)
        assert answer.status_code == 200
        for each in sockets:
            each.close()
        server.headers = {"Authorization": "Bearer attacker"}
        again = httpx.post(f"{server.url}/api/generate", json=body, headers=server.headers, timeout=120)
        assert again.status_code == 200


def answered(sock: socket.socket) -> bool:
    """Whether an answer comes within some seconds; the server waits longer for the end of a body."""
    sock.settimeout(5)
    try:
        return bool(sock.recv(1, socket.MSG_PEEK))
    except TimeoutError:
        return False
