"""Real proxies with the shipped configurations before a real web tier: streams must survive them. Scripted engine.

The proxies wait a second for a byte, the heartbeat comes four times a second.
"""

from __future__ import annotations

import json
import os
import signal
import ssl
import time
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPSConnection
from itertools import pairwise
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest

from tests.deploy.proxies import PREFIX, STARTS, Proxy, certify, missing
from tests.support.answers import NDJSON, SSE, chat, parse, text
from tests.support.servers import SCRIPTED, Server
from tests.support.waiting import until

FORMATS = pytest.mark.parametrize("accept", [NDJSON, SSE])
BEHIND = {
    "VLLM_WSGI_PREFIX": PREFIX,
    "VLLM_WSGI_PROXY_HOPS": "1",
    "VLLM_WSGI_HOSTS": "llm.example.com",
    "VLLM_WSGI_HEARTBEAT": "0.25",
}


@pytest.fixture(scope="module")
def web(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """The web tier, asked without a proxy."""
    server = Server(tmp_path_factory.mktemp("web"), SCRIPTED | BEHIND)
    server.url += PREFIX
    server.wait_until_ready()
    yield server
    server.stop()


@pytest.fixture(scope="module")
def proxies(tmp_path_factory: pytest.TempPathFactory, web: Server) -> Iterator[dict[str, Proxy]]:
    """Those that are installed, by their names."""
    started = {}
    for name in STARTS:
        if not missing(name):
            directory = tmp_path_factory.mktemp(name)
            certify(directory)
            started[name] = STARTS[name](directory, web.port)
    for proxy in started.values():
        proxy.wait_until_ready()
    yield started
    for proxy in started.values():
        proxy.stop()


@pytest.fixture(params=STARTS)
def proxy(request: pytest.FixtureRequest, proxies: dict[str, Proxy]) -> Proxy:
    if request.param not in proxies:
        pytest.skip(f"{missing(request.param)} is not installed")
    return proxies[request.param]


@pytest.fixture
def client(proxy: Proxy) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=proxy.url, timeout=120, verify=False) as client:
        yield client


@FORMATS
def test_tokens_arrive_one_by_one(client: httpx.Client, proxy: Proxy, accept: str):
    """Twenty a second; what comes within 20 ms came together. HAProxy would gather four at a time without TLS."""
    body = chat("!rate:20 !repeat:20:word")
    for url in filter(None, (proxy.url, proxy.plain_url)):
        arrivals = [0.0]
        with client.stream("POST", f"{url}/api/chat", json=body, headers={"Accept": accept}) as answer:
            for _ in answer.iter_raw():
                arrivals.append(time.monotonic())
        assert (answer.status_code, answer.headers["Content-Type"]) == (200, accept)
        assert sum(later - earlier > 0.02 for earlier, later in pairwise(arrivals)) >= 10


def test_a_slow_first_token_survives_a_proxy_without_patience(proxy: Proxy, web: Server):
    """An answer that is not streamed has no heartbeat: a 504, from Apache a 502, from Varnish a 503."""

    def ask(**fields: str | bool) -> httpx.Response:
        body = chat(f"!sleep:{proxy.patience + 2} late", **fields)
        return httpx.post(f"{proxy.url}/api/chat", json=body, timeout=120, verify=False)

    with ThreadPoolExecutor() as pool:
        collected, ndjson, sse = pool.map(lambda stream: ask(stream=stream), (False, "ndjson", "sse"))
    assert collected.status_code in (502, 503, 504)
    assert text(parse(ndjson.content, NDJSON)) == "late "
    assert text(parse(sse.content.replace(b": heartbeat\n\n", b""), SSE)) == "late "
    web.wait_until_idle()


def endings(web: Server, ids: list[str]) -> list[str]:
    """How the requests with these ids have ended, by the request log; each has one line there."""
    lines = {each: f'"request_id":"{each}"' for each in ids}
    until(lambda: all(line in web.output for line in lines.values()), 120, "the requests are logged")
    logged = [line for line in web.output.splitlines() if any(each in line for each in lines.values())]
    return [str(json.loads(line)["ending"]) for line in logged]


def test_clients_that_leave_reach_the_engine(client: httpx.Client, web: Server):
    """One before its first token, one after."""
    scripts = {uuid.uuid4().hex: script for script in ("!sleep:600 a", "!rate:20 !repeat:12000:word")}
    requests = [
        client.build_request("POST", "/api/chat", json=chat(script), headers={"X-Request-Id": request_id})
        for request_id, script in scripts.items()
    ]
    streams = [client.send(request, stream=True) for request in requests]
    assert [stream.status_code for stream in streams] == [200, 200], [dict(stream.headers) for stream in streams]
    web.wait_until_running(len(streams))
    for stream in streams:
        stream.close()
    # Both would run for ten minutes.
    print(f"the engine ran nothing {web.wait_until_idle():.2f} s later")
    assert endings(web, [*scripts]) == ["client_gone"] * 2


def ask_for_ten_minutes(url: str, request_id: str) -> HTTPSConnection:
    """Ask for an answer that is not streamed and takes ten minutes, and do not wait for it."""
    address = urlsplit(url)
    connection = HTTPSConnection(address.netloc, timeout=60, context=ssl._create_unverified_context())
    body = json.dumps(chat("!sleep:600 a", stream=False))
    headers = {"Content-Type": "application/json", "X-Request-Id": request_id}
    connection.request("POST", f"{address.path}/api/chat", body, headers)
    return connection


@pytest.mark.parametrize("name", ["nginx", "haproxy"])
def test_who_leaves_before_an_answer_that_is_not_streamed_reaches_the_engine(name: str, web: Server, tmp_path: Path):
    """Before a proxy that would wait for the answer. Not Apache, which looks for its client only when it writes."""
    if missing(name):
        pytest.skip(f"{missing(name)} is not installed")
    certify(tmp_path)
    proxy = STARTS[name](tmp_path, web.port, patience=600)
    proxy.wait_until_ready()
    ids = [uuid.uuid4().hex for _ in range(4)]
    try:
        asked = [ask_for_ten_minutes(proxy.url, each) for each in ids]
        web.wait_until_running(len(asked))
        for client in asked:
            client.close()
        web.wait_until_idle()
        assert endings(web, ids) == ["client_gone"] * len(ids)
    finally:
        proxy.stop()


def test_a_long_body_passes(client: httpx.Client):
    body = chat("a", stream=False)
    body["messages"].insert(0, {"role": "system", "content": "x" * 3_000_000})
    answer = client.post("/api/chat", json=body)
    assert answer.status_code == 200, answer.text
    assert answer.json()["message"]["content"] == "a "


def test_a_redirect_leads_back_through_the_proxy(client: httpx.Client, proxy: Proxy):
    root = client.get(proxy.url, headers={"X-Forwarded-Prefix": "/spoofed"})
    # A client comes over TLS, wherever that ends.
    assert root.headers["Location"] == f"{proxy.url}/".replace("http:", "https:")
    assert client.get("/api/tags/").headers["Location"] == f"{PREFIX}/api/tags"


@pytest.mark.parametrize(("origin", "status"), [("https://llm.example.com", 200), ("https://evil.example", 403)])
def test_the_proxys_own_pages_may_call_and_others_not(client: httpx.Client, origin: str, status: int):
    headers = {"Host": "llm.example.com", "X-Forwarded-Host": "evil.example", "Origin": origin}
    assert client.get("/api/version", headers=headers).status_code == status


def test_a_requests_id_is_the_clients_or_the_proxys(client: httpx.Client):
    assert client.get("/api/version", headers={"X-Request-Id": "ours"}).headers.get_list("X-Request-Id") == ["ours"]
    made = {client.get("/api/version").headers["X-Request-Id"] for _ in range(2)}
    assert len(made) == 2


@pytest.fixture
def streams(proxies: dict[str, Proxy]) -> Iterator[dict[str, httpx.Response]]:
    """A stream through each proxy that is installed, after its head."""
    if not proxies:
        pytest.skip("no proxy is installed")
    for proxy in proxies.values():
        # Some ask now and then whether the server is ready, which it was not after another test had killed its engine.
        proxy.wait_until_ready()
    with httpx.Client(timeout=120, verify=False) as client:
        urls = {name: f"{proxy.url}/api/chat" for name, proxy in proxies.items()}
        requests = {name: client.build_request("POST", url, json=chat("a !sleep:600")) for name, url in urls.items()}
        streams = {name: client.send(request, stream=True) for name, request in requests.items()}
        assert {name: stream.status_code for name, stream in streams.items()} == dict.fromkeys(streams, 200)
        yield streams


def last_line(stream: httpx.Response) -> str:
    """Raises httpx.TransportError where the stream is cut."""
    return list(stream.iter_lines())[-1]


def test_a_dead_engine_is_a_record_at_every_client(streams: dict[str, httpx.Response], web: Server):
    httpx.post(f"{web.url}/api/chat", json=chat("!crash"))
    assert [name for name, stream in streams.items() if '{"error":' not in last_line(stream)] == []
    until(lambda: web.status().get("state") == "ready", 120, "the engine is back")


def test_a_dead_web_worker_is_a_broken_stream_at_every_client(streams: dict[str, httpx.Response], web: Server):
    """Caddy before 2.8 ends such a stream as if it were whole; its client misses the last record."""
    (worker,) = web.web_workers()
    web.wait_until_running(len(streams))
    os.kill(worker, signal.SIGKILL)
    with ThreadPoolExecutor() as pool:
        ends = {name: pool.submit(last_line, stream) for name, stream in streams.items()}
    errors = {name: end.exception() for name, end in ends.items()}
    whole = [name for name, error in errors.items() if error is None]
    assert {type(error) for name, error in errors.items() if name not in whole} == {httpx.RemoteProtocolError}
    assert whole in ([], ["caddy"])
    assert not any('"done":true' in ends[name].result() for name in whole)
    web.wait_until_ready()
