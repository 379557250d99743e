"""Going down: what runs goes on, what comes is refused, and what is left ends with a record. Scripted engine."""

from __future__ import annotations

import math
import os
import signal
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from app import create_app
from service.config import Settings
from service.drain import EARLY_SECONDS, Drain, drain
from service.engine.host.resident import HOLD_SECONDS
from tests.support.answers import NDJSON, SSE, chat, parse, text
from tests.support.servers import SCRIPTED, EngineHost, Server
from tests.support.waiting import until

# Heartbeats are when a stream that waits looks at the clock.
QUICK = SCRIPTED | {"WEB_CONCURRENCY": "2", "GUNICORN_CMD_ARGS": "--graceful-timeout 4", "VLLM_WSGI_HEARTBEAT": "0.5"}
LONG, SHORT = "a !sleep:60 b", "a !sleep:1.5 b"
# Streams of the other dialects, and what their terminal record begins with.
MESSAGES = {"model": "demo", "max_tokens": 9, "messages": [{"role": "user", "content": LONG}], "stream": True}
OTHERS = [
    ("/v1/chat/completions", MESSAGES, 'data: {"error":'),
    ("/v1/responses", {"model": "demo", "input": LONG, "stream": True}, "event: response.failed"),
    ("/v1/messages", MESSAGES, "event: error"),
]


@pytest.fixture
def host(scratch: Path) -> Iterator[EngineHost]:
    host = EngineHost(scratch, SCRIPTED | {"VLLM_WSGI_DRAIN": "3"})
    yield host
    host.stop()


@pytest.fixture
def web(host: EngineHost, tmp_path: Path) -> Iterator[Server]:
    """A web tier of its own on that host."""
    # Streams that may move would wait for another host.
    stay = {"VLLM_WSGI_MOVES": "0"}
    server = Server(tmp_path, QUICK | stay | {"VLLM_WSGI_ENGINE_SOCKET": host.socket})
    server.wait_until_ready()
    yield server
    server.stop()


def post(server: Server, script: str, **fields: object) -> httpx.Response:
    return httpx.post(f"{server.url}/api/chat", json=chat(script, **fields), timeout=120)


def begin(server: Server, pool: ThreadPoolExecutor, others: int = 0) -> list[Future[httpx.Response]]:
    """A short stream, a long one of each format, and a long answer that is not streamed; the engine runs them.

    Beside so many `others`, which it runs already: the short one soon runs no more.
    """
    asked = [(SHORT, {}), (LONG, {}), (LONG, {"stream": "sse"}), (LONG, {"stream": False})]
    posts = [pool.submit(post, server, script, **fields) for script, fields in asked]
    server.wait_until_running(len(posts) + others)
    return posts


def assert_drained(posts: list[Future[httpx.Response]], error: str) -> None:
    """The short one came to its own end, the long ones to ours, each with one record."""
    short, ndjson, sse, collected = [post.result() for post in posts]
    records = parse(short.content.replace(b" {", b"{"), NDJSON)
    assert (text(records), records[-1]["done"]) == ("a b ", True)
    for answer, media_type in ((ndjson, NDJSON), (sse, SSE)):
        *records, last = parse(answer.content.replace(b": heartbeat\n\n", b""), media_type)
        assert (text(records), last["error"]) == ("a ", error)
        assert not any("error" in record or record["done"] for record in records)
    assert (collected.status_code, collected.json()) == (503, {"error": error})
    assert int(collected.headers["Retry-After"]) > 0


def test_streams_end_before_the_web_tier_cuts_them_and_no_model_is_loaded_again(
    web: Server, host: EngineHost, pool: ThreadPoolExecutor
):
    workers = host.running("service.engine.worker.process")
    others = [pool.submit(httpx.post, f"{web.url}{path}", json=body, timeout=120) for path, body, _ in OTHERS]
    web.wait_until_running(len(others))
    posts = begin(web, pool, len(others))
    os.kill(web.master, signal.SIGTERM)
    assert_drained(posts, "the server is going down, please try again")
    events = [[event for event in other.result().text.split("\n\n") if event] for other in others]
    for told, (_, _, end) in zip(events, OTHERS, strict=True):
        assert [event.startswith(end) for event in told] == [False] * (len(told) - 1) + [True]
    web.wait_until_gone()
    assert web.output.count('"ending":"drained"') == 6
    assert "graceful timeout" not in web.output
    assert (host.running("service.engine.worker.process"), host.output.count("is loaded")) == (workers, 1)


def test_who_comes_after_sigterm_is_refused(web: Server, pool: ThreadPoolExecutor):
    posts = begin(web, pool)
    os.kill(web.master, signal.SIGTERM)
    refused = httpx.Response(200)
    try:
        while refused.status_code == 200:
            refused = post(web, "a", stream=False)
        assert (refused.status_code, int(refused.headers["Retry-After"]) > 0) == (503, True)
        assert refused.headers["Connection"] == "close"
    except httpx.TransportError:
        # The listener is closed within a second.
        pass
    assert_drained(posts, "the server is going down, please try again")


def test_the_engine_host_lets_requests_end_refuses_others_and_ends_the_rest(
    web: Server, host: EngineHost, pool: ThreadPoolExecutor
):
    posts = begin(web, pool)
    os.kill(host.pid, signal.SIGTERM)
    until(lambda: "going down" in httpx.get(f"{web.url}/readyz").text, 120, "it is not ready any more")
    # A web worker that has just been told where the model is need not ask again yet.
    time.sleep(HOLD_SECONDS)
    refused = post(web, "a")
    assert (refused.status_code, int(refused.headers["Retry-After"]) > 0) == (503, True)
    assert refused.json() == {"error": "the engine is going down, please try again"}
    assert_drained(posts, "the engine is going down, please try again")
    host.wait_until_gone()
    assert httpx.get(f"{web.url}/livez").status_code == 200


def test_who_waits_for_a_model_when_the_host_goes_down_is_refused(scratch: Path, tmp_path: Path):
    models = tmp_path / "models.toml"
    models.write_text('[models.demo]\nsource = "models/demo"\nengine_args = { load_seconds = 60 }\n')
    host = EngineHost(scratch, SCRIPTED | {"VLLM_WSGI_MODELS": str(models)})
    web = Server(tmp_path, QUICK | {"VLLM_WSGI_ENGINE_SOCKET": host.socket})
    web.wait_until_serving()
    with ThreadPoolExecutor(1) as pool:
        waits = pool.submit(post, web, "a", stream=False)
        until(lambda: web.status().get("state") == "loading", 120, "the model is being loaded")
        print(f"the host was gone after {host.stop(30):.1f} s")
        assert (waits.result().status_code, "going down" in waits.result().text) == (503, True)
    web.stop()


# --- without a server ------------------------------------------------------------------------------------


def test_a_process_that_drains_refuses_work_and_nothing_else(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(drain, "ends_at", 0.0)
    client = create_app(Settings(engine_socket="/nowhere/e.sock")).test_client()
    for path in ("/api/chat", "/v1/messages", "/api/pull", "/v1/chat/completions"):
        refused = client.post(path, json={})
        assert (refused.status_code, int(refused.headers["Retry-After"]) > 0) == (503, True)
        assert "the server is going down" in refused.text
    ready = client.get("/readyz")
    assert (ready.status_code, ready.json) == (503, {"error": "the server is going down, please try again"})
    assert [client.get(path).status_code for path in ("/livez", "/api/version")] == [200, 200]


def test_a_second_signal_gives_no_more_time():
    state = Drain()
    assert not state.begun
    state.begin(100)
    first = state.ends_at
    state.begin(1000)
    assert (state.begun, state.ends_at, first < math.inf) == (True, first, True)
    assert EARLY_SECONDS > 0
