"""Engines that die, hang or are told to end under running streams: the client sees a pause. Scripted engine."""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import httpx
import pytest

from tests.support.servers import Server, chat, generate, until

StartServer = Callable[..., Server]

WORDS = " ".join(f"w{number}" for number in range(40))
SCRIPT = f"!rate:15 !think:hm {WORDS}"
# Each is asked for undisturbed first.
REQUESTS: list[tuple[str, dict[str, Any]]] = [
    *[("/api/chat", chat(SCRIPT, **fields)) for fields in ({}, {"stream": "sse"}, {"stream": False})],
    *[("/api/generate", generate(SCRIPT, **fields)) for fields in ({}, {"stream": "sse"}, {"stream": False})],
    *[("/v1/chat/completions", chat(SCRIPT, **fields)) for fields in ({"stream": True}, {"n": 3, "stream": True}, {})],
    ("/v1/completions", {"model": "demo", "prompt": [SCRIPT, f"!rate:15 {WORDS}"], "n": 2, "stream": True}),
    ("/v1/completions", {"model": "demo", "prompt": SCRIPT, "max_tokens": 30}),
    *[("/v1/responses", {"model": "demo", "input": SCRIPT, "stream": stream}) for stream in (True, False)],
    *[("/v1/messages", {**chat(SCRIPT), "max_tokens": 100, "stream": stream}) for stream in (True, False)],
]
ANSWERS = len(REQUESTS) + 2 + 3


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(len(REQUESTS)) as pool:
        yield pool


def ask(server: Server, path: str, body: dict[str, Any]) -> httpx.Response:
    return httpx.post(f"{server.url}{path}", json=body, timeout=120)


def begin(server: Server, pool: ThreadPoolExecutor) -> list[Future[httpx.Response]]:
    posts = [pool.submit(ask, server, path, body) for path, body in REQUESTS]
    until(lambda: server.status().get("running", 0) >= ANSWERS or any(post.done() for post in posts), 120, "all run")
    return posts


def said(body: dict[str, Any], answer: httpx.Response) -> tuple[int, list[str], int]:
    """The status, the words (in order, where there is one answer), and how often the answer says that it has ended."""
    words = re.findall(r"w\d+", answer.text.replace("\\n", "\n"))
    several = "n" in body or isinstance(body.get("prompt"), list)
    ends = sum(answer.text.count(mark) for mark in ('"done":true', "[DONE]", '"error"'))
    return answer.status_code, sorted(words) if several else words, ends


def answers(posts: list[Future[httpx.Response]]) -> list[tuple[int, list[str], int]]:
    return [said(body, post.result()) for (_, body), post in zip(REQUESTS, posts, strict=True)]


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> list[tuple[int, list[str], int]]:
    server = Server.start(tmp_path_factory.mktemp("undisturbed"))
    with ThreadPoolExecutor(len(REQUESTS)) as pool:
        whole = answers(begin(server, pool))
    server.stop()
    return whole


def kill_worker(server: Server) -> None:
    os.kill(server.engine_workers()[0], signal.SIGKILL)


def stop_worker(server: Server) -> None:
    os.kill(server.engine_workers()[0], signal.SIGSTOP)


def end_worker(server: Server) -> None:
    os.kill(server.engine_workers()[0], signal.SIGTERM)


def kill_host(server: Server) -> None:
    os.kill(server.engine_hosts()[0], signal.SIGKILL)


def kill_worker_twice(server: Server) -> None:
    kill_worker(server)
    until(lambda: server.status().get("restarts") == 1 and server.status()["state"] == "ready", 120, "it is back")
    until(lambda: server.status().get("running", 0) > 1, 120, "the streams run again")
    kill_worker(server)


@pytest.mark.parametrize("harm", [kill_worker, stop_worker, end_worker, kill_host, kill_worker_twice])
def test_every_stream_is_whole(
    start_server: StartServer, pool: ThreadPoolExecutor, undisturbed: list[Any], harm: Callable[[Server], None]
):
    server = start_server({"VLLM_WSGI_ENGINE_TIMEOUT": "2", "VLLM_WSGI_MOVES": "2"})
    posts = begin(server, pool)
    harm(server)
    assert answers(posts) == undisturbed


def test_a_request_that_kills_its_engine_is_given_up(start_server: StartServer):
    server = start_server({"VLLM_WSGI_MOVES": "2"})
    answer = ask(server, "/api/chat", chat("a b !crash", stream=False))
    assert answer.status_code == 500
    assert "died 2 times" in answer.json()["error"]
    assert server.output.count("is given up") == 1
