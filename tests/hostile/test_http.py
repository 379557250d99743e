"""Hostile bodies and headers over HTTP, with a victim beside them. Scripted engine.

The waits of the victim are printed, not asserted: how long they are says as much about the machine as about the server.
"""

from __future__ import annotations

import gzip
import json
import os
import random
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from contextlib import suppress
from http.client import HTTPResponse
from pathlib import Path

import httpx
import pytest
import zstandard

from service.gunicorn.request_rules import DRAIN_BYTES
from tests.support.answers import chat
from tests.support.keys import table
from tests.support.servers import SCRIPTED, Server

ATTACK_SECONDS = 10.0
MAX_BODY = 32 * 1024 * 1024
# What the kernels of both ends and gunicorn's buffers hold besides.
BUFFERS = 16 * 1024 * 1024


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server with keys: `attacker` and `victim` have the scope inference."""
    directory: Path = tmp_path_factory.mktemp("guarded")
    keys = directory / "keys.toml"
    keys.write_text("".join(table(name, "inference") for name in ("attacker", "victim")))
    server = Server(directory, {**SCRIPTED, "VLLM_WSGI_KEYS": str(keys)})
    server.headers = {"Authorization": "Bearer victim"}
    server.wait_until_serving()
    yield server
    server.stop()


# --- bodies that nobody reads ----------------------------------------------------------------------------

PIECE = b"x" * 65536
REFUSED = {
    "no key": b"POST /api/chat HTTP/1.1\r\nHost: localhost\r\n",
    "no route": b"POST /nothing HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer victim\r\n",
    "no scope": b"POST /api/create HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer victim\r\n",
    "foreign page": b"POST /api/chat HTTP/1.1\r\nHost: localhost\r\nOrigin: https://evil.example\r\n",
    "too long": b"POST /api/chat HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer victim\r\n",
}
STATUS = {"no key": 401, "no route": 404, "no scope": 403, "foreign page": 403, "too long": 413}


def pour(connection: socket.socket, piece: bytes, limit: int) -> int:
    """Send until the server closes the connection; how many bytes it took of at most `limit`."""
    sent = 0
    with suppress(OSError):
        while sent < limit:
            connection.sendall(piece)
            sent += len(piece)
    return sent


@pytest.mark.parametrize("kind", REFUSED)
@pytest.mark.parametrize("chunked", [False, True])
def test_of_a_refused_body_a_few_megabytes_are_taken_and_the_connection_is_closed(
    guarded: Server, kind: str, chunked: bool
):
    framing = b"Transfer-Encoding: chunked\r\n\r\n" if chunked else b"Content-Length: 999999999999\r\n\r\n"
    piece = b"%x\r\n%b\r\n" % (len(PIECE), PIECE) if chunked else PIECE
    read = MAX_BODY if chunked and kind == "too long" else 0
    with guarded.connect() as connection:
        connection.sendall(REFUSED[kind] + framing)
        # A body without a length is refused when it is too long, so that much has to be sent first.
        sent = pour(connection, piece, read + 10 * len(piece)) if read else 0
        response = HTTPResponse(connection)
        response.begin()
        assert response.status == STATUS[kind]
        assert chunked or response.headers["Connection"] == "close"
        response.read()
        sent += pour(connection, piece, 10 * (DRAIN_BYTES + BUFFERS))
    assert sent <= read + DRAIN_BYTES + BUFFERS


def test_a_connection_goes_on_after_a_refused_body_that_ends_soon(guarded: Server):
    with guarded.connect() as connection:
        for _ in range(3):
            body = b"x" * 1_000_000
            connection.sendall(REFUSED["no key"] + b"Content-Length: %d\r\n\r\n" % len(body) + body)
            response = HTTPResponse(connection)
            response.begin()
            assert (response.status, response.headers["Connection"]) == (401, "keep-alive")
            response.read()


def test_a_client_that_sends_all_of_a_body_that_is_too_long_gets_the_413(guarded: Server):
    answer = httpx.post(f"{guarded.url}/api/chat", content=bytes(MAX_BODY + 1), headers=guarded.headers)
    assert answer.status_code == 413


# --- bodies that are costly ------------------------------------------------------------------------------


def repeated(item: str, field: str = "context") -> Callable[[int], bytes]:
    """A body of about so many bytes: a list of one item again and again."""

    def body(size: int) -> bytes:
        count = max(1, size // (len(item) + 1))
        return f'{{"model":"demo","{field}":[{(item + ",") * (count - 1)}{item}]}}'.encode()

    return body


def fields(size: int) -> bytes:
    return ("{" + ",".join(f'"{number}":0' for number in range(size // 10)) + "}").encode()


BODIES: dict[str, Callable[[int], bytes]] = {
    "numbers": repeated("0"),
    "long numbers": repeated("9" * 4000),
    "floats": repeated("0.5"),
    "texts": repeated('""'),
    "escaped quotes": repeated('"\\""'),
    "objects": repeated('{"a":0}'),
    "lists": repeated("[]"),
    "messages": repeated('{"role":"user","content":"word"}', "messages"),
    "fields": fields,
    "a deep list": lambda size: b'{"a":' + b"[" * size,
    "one text": lambda size: json.dumps({"model": "nobody", "prompt": "a, b: [c] " * (size // 10)}).encode(),
    "escapes": lambda size: b'{"model":"nobody","prompt":"' + b'\\"\\\\' * (size // 4) + b'"}',
    "Korean": lambda size: b'{"model":"nobody","prompt":"' + b"\\ud55c" * (size // 6) + b'"}',
    "no JSON": lambda size: b"\\" * size,
}
CODINGS: dict[str, Callable[[bytes], bytes]] = {
    "": bytes,
    "gzip": lambda data: gzip.compress(data, 1),
    "zstd": zstandard.ZstdCompressor().compress,
}
EMPTY_MEMBERS = gzip.compress(b"") * 100_000


def attack(server: Server, random: random.Random, ends: threading.Event) -> dict[str, int]:
    """Send bodies of every kind and of random sizes; how many answers had which status."""
    statuses: dict[str, int] = {}
    headers = {"Authorization": "Bearer attacker"}
    with httpx.Client(base_url=server.url, timeout=120) as client:
        while not ends.is_set():
            kind, coding = random.choice(list(BODIES)), random.choice(list(CODINGS))
            body = CODINGS[coding](BODIES[kind](random.randrange(1000, MAX_BODY)))
            if random.random() < 0.1:
                coding, body = "gzip", EMPTY_MEMBERS
            path = random.choice(["/api/generate", "/api/chat", "/v1/chat/completions", "/v1/messages"])
            answer = client.post(path, content=body, headers={**headers, "Content-Encoding": coding or "identity"})
            assert answer.status_code < 500, (kind, coding, len(body), answer.text[:200])
            statuses[str(answer.status_code)] = statuses.get(str(answer.status_code), 0) + 1
    return statuses


def waits(server: Server, ends: threading.Event) -> list[float]:
    """Ask for a sign of life again and again; how long each answer took, in seconds."""
    took: list[float] = []
    with httpx.Client(base_url=server.url, timeout=120) as client:
        while not ends.is_set():
            began = time.monotonic()
            assert client.get("/livez").status_code == 200
            took.append(time.monotonic() - began)
            time.sleep(0.01)
    return took


def streams(server: Server, ends: threading.Event) -> int:
    """Stream answers one after the other, as the victim; how many were whole."""
    count = 0
    with httpx.Client(base_url=server.url, timeout=120, headers=server.headers) as client:
        while not ends.is_set():
            answer = client.post("/api/chat", json=chat("a b"))
            assert (answer.status_code, json.loads(answer.text.splitlines()[-1])["done"]) == (200, True)
            count += 1
    return count


def test_bodies_of_any_size_and_kind_cost_no_other_client_an_answer(guarded: Server):
    # CI sends the same bodies each time: a red there comes from the change.
    seed = 1 if "CI" in os.environ else random.randrange(2**32)
    workers, engines = guarded.web_workers(), guarded.engine_workers()
    ends = threading.Event()
    with ThreadPoolExecutor(3) as pool:
        victim, asker = pool.submit(waits, guarded, ends), pool.submit(streams, guarded, ends)
        attacker = pool.submit(attack, guarded, random.Random(seed), ends)
        # Ends early when one of them has failed.
        wait([victim, asker, attacker], ATTACK_SECONDS, FIRST_COMPLETED)
        ends.set()
        took, count, statuses = victim.result(), asker.result(), attacker.result()
    print(f"seed {seed}: {statuses}; /livez: longest {max(took):.3f} s of {len(took)}; {count} streams")
    assert (guarded.web_workers(), guarded.engine_workers()) == (workers, engines)
