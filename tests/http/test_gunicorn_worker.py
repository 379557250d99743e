"""The web worker at its edges: streams and idle connections at SIGTERM, and requests that are no HTTP."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from http import HTTPStatus
from pathlib import Path
from types import SimpleNamespace
from urllib.parse import quote

import gevent
import gevent.socket
import httpx
import psutil
import pytest

from service.config import Settings
from service.gunicorn import worker as web_worker
from service.gunicorn.response import write_chunk
from service.gunicorn.worker import write_json_error
from tests.deploy.proxies import certify, found
from tests.support.answers import chat
from tests.support.asking import Asker
from tests.support.servers import SCRIPTED, Server
from tests.support.waiting import until

StartServer = Callable[..., Server]


def test_idle_connections_do_not_hold_up_the_end(start_server: StartServer):
    server = start_server()
    with httpx.Client(base_url=server.url) as idle, server.connect() as silent:
        assert idle.get("/api/version").status_code == 200
        silent.sendall(b"POST /api/chat HTTP/1.1\r\nHost: half a header")
        # gunicorn would wait for `keepalive`, 75 seconds.
        print(f"stopped after {server.stop(30):.1f} s")


def test_a_request_that_is_under_way_at_sigterm_is_answered(start_server: StartServer):
    server = start_server()
    with server.connect() as fresh:
        os.kill(server.master, signal.SIGTERM)
        until(lambda: "Handling signal: term" in server.output, 120, "the master has heard it")
        # The first of a web worker's looks for idle connections.
        time.sleep(web_worker.LOOK_SECONDS)
        fresh.sendall(b"GET /readyz HTTP/1.1\r\nHost: localhost\r\n\r\n")
        head, _, body = fresh.makefile("rb").read().partition(b"\r\n\r\n")
    assert (head.split()[1], b"going down" in body) == (b"503", True)


def test_a_stream_that_is_open_at_sigterm_comes_to_its_own_end(start_server: StartServer):
    server = start_server()
    asker = Asker(server.url)
    with ThreadPoolExecutor(1) as pool:
        stream = pool.submit(asker.ndjson, "/api/generate", prompt="!rate:20 !repeat:40:word")
        server.wait_until_running()
        server.stop(30)
    assert stream.result()[-1]["eval_count"] == 40
    asker.close()


def test_a_request_that_comes_as_its_wait_is_ended_is_answered(monkeypatch: pytest.MonkeyPatch):
    """Both are due in one turn of the loop."""
    monkeypatch.setattr(web_worker, "LOOK_SECONDS", 0.005)
    monkeypatch.setattr(web_worker, "IDLE_SECONDS", 0.0)
    ours, theirs = gevent.socket.socketpair()
    worker = object.__new__(web_worker.WebWorker)
    worker.cfg, worker._waiting = SimpleNamespace(keepalive=75), {}
    worker._own = SimpleNamespace(arrival=web_worker.Arrival(ours, Settings()))

    def answer() -> bytes:
        with worker.timeout_ctx():
            data: bytes = worker._own.arrival.receive(9)
        gevent.sleep(0.05)
        return data

    answering, closing = gevent.spawn(answer), gevent.spawn_later(0.005, worker._close_idle)
    gevent.sleep(0)
    theirs.send(b"GET")
    time.sleep(0.02)
    assert answering.get() == b"GET"
    closing.kill()
    ours.close()
    theirs.close()


@pytest.mark.parametrize(
    ("request_bytes", "status"),
    [
        (b"NOT HTTP AT ALL <b>\r\n\r\n", 400),
        (b"GET / HTTP/9.9\r\n\r\n", 400),
        (b"GET /" + b"x" * 8000 + b" HTTP/1.1\r\nHost: a\r\n\r\n", 414),
        (b"GET / HTTP/1.1\r\nHost: a\r\nX-Long: " + b"x" * 9000 + b"\r\n\r\n", 431),
        (b"POST /api/chat HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: nonsense\r\n\r\n", 501),
        (b"GET / HTTP/1.1\r\nHost: a\r\nBad Name: x\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: a\r\n" + b"".join(b"X-%d: a\r\n" % n for n in range(101)) + b"\r\n", 431),
        (b"GET / HTTP/1.1\r\nHost: a\r\nX: a\nFORGED\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: a\r\nX: a\rFORGED\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: a\r\nX: a\0b\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: a\r\nExpect: wonders\r\n\r\n", 417),
        (b"GET / HTTP/1.1\r\n\r\n", 400),
        (b"GET /livez HTTP/1.1\r\nX-Forwarded-Host: a\r\n\r\n", 400),
        (b"POST /api/chat HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", 501),
        (b"GET /nothing HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: Deflate,chunked\r\n\r\n0\r\n\r\n", 501),
        (
            b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: compress\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            501,
        ),
        (b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked, gzip\r\n\r\n0\r\n\r\n", 400),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400),
        # What servers in a row may read differently: two requests, or one.
        (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab", 400),
        (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding : chunked\r\n\r\n0\r\n\r\n", 400),
        (b"POST / HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
    ],
)
def test_what_is_no_http_is_answered_in_json(server: Server, request_bytes: bytes, status: int):
    with server.connect() as connection:
        connection.sendall(request_bytes)
        head, _, body = connection.makefile("rb").read().partition(b"\r\n\r\n")
    assert head.startswith(f"HTTP/1.1 {status} {HTTPStatus(status).phrase}\r\nConnection: close\r\n".encode())
    assert b"application/json" in head
    assert json.loads(body)["error"].startswith(str(status))


@pytest.mark.skipif(not found("openssl"), reason="openssl is not installed")
def test_who_does_not_shake_hands_is_closed_and_makes_no_noise(tmp_path: Path):
    certify(tmp_path)
    files = f"--certfile {tmp_path}/certificate.pem --keyfile {tmp_path}/key.pem"
    server = Server(tmp_path, SCRIPTED | {"GUNICORN_CMD_ARGS": files, "VLLM_WSGI_HEADER_TIMEOUT": "1"})
    server.url = server.url.replace("http:", "https:")
    server.wait_until_ready()
    try:
        with server.connect() as silent:
            with pytest.raises(httpx.TransportError):
                httpx.get(f"http://127.0.0.1:{server.port}")
            assert silent.recv(1) == b""
    finally:
        server.stop()
    assert "Traceback" not in server.output


def test_who_takes_nothing_is_told_nothing():
    """Else a client that reads nothing and sends half a header has a trace logged."""
    ours, theirs = gevent.socket.socketpair()
    ours.setblocking(False)
    with ours, theirs:
        with suppress(BlockingIOError):
            while ours.send(bytes(1 << 16)):
                """There is room yet."""
        write_json_error(ours, 408, "", "")
        ours.close()
        received = b"".join(iter(partial(theirs.recv, 1 << 16), b""))
    assert received.strip(b"\0") == b""


def timers(local_port: int, remote_port: int) -> list[str]:
    """Which timers run on a connection, by `/proc/net/tcp` (proc(5)): 02 is keep-alive."""
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    ports = [f":{local_port:04X}", f":{remote_port:04X}"]
    return [row[5][:2] for row in rows if [row[1][-5:], row[2][-5:]] == ports]


def test_a_client_that_vanishes_is_looked_for(server: Server):
    with server.connect() as connection:
        port = connection.getsockname()[1]
        until(lambda: timers(server.port, port) == ["02"], 120, "the server's end keeps the connection alive")
        connection.sendall(b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert connection.recv(1 << 16).startswith(b"HTTP/1.1 200 ")


def test_a_web_worker_has_all_descriptors_that_it_may_have(server: Server):
    (worker,) = server.web_workers()
    soft, hard = psutil.Process(worker).rlimit(psutil.RLIMIT_NOFILE)
    assert soft == hard


@pytest.mark.parametrize("size", [1, 100, 8_000_000])
def test_a_chunk_arrives_whole_whatever_the_socket_takes_at_once(size: int):
    ours, theirs = gevent.socket.socketpair()
    data = bytes(index % 251 for index in range(size))

    def write() -> None:
        write_chunk(ours, data)
        ours.close()

    writing = gevent.spawn(write)
    with theirs:
        received = b"".join(iter(lambda: theirs.recv(1 << 20), b""))
    writing.get()
    assert received == b"%X\r\n%b\r\n" % (size, data)


def test_a_chunk_for_a_client_that_is_gone_is_an_os_error():
    ours, theirs = gevent.socket.socketpair()
    theirs.close()
    with ours, pytest.raises(OSError, match="Broken pipe"):
        write_chunk(ours, b"x")


@pytest.mark.parametrize("name", ["SCRIPT_NAME", "PATH_INFO", "X-Forwarded-Proto"])
def test_a_client_can_not_move_the_application(client: httpx.Client, name: str):
    """gunicorn would believe every peer on this machine, and fail on what is no path of ours."""
    answer = client.get("/api/tags/", headers={name: "/elsewhere"})
    assert (answer.status_code, answer.headers["Location"]) == (301, "/api/tags")


FORGED = "\x1b[31m\rFORGED\n2026-11-22 FORGED"
RAW = [
    f"GET /{FORGED} HTTP/1.1\r\nHost: a\r\n\r\n",
    f"GET / HTTP/{FORGED}\r\n\r\n",
    f"GET / HTTP/1.1\r\nHost: localhost\r\n{FORGED}: a\r\n\r\n",
    f"GET / HTTP/1.1\r\nHost: localhost\r\nUser-Agent: {FORGED}\r\n\r\n",
    f"GET / HTTP/1.1\r\nHost: localhost\r\nX-Request-Id: {FORGED}\r\n\r\n",
    f"GET /{quote(FORGED)} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n",
    f"GET /api/tags?{quote(FORGED)} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n",
]


def test_a_client_writes_no_line_of_the_log(start_server: StartServer):
    """Each log has one line an event, and no terminal is told to do anything."""
    server = start_server({"GUNICORN_CMD_ARGS": "--access-logfile -"})
    for request in RAW:
        with server.connect() as connection:
            connection.sendall(request.encode())
            assert connection.makefile("rb").read().startswith(b"HTTP/1.1 ")
    with httpx.Client(base_url=server.url) as http:
        for name in (FORGED, f"demo{FORGED}"):
            for path in ("/api/chat", "/api/pull", "/api/show", "/v1/messages", "/v1/chat/completions"):
                assert http.post(path, json=chat("a", model=name)).status_code < 500
            assert http.post("/api/create", json={"model": name, "from": name, "stream": False}).status_code < 500
        http.post("/api/chat", json=chat(f"a !fail:{FORGED}"))
    until(lambda: "failed: '" in server.output, 120, "the failure is logged")
    assert not [line for line in server.output.splitlines() if line.startswith(("FORGED", "2026-11-22 FORGED"))]
    assert not {character for character in server.output if not character.isprintable()} - {"\n"}
