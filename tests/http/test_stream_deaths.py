"""Streams that outlive the death of a web worker or of the engine. Scripted engine."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from tests.support.answers import NDJSON, chat
from tests.support.resumed import SCRIPT, WORDS, Pieces
from tests.support.servers import Server
from tests.support.waiting import until

StartServer = Callable[..., Server]


def kill_web_workers(server: Server) -> None:
    for pid in server.web_workers():
        os.kill(pid, signal.SIGKILL)


def kill_engine(server: Server) -> None:
    os.kill(server.engine_workers()[0], signal.SIGKILL)


def reads_on(client: httpx.Client, url: str, pieces: Pieces) -> bool:
    """Read the rest of the stream. Return False while it is on its way to another engine, which is a 503."""
    with client.stream("GET", url, params={"after": pieces.cursor}) as answer:
        if answer.status_code == 503:
            assert "Retry-After" in answer.headers
            return False
        assert answer.status_code == 200, answer.read()
        pieces.read(answer, 10**9)
    return True


@pytest.mark.parametrize(
    ("harm", "attached", "fields"),
    [
        (kill_web_workers, True, {"background": True}),
        (kill_web_workers, False, {"resumable": True}),
        (kill_engine, True, {"resumable": True}),
        (kill_engine, False, {"resumable": True}),
        (kill_engine, False, {"background": True}),
    ],
)
def test_a_stream_survives_one_death(
    start_server: StartServer, harm: Callable[[Server], None], attached: bool, fields: dict[str, Any]
):
    server = start_server({"VLLM_WSGI_MOVES": "2", "WEB_CONCURRENCY": "2"})
    body = chat(f"!rate:15 !think:hm {WORDS}")
    pieces = Pieces()
    with httpx.Client(base_url=server.url, timeout=120) as client:
        with client.stream("POST", "/api/chat", json=body | fields) as answer:
            url = answer.headers["Content-Location"]
            if "resumable" in fields:
                pieces.read(answer, 700)
        if attached:
            with client.stream("GET", url, params={"after": pieces.cursor}) as answer:
                harmed = False
                data = b""
                try:
                    for chunk in answer.iter_raw():
                        data += chunk
                        if not harmed:
                            harm(server)
                            harmed = True
                except httpx.TransportError:
                    assert harm is kill_web_workers
                pieces.take(data, NDJSON)
        else:
            harm(server)
    with httpx.Client(base_url=server.url, timeout=120) as client:
        if not pieces.ended:
            until(lambda: server.serves(), 120, "the web workers are back")
            until(lambda: reads_on(client, url, pieces), 120, "the stream is there again")
    assert pieces.said() == (f"{WORDS} ", 1)


def test_a_stream_is_gone_when_engine_and_web_workers_die_together(start_server: StartServer):
    server = start_server({"VLLM_WSGI_MOVES": "2"})
    with httpx.Client(base_url=server.url, timeout=120) as client:
        url = client.post("/api/chat", json=chat(SCRIPT, background=True)).json()["url"]
    kill_engine(server)
    kill_web_workers(server)
    server.wait_until_ready()
    answer = httpx.get(f"{server.url}{url}", timeout=120)
    assert answer.status_code == 410
    assert "the web worker that had it have exited" in answer.json()["error"]
