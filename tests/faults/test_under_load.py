"""What operators fear, done to a server while clients stream from it. Scripted engine, two web workers."""

from __future__ import annotations

import hashlib
import json
import os
import resource
import select
import signal
import socket
import struct
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, nullcontext, suppress
from http.client import HTTPResponse
from pathlib import Path

import httpx
import pytest

from tests.faults.load import CLIENTS, Load, leaks_nothing, under_load
from tests.faults.table import FAULTS, PAGE, Survived, fault, page
from tests.support.answers import NDJSON, chat, generate, parse, terminal
from tests.support.servers import SCRIPTED, Server
from tests.support.waiting import until

WEB_WORKERS = 2
STORE_BYTES = 2**20
ENV = {
    **SCRIPTED,
    "WEB_CONCURRENCY": str(WEB_WORKERS),
    "VLLM_WSGI_ENGINE_ARGS": '{"max_num_seqs": 1000}',
    "VLLM_WSGI_ENGINE_TIMEOUT": "4",
    "VLLM_WSGI_MOVES": "2",
    "VLLM_WSGI_HEADER_TIMEOUT": "3",
    "VLLM_WSGI_BODY_TIMEOUT": "3",
    "VLLM_WSGI_MAX_BODY": "1000000",
}


@pytest.fixture(scope="module")
def small_disk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path | None]:
    """Somewhere with little room; None where we may not mount it."""
    directory = tmp_path_factory.mktemp("disk")
    mount = ["mount", "-t", "tmpfs", "-o", f"size={STORE_BYTES}", "tmpfs", str(directory)]
    if os.geteuid() != 0 or subprocess.run(mount, check=False, capture_output=True).returncode:
        yield None
        return
    yield directory
    subprocess.run(["umount", str(directory)], check=True)


@pytest.fixture(scope="module")
def harmed(tmp_path_factory: pytest.TempPathFactory, small_disk: Path | None) -> Iterator[Server]:
    """One server, harmed again and again."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    store = {"VLLM_WSGI_STORE": str(small_disk)} if small_disk else {}
    server = Server.start(tmp_path_factory.mktemp("harmed"), ENV | store)
    try:
        # What comes first takes connections and memory that stay.
        warm_up = Load(server)
        warm_up.wait_until_all_are_answered()
        warm_up.stop()
        yield server
    finally:
        server.stop()
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert "Traceback" not in server.output


@pytest.fixture(autouse=True)
def whole(harmed: Server) -> None:
    """Every process is there."""
    until(lambda: len(harmed.web_workers()) == WEB_WORKERS, 120, "every web worker runs")
    harmed.wait_until_ready()


def request(body: dict[str, object], *headers: str, length: int | None = None) -> bytes:
    content = json.dumps(body).encode()
    head = ["POST /api/chat HTTP/1.1", "Host: localhost", f"Content-Length: {length or len(content)}", *headers]
    return "\r\n".join([*head, "", ""]).encode() + content


def answer(connection: socket.socket) -> tuple[int, dict[str, str]]:
    response = HTTPResponse(connection)
    response.begin()
    return response.status, json.loads(response.read())


@fault("`kill -9` of a web worker")
@leaks_nothing
def test_a_killed_web_worker(harmed: Server) -> None:
    web, engine = harmed.web_workers(), harmed.engine_workers()
    with under_load(harmed) as load:
        os.kill(web[0], signal.SIGKILL)
        until(lambda: len(harmed.web_workers()) == WEB_WORKERS, 120, "another web worker runs")
    # Each of them at most in the one answer that it read; who is on another web worker in none.
    assert load.endings["cut"] <= CLIENTS
    assert not load.endings["error"]
    assert harmed.engine_workers() == engine


@fault("`kill -9` of the engine host")
@leaks_nothing
def test_a_killed_engine_host(harmed: Server) -> None:
    web, (host,) = harmed.web_workers(), harmed.engine_hosts()
    with under_load(harmed) as load:
        os.kill(host, signal.SIGKILL)
    assert not load.endings["error"]
    assert not load.endings["cut"]
    assert harmed.web_workers() == web


@fault("`kill -9` of an engine worker")
@leaks_nothing
def test_a_killed_engine_worker(harmed: Server) -> None:
    web, host, (worker,) = harmed.web_workers(), harmed.engine_hosts(), harmed.engine_workers()
    with under_load(harmed) as load:
        os.kill(worker, signal.SIGKILL)
    assert not load.endings["error"]
    assert not load.endings["cut"]
    assert (harmed.web_workers(), harmed.engine_hosts()) == (web, host)


@fault("`SIGSTOP` of an engine worker")
@leaks_nothing
def test_a_stopped_engine_worker(harmed: Server) -> None:
    web, (worker,) = harmed.web_workers(), harmed.engine_workers()
    with under_load(harmed) as load:
        os.kill(worker, signal.SIGSTOP)
        until(lambda: worker not in harmed.engine_workers(), 120, "it is replaced")
    assert not load.endings["error"]
    assert not load.endings["cut"]
    assert harmed.web_workers() == web


@fault("a full disk under the model store")
@leaks_nothing
def test_a_full_disk(harmed: Server, small_disk: Path | None) -> None:
    if small_disk is None:
        pytest.skip("needs leave to mount a tmpfs")
    with under_load(harmed) as load:
        run_out_of_disk(harmed, small_disk)
    assert load.endings.keys() == {"done"}


def run_out_of_disk(server: Server, disk: Path) -> None:
    """A blob and a model are refused for want of room, leave nothing, and are taken once there is room."""
    content = os.urandom(STORE_BYTES // 2)
    blob = f"{server.url}/api/blobs/sha256:{hashlib.sha256(content).hexdigest()}"
    poet = {"model": "poet", "from": "demo", "system": "Rhyme.", "stream": False}
    filler = disk / "filler"
    filler.write_bytes(bytes(STORE_BYTES // 4 * 3))
    refused = httpx.post(blob, content=content, timeout=120)
    assert (refused.status_code, refused.json().keys()) == (507, {"error"})
    fill(filler)
    refused = httpx.post(f"{server.url}/api/create", json=poet, timeout=120)
    assert (refused.status_code, refused.json().keys()) == (507, {"error"})
    assert [path for path in disk.rglob("*") if path.is_file()] == [filler]
    filler.unlink()
    assert httpx.post(blob, content=content, timeout=120).status_code == 201
    assert httpx.post(f"{server.url}/api/create", json=poet, timeout=120).json() == {"status": "success"}
    assert httpx.request("DELETE", f"{server.url}/api/delete", json={"model": "poet"}).status_code == 200
    os.remove(disk / "blobs" / f"sha256-{blob.rpartition(':')[2]}")


def fill(path: Path) -> None:
    """To the last byte."""
    with suppress(OSError), path.open("ab", buffering=0) as file:
        while file.write(bytes(4096)):
            """There is room yet."""


@fault("a client that reads one byte a second")
@leaks_nothing
def test_a_client_that_reads_one_byte_a_second(harmed: Server) -> None:
    complaint = "its client reads too slowly"
    earlier = harmed.output.count(complaint)
    with under_load(harmed) as load, socket.socket() as slow:
        word = "w" * 200
        slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        slow.connect(("127.0.0.1", harmed.port))
        slow.sendall(request(chat(f"!repeat:25000:{word} !rate:1000 !repeat:60000:{word}"), "Connection: close"))
        read = []
        while harmed.output.count(complaint) == earlier:
            read.append(slow.recv(1))
            time.sleep(1)
        _, _, chunks = b"".join([*read, slow.makefile("rb").read()]).partition(b"\r\n\r\n")
        records = parse(unchunked(chunks), NDJSON)
        assert [terminal(record) for record in records] == [False] * (len(records) - 1) + [True]
        assert "reads too slowly" in records[-1]["error"]
    assert load.endings.keys() == {"done"}


def unchunked(data: bytes) -> bytes:
    """What chunks hold (RFC 9112 §7.1)."""
    parts = []
    while data:
        size, _, data = data.partition(b"\r\n")
        parts.append(data[: int(size, 16)])
        data = data[int(size, 16) + 2 :]
    return b"".join(parts)


def vanish(server: Server) -> None:
    """500 clients, each in the middle of its stream."""
    vanishing = [server.connect() for _ in range(500)]
    for connection in vanishing:
        connection.sendall(request(chat("a !rate:1 !repeat:600:w")))
    for connection in vanishing:
        assert connection.recv(17) == b"HTTP/1.1 200 OK\r\n"
        # With RST, as a crashed client's machine does.
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        connection.close()
    until(lambda: server.status()["running"] <= CLIENTS, 120, "the engine runs nothing for them")


@fault("500 clients that vanish mid-stream")
@leaks_nothing
def test_clients_that_vanish(harmed: Server) -> None:
    with under_load(harmed) as load:
        vanish(harmed)
    assert load.endings.keys() == {"done"}


@fault("1,000 connections that send half a header")
@leaks_nothing
def test_half_headers(harmed: Server) -> None:
    with under_load(harmed) as load, ExitStack() as stack:
        half = [stack.enter_context(harmed.connect()) for _ in range(1000)]
        for connection in half:
            connection.sendall(b"POST /api/chat HTTP/1.1\r\nHost: loc")
        for connection in half:
            assert answer(connection) == (408, {"error": "408 request timeout: the request came too slowly"})
            assert connection.recv(1) == b""
    assert load.endings.keys() == {"done"}


def send_nothing(connection: socket.socket) -> None:
    time.sleep(0.2)


def send_a_byte(connection: socket.socket) -> None:
    connection.sendall(b" ")
    time.sleep(0.2)


@fault("a body that never ends")
@pytest.mark.parametrize("go_on", [send_nothing, send_a_byte])
@leaks_nothing
def test_a_body_that_never_ends(harmed: Server, go_on: Callable[[socket.socket], None]) -> None:
    with under_load(harmed) as load, harmed.connect() as connection:
        connection.sendall(request(generate("a"), length=100_000))
        # Who sends when the server closes is told by a reset, before which the answer may be lost (RFC 9112 §9.6).
        with suppress(ConnectionError) if go_on is send_a_byte else nullcontext():
            while not select.select([connection], [], [], 0)[0]:
                go_on(connection)
            assert answer(connection) == (408, {"error": "the request body came too slowly"})
            assert connection.recv(1) == b""
    assert load.endings.keys() == {"done"}


@fault("a body that never ends")
@leaks_nothing
def test_chunks_that_never_end(harmed: Server) -> None:
    chunk = b"10000\r\n" + bytes(1 << 16) + b"\r\n"
    with under_load(harmed) as load, harmed.connect() as connection:
        connection.sendall(b"POST /api/chat HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n")
        while not select.select([connection], [], [], 0)[0]:
            connection.sendall(chunk)
        assert answer(connection)[0] == 413
        with suppress(ConnectionError):
            while True:
                connection.sendall(chunk)
    assert load.endings.keys() == {"done"}


def test_the_page_has_the_table_of_what_was_survived(survived: Survived, request: pytest.FixtureRequest) -> None:
    """The last test of all. Where it ran alone, or a disk could not be filled, there is nothing to compare."""
    if request.config.getoption("--write-faults", default=False):
        PAGE.write_text(page(survived.table()))
    if survived.faults() != list(FAULTS):
        pytest.skip(f"not tried, or not survived: {FAULTS.keys() - survived.faults()}")
    assert PAGE.read_text() == page(survived.table())
