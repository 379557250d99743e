"""How much each may have, over HTTP: a scripted engine that runs one request at a time, and two web workers."""

from __future__ import annotations

import json
import os
import select
import signal
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from service.access.new_key import lines
from service.engine_client.client import Client
from service.engine_client.disconnect import Presence
from service.errors import DeadlineExceeded, ModelNotFound
from service.protocol.model_info import Recipe
from service.protocol.request import Request, Text
from tests.support.answers import NDJSON, chat, parse, terminal, text
from tests.support.servers import ROOT, SCRIPTED, Server
from tests.support.waiting import until

BUSY = "server busy, please try again.  maximum pending requests exceeded"
KEYS = {
    "many": "",
    "one": "",
    "first": "priority = -1",
    "four": "max_concurrent = 4",
    "minute": "tokens_per_minute = 50",
    "short": "max_prompt_tokens = 5\nmax_output_tokens = 3",
}


MODELS = """
[models.demo]
source = "{0}"
pinned = true
engine_args = {{ max_num_seqs = 1 }}

[models.slow]
source = "{0}"
engine_args = {{ load_seconds = 4 }}
"""
# A busy machine needs a moment to begin what is then cut off.
DEADLINE = 5


def started(directory: Path, **settings: str) -> Server:
    scopes = ["inference", "observe"]
    (directory / "keys.toml").write_text("\n".join(f"{lines(k, k, scopes)}{more}\n" for k, more in KEYS.items()))
    (directory / "models.toml").write_text(MODELS.format(ROOT / "models" / "demo"))
    files = {"VLLM_WSGI_KEYS": str(directory / "keys.toml"), "VLLM_WSGI_MODELS": str(directory / "models.toml")}
    server = Server.start(directory, SCRIPTED | files | settings | {"VLLM_WSGI_OPEN_DISCOVERY": "1"})
    server.headers = bearer("one")
    return server


@pytest.fixture(scope="module")
def narrow(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    server = started(tmp_path_factory.mktemp("narrow"), WEB_CONCURRENCY="2")
    yield server
    server.stop()


@pytest.fixture(scope="module")
def strict(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Two may wait."""
    server = started(tmp_path_factory.mktemp("strict"), VLLM_WSGI_MAX_QUEUE="2")
    yield server
    server.stop()


@pytest.fixture(scope="module")
def hasty(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Nothing may take longer than DEADLINE."""
    limits = {"VLLM_WSGI_DEADLINE": str(DEADLINE), "VLLM_WSGI_HEARTBEAT": "1"}
    server = started(tmp_path_factory.mktemp("hasty"), **limits)
    yield server
    server.stop()


def bearer(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


def post(server: Server, key: str, script: str, **fields: Any) -> httpx.Response:
    body = chat(script, **{"stream": False, **fields})
    return httpx.post(f"{server.url}/api/chat", json=body, headers=bearer(key), timeout=120)


def begin(server: Server, key: str, script: str, **fields: Any) -> socket.socket:
    """Ask, and read nothing yet; the answer ends with the connection."""
    body = json.dumps(chat(script, **fields)).encode()
    head = f"POST /api/chat HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {key}\r\nConnection: close\r\n"
    connection = server.connect()
    connection.sendall(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
    return connection


def answer(connection: socket.socket) -> tuple[int, dict[str, Any]]:
    """The status and the one record of an answer that is not streamed."""
    with connection, connection.makefile("rb") as file:
        head, _, body = file.read().partition(b"\r\n\r\n")
    return int(head.split()[1]), json.loads(body)


def one_is_refused(*connections: socket.socket) -> Callable[[], str]:
    """An `unless` for waits during requests that must go on meanwhile; each may have begun its stream."""

    def unless() -> str:
        answered = select.select(connections, [], [], 0)[0]
        heads = [each.recv(1000, socket.MSG_PEEK) for each in answered]
        return next((f"a request was answered: {head!r}" for head in heads if b" 200 " not in head[:20]), "")

    return unless


@contextmanager
def held(server: Server) -> Iterator[None]:
    """While the engine's one place is taken."""
    with begin(server, "one", "!sleep:60") as holding:
        server.wait_until_running(unless=one_is_refused(holding))
        yield
    server.wait_until_idle()


@contextmanager
def stopped(pid: int) -> Iterator[None]:
    """While a web worker sleeps, the others take the connections."""
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


def metrics(server: Server) -> str:
    return httpx.get(f"{server.url}/metrics", headers=server.headers, timeout=120).text


def wait_until_waiting(server: Server, requests: int, *connections: socket.socket) -> None:
    """Fails as soon as one of the connections is refused."""
    until(
        lambda: server.status().get("waiting") == requests, 60, f"{requests} requests wait",
        one_is_refused(*connections),
    )  # fmt: skip


def test_one_is_served_next_though_five_hundred_of_another_key_came_before(narrow: Server):
    with held(narrow):
        many = [begin(narrow, "many", f"!sleep:0.002 {number}", stream=False) for number in range(500)]
        wait_until_waiting(narrow, 500, *many)
        one = begin(narrow, "one", "hello", stream=False)
        wait_until_waiting(narrow, 501, *many, one)
    _, own = answer(one)
    earlier = [record for _, record in map(answer, many) if record["created_at"] < own["created_at"]]
    # What one moment brings to a web worker it takes together.
    assert len(earlier) < 10


def test_a_key_of_a_lower_priority_number_goes_first(narrow: Server):
    with held(narrow):
        others = [begin(narrow, key, "!sleep:0.05 x", stream=False) for key in ("one", "many", "first")]
        wait_until_waiting(narrow, 3, *others)
    created = [answer(other)[1]["created_at"] for other in others]
    assert min(created) == created[2]


def test_a_limit_of_four_at_once_holds_over_both_web_workers(narrow: Server):
    one, other = narrow.web_workers()
    with stopped(one):
        streams = [begin(narrow, "four", "!sleep:60") for _ in range(2)]
        until(lambda: in_flight(narrow) == 2, 120, "the one web worker has two", one_is_refused(*streams))
    with stopped(other):
        streams += [begin(narrow, "four", "!sleep:60") for _ in range(2)]
        until(lambda: in_flight(narrow) == 4, 120, "the other has two more", one_is_refused(*streams))
    for pid in (one, other):
        with stopped(pid):
            refused = post(narrow, "four", "a")
        assert (refused.status_code, refused.headers["Retry-After"]) == (429, "1")
        assert refused.json() == {
            "error": 'key "four" has 4 requests running or waiting, which is all that it may have'
        }
    for stream in streams:
        stream.close()
    narrow.wait_until_idle()
    assert post(narrow, "four", "a").status_code == 200


def in_flight(server: Server) -> int:
    status = server.status()
    return int(status["running"]) + int(status["waiting"])


@pytest.mark.parametrize("stream", [True, "sse", False])
def test_who_has_used_up_his_minute_is_refused_with_a_status_whatever_the_format(narrow: Server, stream: Any):
    assert post(narrow, "minute", "!repeat:1000:x").status_code in (200, 429)
    refused = post(narrow, "minute", "a", stream=stream)
    assert (refused.status_code, refused.headers["Content-Type"]) == (429, "application/json; charset=utf-8")
    assert refused.json() == {"error": 'key "minute" has used up its 50 tokens a minute'}
    # 1,000 tokens and the prompt, at 50 a minute; the first 50 were saved up.
    assert 1 <= int(refused.headers["Retry-After"]) <= 20 * 60
    assert post(narrow, "one", "a").status_code == 200


def test_a_prompt_over_the_keys_limit_is_a_400_and_an_answer_ends_at_its_own(narrow: Server):
    refused = post(narrow, "short", "1 2 3 4 5 6")
    assert (refused.status_code, refused.json()) == (400, {"error": "the prompt has 6 tokens, and may have 5"})
    for options in ({}, {"num_predict": 100}):
        record = post(narrow, "short", "1 2 3 4 5", options=options).json()
        assert (record["eval_count"], record["done_reason"]) == (3, "length")
    assert post(narrow, "short", "1 2 3 4 5", options={"num_predict": 2}).json()["eval_count"] == 2


def test_a_text_over_the_keys_limit_is_not_embedded(narrow: Server):
    body = {"model": "demo", "input": ["1 2", "1 2 3 4 5 6"]}
    refused = httpx.post(f"{narrow.url}/api/embed", json=body, headers=bearer("short"))
    assert (refused.status_code, refused.json()) == (400, {"error": "the prompt has 6 tokens, and may have 5"})


def test_who_leaves_while_he_waits_frees_his_place_in_the_queue(narrow: Server):
    with held(narrow):
        waiting = begin(narrow, "many", "a")
        wait_until_waiting(narrow, 1, waiting)
        waiting.close()
        wait_until_waiting(narrow, 0)
        # The one that holds the engine's place runs on.
        assert in_flight(narrow) == 1


def test_a_full_queue_refuses_the_one_who_has_most_in_it(strict: Server):
    with begin(strict, "one", "!sleep:60") as holding:
        strict.wait_until_running(unless=one_is_refused(holding))
        first = begin(strict, "many", "a", stream=False)
        second = begin(strict, "many", "b", stream=False)
        wait_until_waiting(strict, 2, first, second)
        refused = post(strict, "many", "c")
        one = begin(strict, "one", "d", stream=False)
        assert (refused.status_code, refused.headers["Retry-After"]) == (503, "1")
        assert refused.json() == {"error": BUSY}
        assert answer(second) == (503, {"error": BUSY})
    assert [status for status, _ in map(answer, (first, one))] == [200, 200]


def test_a_full_queue_for_a_model_that_is_being_loaded_refuses_those_who_fill_it(strict: Server):
    waiting = [begin(strict, "many", "a", model="slow", stream=False) for _ in range(2)]
    waits = 'vllm_wsgi_requests_waiting{model="slow:latest"} 2.0'
    until(lambda: waits in metrics(strict), 120, "both wait for the model", one_is_refused(*waiting))
    refused = post(strict, "many", "a", model="slow")
    assert (refused.status_code, refused.json()) == (503, {"error": BUSY})
    assert post(strict, "one", "a", model="slow").status_code == 200
    assert [answer(each)[0] for each in waiting] == [200, 200]


def test_what_takes_too_long_is_a_504_or_a_stream_that_ends_with_an_error(hasty: Server):
    late = f"the request was not done within the {DEADLINE} s that it may take"
    with httpx.stream("POST", f"{hasty.url}/api/chat", json=chat("a !sleep:60 b"), headers=bearer("one")) as stream:
        hasty.wait_until_running()
        records = parse(stream.read(), NDJSON)
    assert (stream.status_code, text(records[:-1]), records[-1]["error"]) == (200, "a ", late)
    assert not any(terminal(record) for record in records[:-1])
    hasty.wait_until_idle()
    refused = post(hasty, "one", "!sleep:60")
    assert (refused.status_code, refused.json()) == (504, {"error": late})


def test_the_deadline_is_none_of_those_who_make_models(narrow: Server):
    host = psutil.Process(narrow.engine_hosts()[0])
    client = Client(host.environ()["VLLM_WSGI_ENGINE_SOCKET"], heartbeat=10, deadline=1e-6)
    with pytest.raises(DeadlineExceeded):
        list(client.submit([Request("demo", Text("a"))], Presence()).batches())
    with pytest.raises(ModelNotFound):
        list(client.create("new", Recipe(base="nothing"), Presence()).batches())
