"""SIGTERM: streams go to their end, connections that wait for a next request don't hold it up."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import httpx

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
