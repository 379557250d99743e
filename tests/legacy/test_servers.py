"""The blueprint under every server of the matrix: streams, clients that disconnect, SIGTERM, and refusals."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from service.engine_client.client import Client
from tests.legacy import servers
from tests.legacy.servers import (
    AT_ONCE,
    FINISHES,
    GUNICORNS,
    OUR_WORKER,
    SERVERS,
    TOO_OLD_FOR_OUR_WORKER,
    Server,
)
from tests.legacy.table import PAGE, Seen, page
from tests.support.answers import NDJSON, SSE, chat, parse, terminal, text
from tests.support.servers import EngineHost, WebProgram, free_port
from tests.support.waiting import until

HOST = Path(__file__).parent / "host.py"
TRACES = ("Traceback", "greenlet is being finalized")
# Some versions of gevent write this when a worker of gunicorn exits, whatever it serves: an application of five lines
# without our blueprint, too.
GEVENTS_OWN = re.compile(
    r"Exception ignored in: <function _removeHandlerRef.*?\nRuntimeError: greenlet is being finalized\n", re.S
)
SEEN = Seen()


@pytest.fixture(scope="module", params=SERVERS, ids=lambda server: server.id)
def server(request: pytest.FixtureRequest) -> Server:
    return request.param


@pytest.fixture(scope="module")
def python(server: Server, wheel: Path) -> Path:
    if "mod_wsgi" in server.name:
        skip_without_apache()
    return server.environment.make(wheel)


def skip_without_apache() -> None:
    if shutil.which("apxs") is None:
        pytest.skip("mod_wsgi is compiled with Apache's apxs, which is not installed here")
    if os.getuid() == 0 and subprocess.run([*servers.AS_ANOTHER_USER, "true"]).returncode:
        pytest.skip("Apache refuses to serve as root, and this system has no user namespaces")


class Running(WebProgram):
    """The application under the server; its engine is asked directly, since a sync worker answers one at a time."""

    def __init__(self, server: Server, python: Path, directory: Path, engine: EngineHost, env: dict[str, str]) -> None:
        self.engine = Client(engine.socket, heartbeat=10)
        port = free_port()
        shutil.copy(HOST, directory)
        command = servers.arguments(server, python, directory, port)
        env = {"VLLM_WSGI_ENGINE_SOCKET": engine.socket, "PYTHONPATH": "", "HOME": str(directory), **env}
        super().__init__(command, directory, port, env, "/llm", directory)

    def wait_until_it_runs(self, requests: int) -> None:
        """Until the engine runs this many requests; the engine reports once a second."""
        until(lambda: [model.running for model in self.engine.loaded()] == [requests], 120, f"{requests} requests run")


@contextmanager
def running(server: Server, python: Path, engine: EngineHost, directory: Path, **settings: str) -> Iterator[Running]:
    env = {f"VLLM_WSGI_{name.upper()}": value for name, value in settings.items()}
    host = Running(server, python, directory, engine, env)
    host.wait_until_ready()
    host.wait_until_it_runs(0)
    try:
        yield host
    finally:
        host.stop(60)


@pytest.fixture(scope="module")
def host(
    server: Server, python: Path, engine: EngineHost, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Running]:
    """A heartbeat that never comes where the server itself can notice that a client disconnects."""
    heartbeat = "3600" if server.notices == AT_ONCE else "1"
    directory = tmp_path_factory.mktemp("host")
    with running(server, python, engine, directory, heartbeat=heartbeat, max_body="10000") as host:
        yield host


@pytest.mark.parametrize("accept", [NDJSON, SSE])
def test_streams_flow_piece_by_piece(host: Running, server: Server, accept: str):
    body = chat("!rate:10 a b c d e f <g>")
    with httpx.stream("POST", f"{host.url}/api/chat", json=body, headers={"Accept": accept}, timeout=120) as answer:
        reads = list(answer.iter_raw())
    *records, last = parse(b"".join(reads), accept)
    assert (text(records), last["done"], len(reads) >= 3) == ("a b c d e f <g> ", True, True)


def test_streams_run_side_by_side_and_leave_no_trace(host: Running, server: Server):
    """All of them at the same time, or one after the other where the server says so."""
    connections = [begin(host, chat("a !sleep:600")) for _ in range(4)]
    host.wait_until_it_runs(min(4, server.streams))
    for connection in connections:
        connection.close()
    host.wait_until_it_runs(0)
    records = read_to_end(host, "!rate:20 a b")
    assert (len(records) > 1, terminal(records[-1])) == (True, True)
    assert traces(host) == []
    SEEN.add(server, "streams")


def traces(host: Running) -> list[str]:
    output = GEVENTS_OWN.sub("", host.output)
    return [output[-3000:] for trace in TRACES if trace in output]


def test_a_client_that_disconnects_is_noticed(host: Running, server: Server):
    """Before the first token and after it; without a stream only where the server itself can notice it."""
    streams = (True, False) if server.notices == AT_ONCE else (True,)
    bodies = [chat(script, stream=stream) for script in ("!sleep:600", "a !sleep:600") for stream in streams]
    # All at once, or one after the other where the server takes one.
    for group in [bodies] if server.streams > 1 else [[body] for body in bodies]:
        connections = [begin(host, body) for body in group]
        host.wait_until_it_runs(len(group))
        for connection in connections:
            connection.close()
        host.wait_until_it_runs(0)
    assert traces(host) == []
    SEEN.add(server, "leaves")


def begin(host: Running, body: dict[str, object]) -> socket.socket:
    content = json.dumps(body)
    connection = host.connect()
    head = f"POST /llm/api/chat HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(content)}\r\n\r\n"
    connection.sendall((head + content).encode())
    return connection


def test_what_must_be_refused_is(host: Running, server: Server):
    foreign_page = httpx.get(f"{host.url}/api/tags", headers={"Origin": "https://evil.example"})
    foreign_host = httpx.get(f"{host.url}/api/tags", headers={"Host": "evil.example"})
    too_long = httpx.post(f"{host.url}/api/chat", json=chat("a" * 20_000))
    unknown = httpx.get(f"{host.url}/api/nothing")
    assert (foreign_page.status_code, too_long.status_code, unknown.status_code) == (403, 413, 404)
    assert foreign_host.status_code == (403 if server.knows_address else 200)
    assert all("error" in answer.json() for answer in (foreign_page, too_long, unknown))
    SEEN.add(server, "refuses")


def test_open_streams_at_sigterm(server: Server, python: Path, engine: EngineHost, tmp_path: Path):
    with running(server, python, engine, tmp_path) as host, ThreadPoolExecutor(1) as pool:
        stream = pool.submit(read_to_end, host, "!rate:10 !repeat:30:word")
        host.wait_until_it_runs(1)
        os.kill(host.pid, signal.SIGTERM)
        records = stream.result()
        host.wait_until_gone(60)
        assert any(map(terminal, records)) is (server.at_sigterm == FINISHES)
        assert traces(host) == []
        host.wait_until_it_runs(0)
    SEEN.add(server, "drains")


@pytest.mark.parametrize("version", TOO_OLD_FOR_OUR_WORKER)
@pytest.mark.parametrize("named", [OUR_WORKER, ["-k", "vllm_wsgi.gunicorn.worker.WebWorker"]])
def test_our_worker_refuses_an_older_gunicorn(version: str, named: list[str], wheel: Path, tmp_path: Path):
    python = GUNICORNS[version].make(wheel)
    shutil.copy(HOST, tmp_path)
    command = [python, "-m", "gunicorn", *named, "--bind", f"127.0.0.1:{free_port()}", "host:app"]
    ran = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert ran.returncode != 0
    assert "our worker needs gunicorn 22 or later, and this is" in ran.stderr
    # gunicorn 20.1 puts a trace around whatever a worker class raises.
    assert "Traceback" not in ran.stderr or named != OUR_WORKER


def read_to_end(host: Running, script: str) -> list[dict[str, object]]:
    """The records of a stream, up to where its connection ends."""
    lines = b""
    try:
        with httpx.stream("POST", f"{host.url}/api/chat", json=chat(script), timeout=120) as answer:
            for piece in answer.iter_raw():
                lines += piece
    except httpx.TransportError:
        pass
    return [json.loads(line) for line in lines.split(b"\n") if line.strip().endswith(b"}")]


def test_the_page_says_what_was_seen(request: pytest.FixtureRequest):
    """The last test of all; without one of the servers there is nothing to compare."""
    if SEEN.servers() != SERVERS:
        pytest.skip(f"not tried, or not passed: {sorted({each.name for each in SERVERS} - names())}")
    if request.config.getoption("--write-servers"):
        PAGE.write_text(page(SERVERS))
    assert PAGE.read_text() == page(SERVERS)


def names() -> set[str]:
    return {each.name for each in SEEN.servers()}
