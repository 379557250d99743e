"""Streams over real HTTP, on a scripted engine: both formats, their ends, their heartbeats, and many at once."""

from __future__ import annotations

import asyncio
import json
import socket
import time
from collections.abc import Iterator
from http.client import HTTPResponse
from typing import Any

import httpx
import httpx_sse
import pytest

from tests.support.answers import NDJSON, SSE, chat, generate, parse, terminal, text
from tests.support.servers import SCRIPTED, Server

JSON = "application/json; charset=utf-8"
FORMATS = pytest.mark.parametrize("accept", [NDJSON, SSE])
# From one run to the next.
VOLATILE = {"created_at", "total_duration", "load_duration", "prompt_eval_duration", "eval_duration"}


def stable(record: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in record.items() if name not in VOLATILE}


@pytest.mark.parametrize(("path", "body"), [("/api/chat", chat), ("/api/generate", generate)])
def test_both_formats_tell_the_same(client: httpx.Client, path: str, body: Any):
    script = "one two !think:hm three"
    lines = client.post(path, json=body(script)).text.splitlines()
    with httpx_sse.connect_sse(client, "POST", path, json=body(script), headers={"Accept": SSE}) as source:
        events = list(source.iter_sse())
    ndjson, sse = [json.loads(line) for line in lines], [json.loads(event.data) for event in events]
    assert {event.event for event in events} == {"message"}
    assert text(ndjson) == text(sse) == "one two three "
    assert stable(ndjson[-1]) == stable(sse[-1])
    assert (sse[-1]["done_reason"], sse[-1]["eval_count"]) == ("stop", 4)


@pytest.mark.parametrize(("path", "body"), [("/api/chat", chat), ("/api/generate", generate)])
def test_an_answer_that_is_not_streamed_is_the_stream_put_together(client: httpx.Client, path: str, body: Any):
    script = "!think:hm !think:so one two <three>"
    records = parse(client.post(path, json=body(script)).content, NDJSON)
    answer = client.post(path, json=body(script, stream=False))
    assert answer.headers["Content-Type"] == JSON
    assert text([answer.json()]) == text(records) == "one two <three> "
    thinking = [each.get("message", each).get("thinking", "") for each in records]
    assert answer.json().get("message", answer.json())["thinking"] == "".join(thinking) == "hm so "
    joined = {"message", "response", "thinking"}
    assert stable(answer.json()).keys() - joined == stable(records[-1]).keys() - joined


@FORMATS
def test_a_streams_headers_keep_proxies_from_holding_it(client: httpx.Client, accept: str):
    answer = client.post("/api/chat", json=chat("a"), headers={"Accept": accept})
    assert answer.headers["Content-Type"] == accept
    assert answer.headers["Vary"] == "Accept"
    assert answer.headers["X-Accel-Buffering"] == "no"
    assert {"no-cache", "no-transform"} <= set(answer.headers["Cache-Control"].split(", "))
    assert answer.headers["Transfer-Encoding"] == "chunked"


def test_one_object_varies_by_accept_too(client: httpx.Client):
    answer = client.post("/api/chat", json=chat("a", stream=False), headers={"Accept": SSE})
    assert (answer.headers["Content-Type"], answer.headers["Vary"]) == (JSON, "Accept")


@pytest.mark.parametrize(
    ("fields", "query", "accept", "media_type"),
    [
        ({}, "", "*/*", NDJSON),
        ({}, "", SSE, SSE),
        ({}, "", "Text/Event-Stream;charset=utf-8, application/json;q=0.9", SSE),
        ({}, "", f"application/json, {SSE};q=0.9", NDJSON),
        ({}, "?alt=sse", "application/json", SSE),
        ({"stream": "jsonl"}, "?alt=sse", SSE, NDJSON),
        ({"stream": "sse"}, "", NDJSON, SSE),
        ({"stream_type": SSE}, "", NDJSON, SSE),
        ({"StreamType": NDJSON}, "?alt=sse", SSE, NDJSON),
        ({"stream": True}, "", SSE, SSE),
        ({"stream": False}, "?alt=sse", SSE, JSON),
        ({"stream": False, "stream_type": SSE}, "", SSE, JSON),
    ],
)
def test_the_body_beats_the_query_beats_the_header(
    client: httpx.Client, fields: dict[str, Any], query: str, accept: str, media_type: str
):
    answer = client.post(f"/api/chat{query}", json=chat("a", **fields), headers={"Accept": accept})
    assert (answer.status_code, answer.headers["Content-Type"]) == (200, media_type)


@pytest.mark.parametrize("fields", [{"stream": "xml"}, {"stream_type": "a/b"}])
def test_a_format_that_makes_no_sense_is_refused(client: httpx.Client, fields: dict[str, Any]):
    answer = client.post("/api/chat", json=chat("a", **fields))
    assert (answer.status_code, answer.headers["Content-Type"]) == (400, JSON)
    assert "stream" in answer.json()["error"]


@FORMATS
def test_tokens_arrive_one_by_one(client: httpx.Client, accept: str):
    body = chat("!rate:20 a b c d e f g h")
    with client.stream("POST", "/api/chat", json=body, headers={"Accept": accept}) as answer:
        reads = list(answer.iter_raw())
    assert len(reads) >= 5
    assert b'"done":true' not in b"".join(reads[:3])
    assert text(parse(b"".join(reads), accept)) == "a b c d e f g h "


@FORMATS
def test_a_stream_without_a_token_is_its_last_record(client: httpx.Client, accept: str):
    answer = client.post("/api/generate", json=generate("!rate:0"), headers={"Accept": accept})
    (record,) = parse(answer.content, accept)
    assert (record["done"], record["response"]) == (True, "")


def test_num_predict_ends_a_stream_by_length(client: httpx.Client):
    body = generate("!repeat:9:w", options={"num_predict": 3})
    records = parse(client.post("/api/generate", json=body).content, NDJSON)
    assert (text(records), records[-1]["done_reason"], records[-1]["eval_count"]) == ("w w w ", "length", 3)


@pytest.mark.parametrize("fields", [{}, {"stream": "sse"}, {"stream": False}])
@pytest.mark.parametrize(
    ("script", "status", "message"), [("!refuse:not that", 400, "not that"), ("!fail:oh", 500, "oh")]
)
def test_a_failure_before_the_first_token_has_its_status(
    client: httpx.Client, fields: dict[str, Any], script: str, status: int, message: str
):
    answer = client.post("/api/chat", json=chat(script, **fields))
    assert (answer.status_code, answer.headers["Content-Type"]) == (status, JSON)
    assert answer.json() == {"error": message}


@FORMATS
def test_a_failure_later_is_the_last_record_and_nothing_follows(client: httpx.Client, accept: str):
    answer = client.post("/api/chat", json=chat("a b !fail:oh no c"), headers={"Accept": accept})
    *records, last = parse(answer.content, accept)
    assert (answer.status_code, answer.headers["Content-Type"]) == (200, accept)
    assert last == {"error": "oh", "request_id": answer.headers["X-Request-Id"]}
    assert text(records) == "a b "
    assert not any(terminal(record) for record in records)


def test_a_later_failure_of_one_object_is_a_status(client: httpx.Client):
    answer = client.post("/api/generate", json=generate("a b !fail:oh", stream=False))
    assert (answer.status_code, answer.json()) == (500, {"error": "oh"})


@pytest.mark.parametrize("fields", [{}, {"stream": "sse"}, {"stream": False}])
def test_what_html_reads_is_escaped_as_go_does(client: httpx.Client, fields: dict[str, Any]):
    answer = client.post("/api/chat", json=chat("<b>&é\u2028", **fields))
    assert "\\u003cb\\u003e\\u0026é\\u2028".encode() in answer.content
    assert not set(b"<>&") & set(answer.content)


@FORMATS
def test_an_http_1_0_client_reads_until_the_end(server: Server, accept: str):
    body = json.dumps(chat("a b"))
    with server.connect() as connection:
        head = f"POST /api/chat HTTP/1.0\r\nAccept: {accept}\r\nContent-Length: {len(body)}\r\n\r\n"
        connection.sendall((head + body).encode())
        headers, _, content = connection.makefile("rb").read().partition(b"\r\n\r\n")
    assert b"chunked" not in headers.lower()
    *records, last = parse(content, accept)
    assert (text(records), last["done"]) == ("a b ", True)


# --- heartbeats ------------------------------------------------------------------------------------------

SILENT = "!sleep:0.4 a !sleep:0.4 b"


@pytest.fixture(scope="module")
def beating(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server whose streams beat ten times a second."""
    server = Server.start(tmp_path_factory.mktemp("beating"), {**SCRIPTED, "VLLM_WSGI_HEARTBEAT": "0.1"})
    yield server
    server.stop()


@pytest.mark.parametrize(
    ("accept", "beat", "token"), [(NDJSON, b" ", b'{"model"'), (SSE, b": heartbeat\n\n", b'data: {"model"')]
)
def test_silence_is_filled_before_and_between_tokens(beating: Server, accept: str, beat: bytes, token: bytes):
    body = httpx.post(f"{beating.url}/api/chat", json=chat(SILENT), headers={"Accept": accept}).content
    before, first, rest = body.split(token)[:3]
    assert before == beat * (len(before) // len(beat)) != b""
    assert first.endswith(beat)
    assert b'"a "' in first
    assert b'"b "' in rest


def test_heartbeats_go_on_for_as_long_as_nothing_comes(beating: Server):
    with httpx.stream("POST", f"{beating.url}/api/chat", json=chat("!sleep:30")) as answer:
        reads = answer.iter_raw()
        assert [next(reads), next(reads), next(reads)] == [b" "] * 3
    beating.wait_until_idle()


def test_the_ollama_client_reads_over_heartbeats(beating: Server):
    ollama = pytest.importorskip("ollama", reason="Ollama's client is in requirements/dev.txt")
    with ollama.Client(host=beating.url) as client:
        parts = list(client.chat(model="demo", messages=[{"role": "user", "content": SILENT}], stream=True))
    assert "".join(part.message.content or "" for part in parts) == "a b "
    assert parts[-1].done


def test_an_sse_reader_reads_over_heartbeats(beating: Server):
    with (
        httpx.Client() as client,
        httpx_sse.connect_sse(client, "POST", f"{beating.url}/api/chat?alt=sse", json=chat(SILENT)) as source,
    ):
        records = [json.loads(event.data) for event in source.iter_sse()]
    assert (text(records), records[-1]["done"]) == ("a b ", True)


def test_one_object_has_no_heartbeats(beating: Server):
    answer = httpx.post(f"{beating.url}/api/chat", json=chat(SILENT, stream=False))
    assert answer.content.startswith(b'{"model"')
    assert answer.json()["message"]["content"] == "a b "


@FORMATS
def test_a_failure_after_a_heartbeat_is_a_record(beating: Server, accept: str):
    body = chat("!sleep:0.4 !fail:oh")
    answer = httpx.post(f"{beating.url}/api/chat", json=body, headers={"Accept": accept})
    assert answer.status_code == 200
    (record,) = parse(b"".join(answer.content.split(b": heartbeat\n\n")), accept)
    assert record == {"error": "oh", "request_id": answer.headers["X-Request-Id"]}


# --- many ------------------------------------------------------------------------------------------------


def numbered(stream: int) -> str:
    return " ".join(f"{stream}.{word}" for word in range(30))


async def read_all(url: str, bodies: list[dict[str, Any]], accepts: list[str]) -> list[bytes]:
    limits = httpx.Limits(max_connections=None)
    async with httpx.AsyncClient(base_url=url, limits=limits, timeout=120) as client:
        posts = [
            client.post("/api/chat", json=body, headers={"Accept": a}) for body, a in zip(bodies, accepts, strict=True)
        ]
        return [answer.content for answer in await asyncio.gather(*posts)]


def test_of_200_streams_at_once_each_has_its_words_and_one_end(server: Server):
    numbers = range(200)
    plays = {0: "!rate:100 {}", 1: "{}", 2: "{} !fail:oh", 3: "!rate:200 {} !fail:oh"}
    bodies = [chat(plays[number % 4].format(numbered(number))) for number in numbers]
    accepts = [[NDJSON, SSE][number // 4 % 2] for number in numbers]
    contents = asyncio.run(read_all(server.url, bodies, accepts))
    for number, content, accept in zip(numbers, contents, accepts, strict=True):
        *records, last = parse(content, accept)
        assert text(records) == numbered(number) + " "
        assert [terminal(record) for record in [*records, last]] == [False] * len(records) + [True]
        assert ("error" in last) == (number % 4 > 1)
    server.wait_until_idle()


def test_repeated_words_are_all_counted(server: Server):
    contents = asyncio.run(read_all(server.url, [chat("!repeat:30:w")] * 50, [NDJSON, SSE] * 25))
    for content, accept in zip(contents, [NDJSON, SSE] * 25, strict=True):
        records = parse(content, accept)
        assert (text(records), records[-1]["eval_count"]) == ("w " * 30, 30)


@FORMATS
def test_a_client_that_reads_slowly_gets_every_byte_in_its_order(client: httpx.Client, accept: str):
    """Its socket is full most of the time, so pieces are sent in parts and from two greenlets in turn."""
    word, count = "x" * 5000, 1000
    with socket.socket() as slow:
        slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        slow.connect((client.base_url.host, client.base_url.port))
        body = json.dumps(generate(f"!rate:2000 !repeat:{count}:{word}")).encode()
        head = f"POST /api/generate HTTP/1.1\r\nHost: localhost\r\nAccept: {accept}\r\nConnection: close\r\n"
        slow.sendall(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
        response = HTTPResponse(slow)
        response.begin()
        received = bytearray()
        while piece := response.read1(20_000):
            received += piece
            time.sleep(0.002)
    records = parse(bytes(received), accept)
    assert text(records).split() == [word] * count
    assert [record["done"] for record in records if record["done"]] == [True]
    assert records[-1]["eval_count"] == count
