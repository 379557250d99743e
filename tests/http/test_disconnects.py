"""Clients that leave: whatever they leave, the engine soon runs nothing for them. Under gunicorn's gevent worker."""

from __future__ import annotations

import json
import os
import signal
import socket
import struct
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest

from tests.support.answers import chat
from tests.support.servers import Server, WebProgram
from tests.support.waiting import until

FORMATS: list[dict[str, Any]] = [{}, {"stream": "sse"}, {"stream": False}]


def request(body: dict[str, Any], *headers: str) -> bytes:
    """A POST of `body`, as it goes over the wire."""
    content = json.dumps(body).encode()
    head = ["POST /api/chat HTTP/1.1", "Host: localhost", f"Content-Length: {len(content)}", *headers]
    return "\r\n".join([*head, "", ""]).encode() + content


def close(connection: socket.socket) -> None:
    connection.close()


def reset(connection: socket.socket) -> None:
    """Closed with RST, as a crashed client's machine does."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()


def half_close(connection: socket.socket) -> None:
    """Only its writing side; nobody who does that reads on (nginx thinks so, too)."""
    connection.shutdown(socket.SHUT_WR)


LEAVES = [close, reset, half_close]


@pytest.fixture(autouse=True)
def idle(server: Server) -> Iterator[None]:
    server.wait_until_idle()
    yield
    server.wait_until_idle()


def open_files(server: Server) -> int:
    """How many the web worker has; the client of the tests keeps one connection, which counts before and after."""
    (worker,) = server.web_workers()
    return len(os.listdir(f"/proc/{worker}/fd"))


def assert_soon_idle(server: WebProgram, record_property: Callable[[str, object], None]) -> None:
    """The engine tells its load once a second, so up to one second of what is measured is ours."""
    took = server.wait_until_idle(5)
    record_property("idle_seconds", round(took, 2))
    print(f"the engine ran nothing {took:.2f} s later")


def begin(server: Server, script: str) -> list[tuple[Any, socket.socket]]:
    """A connection for each way to leave and each format, all waiting for what `script` does not bring yet."""
    connections = [(leave, fields, server.connect()) for leave in LEAVES for fields in FORMATS]
    for _, fields, connection in connections:
        connection.sendall(request(chat(script, **fields)))
    server.wait_until_running(len(connections))
    return [(leave, connection) for leave, _, connection in connections]


@pytest.mark.parametrize("script", ["!sleep:30 a", "a b !sleep:30 c"])
def test_clients_that_leave_before_or_between_tokens(server: Server, script: str, record_property: Any):
    connections = begin(server, script)
    for leave, connection in connections:
        leave(connection)
    assert_soon_idle(server, record_property)
    for _, connection in connections:
        connection.close()


def test_the_last_of_many_to_leave_is_noticed_too(server: Server, record_property: Any):
    connections = begin(server, "a !sleep:30")
    *others, (last_leave, last) = connections
    for leave, connection in others:
        leave(connection)
    server.wait_until_running(1)
    last_leave(last)
    assert_soon_idle(server, record_property)
    for _, connection in connections:
        connection.close()


def test_a_client_that_leaves_while_tokens_flow(server: Server, record_property: Any):
    with server.connect() as connection:
        connection.sendall(request(chat("!rate:50 !repeat:3000:w")))
        server.wait_until_running()
        connection.recv(1 << 16)
    assert_soon_idle(server, record_property)


def test_clients_that_leave_take_nobody_with_them(server: Server):
    stays = server.connect()
    stays.sendall(request(chat("!rate:20 " + " ".join(f"n{n}" for n in range(40))), "Connection: close"))
    for _ in range(20):
        with server.connect() as leaves:
            leaves.sendall(request(chat("!sleep:30")))
    with stays:
        content = stays.makefile("rb").read()
    assert all(f'"n{n} '.encode() in content or f" n{n} ".encode() in content for n in range(40))
    assert content.count(b'"done":true') == 1


def test_a_client_that_leaves_during_a_load(server: Server, client: httpx.Client):
    """The request ends though the load goes on, held up here by a stop; and the model comes all the same."""
    client.post("/api/generate", json={"model": "demo", "keep_alive": 0})
    before = open_files(server)
    with server.connect() as connection:
        connection.sendall(request({"model": "demo"}))
        until(server.engine_workers, 120, "an engine worker is started")
        (worker,) = server.engine_workers()
        os.kill(worker, signal.SIGSTOP)
        assert open_files(server) > before
    until(lambda: open_files(server) <= before, 120, "the request has ended")
    os.kill(worker, signal.SIGCONT)
    until(lambda: client.get("/api/ps").json()["models"], 120, "the model is loaded")
    assert server.engine_workers() == [worker]


def test_a_pipelined_second_request_is_no_disconnect(server: Server):
    second = b"GET /api/version HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
    with server.connect() as connection:
        connection.sendall(request(chat("!sleep:1 a b")) + second)
        content = connection.makefile("rb").read()
    assert content.count(b"HTTP/1.1 200 OK") == 2
    assert content.index(b'"done":true') < content.index(b'"version"')


def test_bytes_during_a_stream_are_no_disconnect(server: Server):
    with server.connect() as connection:
        connection.sendall(request(chat("!sleep:1 a !sleep:0.3 b")))
        server.wait_until_running()
        connection.sendall(b"GET /api/version HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        content = connection.makefile("rb").read()
    assert content.index(b'"done":true') < content.index(b'"version"')


@pytest.mark.parametrize("method", ["HEAD", "GET", "OPTIONS", "PUT"])
def test_other_methods_leave_nothing_running(server: Server, client: httpx.Client, method: str):
    answer = client.request(method, "/api/chat", json=chat("!sleep:30"))
    assert answer.status_code == 405
    assert server.status()["running"] == 0


def test_clients_that_leave_leave_no_descriptors(server: Server):
    """Neither sockets nor watches are kept."""
    before, workers = open_files(server), server.web_workers()
    for _ in range(6):
        connections = [server.connect() for _ in range(50)]
        for connection in connections:
            connection.sendall(request(chat("!sleep:600")))
        for connection in connections:
            connection.close()
    # By itself each of them would run for ten minutes.
    server.wait_until_idle()
    until(lambda: open_files(server) <= before, 120, "the web worker's files are closed")
    # A new web worker would have none of them.
    assert server.web_workers() == workers
