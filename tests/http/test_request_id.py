"""Request ids: taken or made, told in every answer, and in the logs and records of what fails."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from tests.support.answers import chat, generate, parse
from tests.support.servers import Server
from tests.support.waiting import until

ROUTES = [
    ("GET", "/"), ("GET", "/api/version"), ("GET", "/api/tags"), ("POST", "/api/show"), ("POST", "/api/chat"),
    ("POST", "/api/embed"), ("POST", "/api/pull"), ("PUT", "/api/chat"), ("GET", "/api/nothing"), ("GET", "/nothing"),
]  # fmt: skip


@pytest.mark.parametrize(("method", "path"), ROUTES)
def test_every_route_echoes_the_id(client: httpx.Client, method: str, path: str):
    body = generate("a", input="a", messages=[{"role": "user", "content": "a"}])
    answer = client.request(method, path, json=body, headers={"X-Request-Id": "ours-1"})
    assert answer.headers.get_list("X-Request-Id") == ["ours-1"]


def test_a_foreign_page_that_is_refused_hears_it_too(client: httpx.Client):
    refused = client.get("/api/version", headers={"Origin": "https://evil.example", "X-Request-Id": "ours-2"})
    assert (refused.status_code, refused.headers["X-Request-Id"]) == (403, "ours-2")


def test_two_ids_are_none(client: httpx.Client):
    answer = client.get("/api/version", headers=[("X-Request-Id", "one"), ("X-Request-Id", "two")])
    assert re.fullmatch("[0-9a-f]{32}", answer.headers["X-Request-Id"])


@pytest.mark.parametrize("accept", ["application/x-ndjson", "text/event-stream"])
def test_a_stream_tells_it_in_its_header_and_in_its_failure(client: httpx.Client, server: Server, accept: str):
    name = f"ours-{accept.partition('/')[0]}"
    headers = {"X-Request-Id": name, "Accept": accept}
    answer = client.post("/api/chat", json=chat("a !fail:oh"), headers=headers)
    assert answer.headers["X-Request-Id"] == name
    assert parse(answer.content, accept)[-1] == {"error": "oh", "request_id": name}
    until(lambda: f"request {name} failed: 'oh" in server.output, 120, "the engine worker logs it")


def test_a_failure_before_the_first_record_has_ollamas_body_and_is_logged(client: httpx.Client, server: Server):
    headers = {"X-Request-Id": "ours-embed"}
    answer = client.post("/api/embed", json={"model": "demo", "input": "!fail:oh"}, headers=headers)
    assert (answer.json(), answer.headers["X-Request-Id"]) == ({"error": "oh"}, "ours-embed")
    until(lambda: "request ours-embed failed: 'oh" in server.output, 120, "the engine worker logs it")


@pytest.mark.parametrize("stream", [False, True])
def test_anthropics_error_body_tells_it_too(client: httpx.Client, stream: bool):
    body = {"model": "demo", "max_tokens": 9, "messages": [{"role": "user", "content": "a !fail:oh"}], "stream": stream}
    answer = client.post("/v1/messages", json=body, headers={"X-Request-Id": "ours-5"})
    assert json.loads(answer.text.strip().rpartition("data: ")[2])["request_id"] == "ours-5"


@pytest.mark.parametrize(
    ("path", "fields"),
    [
        ("/v1/messages", {}),
        ("/v1/messages", {"stream": True}),
        ("/v1/messages", {"model": "unknown"}),
        ("/v1/messages/count_tokens", {}),
        ("/v1/messages/nothing", {}),
    ],
)
def test_anthropics_clients_find_it_in_their_own_header(client: httpx.Client, path: str, fields: dict[str, Any]):
    body = {"model": "demo", "max_tokens": 9, "messages": [{"role": "user", "content": "a"}], **fields}
    answer = client.post(path, json=body, headers={"X-Request-Id": "ours-6"})
    assert (answer.headers["Request-Id"], answer.headers["X-Request-Id"]) == ("ours-6", "ours-6")


def test_the_access_log_names_it(start_server: Callable[..., Server]):
    server = start_server({"GUNICORN_CMD_ARGS": "--access-logfile -"})
    answer = httpx.get(f"{server.url}/api/version", headers={"X-Request-Id": "ours-4"})
    assert (answer.status_code, answer.headers["X-Request-Id"]) == (200, "ours-4")
    until(
        lambda: re.search(r'"GET /api/version HTTP/1.1" 200 .* ours-4\n', server.output), 120, "the access log has it"
    )
