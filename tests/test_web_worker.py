"""The web worker at its edges: streams and idle connections at SIGTERM, and requests that are no HTTP."""

from __future__ import annotations

import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from tests.asking import Asker
from tests.servers import Server

StartServer = Callable[..., Server]


def test_idle_connections_do_not_hold_up_the_end(start_server: StartServer):
    server = start_server()
    with httpx.Client(base_url=server.url) as idle, server.connect() as silent:
        assert idle.get("/api/version").status_code == 200
        silent.sendall(b"POST /api/chat HTTP/1.1\r\nHost: half a header")
        # gunicorn would wait for `keepalive`, 75 seconds.
        print(f"stopped after {server.stop(30):.1f} s")


def test_a_stream_that_is_open_at_sigterm_comes_to_its_own_end(start_server: StartServer):
    server = start_server()
    asker = Asker(server.url)
    with ThreadPoolExecutor(1) as pool:
        stream = pool.submit(asker.ndjson, "/api/generate", prompt="!rate:20 !repeat:40:word")
        server.wait_until_running()
        server.stop(30)
    assert stream.result()[-1]["eval_count"] == 40
    asker.close()


@pytest.mark.parametrize(
    ("request_bytes", "status"),
    [
        (b"NOT HTTP AT ALL <b>\r\n\r\n", 400),
        (b"GET / HTTP/9.9\r\n\r\n", 400),
        (b"GET /" + b"x" * 8000 + b" HTTP/1.1\r\nHost: a\r\n\r\n", 414),
        (b"GET / HTTP/1.1\r\nHost: a\r\nX-Long: " + b"x" * 9000 + b"\r\n\r\n", 431),
        (b"POST /api/chat HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: nonsense\r\n\r\n", 501),
        (b"GET / HTTP/1.1\r\nHost: a\r\nBad Name: x\r\n\r\n", 400),
    ],
)
def test_what_is_no_http_is_answered_in_json(server: Server, request_bytes: bytes, status: int):
    with server.connect() as connection:
        connection.sendall(request_bytes)
        head, _, body = connection.makefile("rb").read().partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 %d " % status)
    assert b"application/json" in head
    assert json.loads(body)["error"].startswith(str(status))
