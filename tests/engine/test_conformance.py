"""Forty requests and what Ollama answers to them, byte for byte where it can be, and ten more.

The expected answers are those that Ollama's own packages gave, or that its tests and sources ask for. Where this server
deviates on purpose, the row names the row of docs/reference/differences-from-ollama.md and expects our own answer.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import httpx
import pytest

from service.engine.vllm.render import infill_prompt
from service.errors import BadRequest
from service.protocol.request import Infill
from tests.support.answers import NDJSON, SSE, chat, generate
from tests.support.asking import WEATHER
from tests.support.servers import ROOT, Server
from tests.support.waiting import VLLM_SECONDS

JSON, TEXT = "application/json; charset=utf-8", "text/plain; charset=utf-8"
GO = "json: cannot unmarshal"

# What stands for something else in an expected body.
PLACEHOLDERS = {
    "TIME": r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{0,8}[1-9])?Z",
    "COUNT": r"[1-9]\d*",
    "VERSION": r"\d+\.\d+\.\d+",
    "TEXT": r'[^"]*',
    "ID": r"call_[a-z0-9]{8}",
    "ANY": r"[^\n]*",
}
METRICS = (
    '"total_duration":COUNT,"load_duration":COUNT,"prompt_eval_count":COUNT,"prompt_eval_duration":COUNT,'
    '"eval_count":COUNT,"eval_duration":COUNT'
)


def said(text: str) -> str:
    return f'{{"model":"demo","created_at":"TIME","message":{{"role":"assistant","content":"{text}"}},"done":false}}\n'


DONE = (
    '{"model":"demo","created_at":"TIME","message":{"role":"assistant","content":""},"done":true,'
    f'"done_reason":"stop",{METRICS}}}\n'
)


def error(text: str) -> str:
    return json.dumps({"error": text}, separators=(",", ":"), ensure_ascii=False)


@dataclass(frozen=True)
class Vector:
    """`body` is JSON, or bytes as they are sent. `deviates` is the first cell of a row of the page of differences.

    `server` is the fixture that answers; `told` are headers of the answer, "" for one that must not be there.
    """

    number: str
    request: str
    body: Any
    status: int
    content_type: str
    expected: str
    deviates: str = ""
    server: str = "server"
    headers: dict[str, str] = field(default_factory=dict)
    told: dict[str, str] = field(default_factory=dict)


def refused(number: str, request: str, body: Any, status: int, text: str, **fields: Any) -> Vector:
    return Vector(number, request, body, status, JSON, error(text), **fields)


CHAT, GENERATE, EMBED = "POST /api/chat", "POST /api/generate", "POST /api/embed"
LOADED = '{"model":"demo","created_at":"TIME","response":"","done":true,"done_reason":"load"}'
UNLOADED = LOADED.replace('"load"', '"unload"')
NO_ROUTE, BAD_VALUE = "unknown route or method", "a bad value in `options` or `format`"
NOT_ALLOWED = "an `Origin` or a `Host` that is not allowed"
EARLY = "an error before a stream's first record"
STRINGS = [{"role": "assistant", "tool_calls": [{"function": {"name": "f", "arguments": "{}"}}]}]
PARTS = [{"role": "user", "content": [{"type": "text", "text": "a"}]}]
LOCAL, EVIL = "http://localhost:3000", "https://evil.example"
THINK_CHOICES = '(must be "high", "medium", "low", "max", true, or false)'

VECTORS = [
    Vector("1", "GET /", None, 200, TEXT, "Ollama is running"),
    Vector("1 HEAD", "HEAD /", None, 200, TEXT, "", told={"Content-Length": "17"}),
    Vector("2", "GET /api/version", None, 200, JSON, '{"version":"VERSION"}'),
    refused("3", "GET /nope", None, 404, "404 not found", deviates=NO_ROUTE),
    refused("4", "GET /api/show", None, 405, "405 method not allowed: GET", told={"Allow": "POST"}, deviates=NO_ROUTE),
    refused("5", CHAT, b"", 400, "missing request body"),
    refused("6 null", CHAT, b"null", 400, "model is required"),
    refused("6", CHAT, {}, 400, "model is required"),
    refused("7", GENERATE, {}, 404, "model '' not found"),
    refused("8", GENERATE, {"model": "N", "prompt": "x"}, 404, "model 'N' not found"),
    refused("9", EMBED, {"model": "N", "input": "x"}, 404, 'model "N" not found, try pulling it first'),
    refused("10", "POST /api/show", {}, 400, "model is required"),
    refused("10 unknown", "POST /api/show", {"model": "N"}, 404, "model 'N:latest' not found"),
    refused("11", GENERATE, {"model": "a b"}, 400, "invalid model name"),
    refused("12", GENERATE, {"model": 1}, 400,
            f"{GO} number into Go struct field GenerateRequest.model of type string"),
    refused("13", GENERATE, b"{", 400, "unexpected EOF"),
    refused("14", GENERATE, b'{"model":"demo",}', 400,
            "invalid character '}' looking for beginning of object key string"),
    refused("15", GENERATE, generate("x", stream="false"), 400,
            'stream must be true, false, "sse", "jsonl" or "ndjson"', deviates='`"stream"` as a text'),
    refused("16", CHAT, {"model": "demo", "messages": PARTS}, 400,
            f"{GO} array into Go struct field ChatRequest.messages.content of type string"),
    refused("17", CHAT, {"model": "demo", "messages": STRINGS}, 400,
            "Value looks like object, but can't find closing '}' symbol"),
    refused("18", GENERATE, {"model": "demo", "keep_alive": "5"}, 400, 'time: missing unit in duration "5"'),
    refused("19", GENERATE, generate("x", think="extreme"), 400, f'invalid think value: "extreme" {THINK_CHOICES}'),
    refused("20", GENERATE, {"model": "plain", "prompt": "x", "think": True}, 400,
            '"plain" does not support thinking', server="two_models"),
    refused("21", GENERATE, generate("x", top_logprobs=21), 400, "top_logprobs must be between 0 and 20"),
    refused("21 below", GENERATE, generate("x", top_logprobs=-1), 400, "top_logprobs must be between 0 and 20"),
    refused("22", GENERATE, generate("x", raw=True, system="s"), 400,
            "raw mode does not support template, system, or context"),
    # 23 is a test of its own below.
    refused("24", CHAT, chat("x"), 400, '"demo" does not support chat', server="embedder"),
    refused("24 generate", GENERATE, generate("x"), 400, '"demo" does not support generate', server="embedder"),
    refused("25", GENERATE, generate("x", options={"temperature": "hot"}), 400,
            'option "temperature" must be of type float32', deviates=BAD_VALUE),
    refused("26", GENERATE, generate("x", format="xml"), 400,
            'invalid format: "\\"xml\\""; expected "json" or a valid JSON Schema object', deviates=BAD_VALUE),
    Vector("27", GENERATE, {"model": "demo"}, 200, JSON, LOADED),
    Vector("28", GENERATE, {"model": "demo", "keep_alive": 0}, 200, JSON, UNLOADED),
    Vector("28 chat", CHAT, {"model": "demo", "messages": [], "keep_alive": 0}, 200, JSON,
           UNLOADED.replace('"response":""', '"message":{"role":"assistant","content":""}')),
    Vector("29", CHAT, chat("one !sleep:0.05 two"), 200, NDJSON, said("one ") + said("two ") + DONE),
    Vector("30", CHAT, chat("<b>&é"), 200, NDJSON, said(r"\u003cb\u003e\u0026é ") + DONE),
    refused("31", CHAT, chat("!busy:model is overloaded"), 503, "model is overloaded",
            told={"Retry-After": "1"}, deviates=EARLY),
    Vector("32", CHAT, chat("one !sleep:0.05 !fail:boom"), 200, NDJSON, said("one ")
           + '{"error":"boom","request_id":"TEXT"}\n', deviates="the error record that ends a stream"),
    Vector("33", CHAT, chat("What is the weather in Paris?", tools=[WEATHER], think=False), 200, NDJSON,
           said("").removesuffix('},"done":false}\n') + ',"tool_calls":[{"id":"ID","function":{"index":0,'
           '"name":"get_current_weather","arguments":{"city":"Paris"}}}]},"done":false}\n' + DONE,
           server="engine_server"),
    Vector("34", EMBED, {"model": "demo", "input": []}, 200, JSON, '{"model":"demo","embeddings":[]}'),
    Vector("34 empty", EMBED, {"model": "demo", "input": ""}, 200, JSON, '{"model":"demo","embeddings":[]}'),
    Vector("34 missing", EMBED, {"model": "demo"}, 200, JSON, '{"model":"demo","embeddings":[]}'),
    refused("35", EMBED, {"model": "demo", "input": 5}, 400, "invalid input type"),
    refused("35 mixed", EMBED, {"model": "demo", "input": ["a", 1]}, 400, "invalid input type"),
    refused("36", EMBED, {"model": "demo", "input": "word " * 40_000, "truncate": False}, 400,
            "the input length exceeds the context length"),
    Vector("37", "POST /v1/chat/completions", {"model": "demo"}, 400, JSON,
           '{"error":{"message":"[] is too short - \'messages\'","type":"invalid_request_error","param":null,'
           '"code":null}}'),
    Vector("38", "POST /v1/chat/completions",
           chat("one !sleep:0.05 two", stream=True, stream_options={"include_usage": True}), 200, SSE,
           'data: ANY"choices":[{"index":0,"delta":{"role":"assistant","content":"TEXT"},"finish_reason":null}]}\n\n'
           'data: ANY"choices":[{"index":0,"delta":{"content":"two "},"finish_reason":null}]}\n\n'
           'data: ANY"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}\n\n'
           'data: ANY"choices":[],"usage":{"prompt_tokens":COUNT,"completion_tokens":2,"total_tokens":COUNT,ANY}}\n\n'
           "data: [DONE]\n\n"),
    Vector("39", "POST /v1/messages", {"model": "demo"}, 400, JSON,
           '{"type":"error","error":{"type":"invalid_request_error","message":"max_tokens is required and must be '
           'positive"},"request_id":"TEXT"}'),
    Vector("39 messages", "POST /v1/messages", {"model": "demo", "max_tokens": 5}, 400, JSON,
           '{"type":"error","error":{"type":"invalid_request_error","message":"messages is required"},'
           '"request_id":"TEXT"}'),
    refused("40", "GET /api/version", None, 403, f"origin {EVIL} is not allowed; VLLM_WSGI_ORIGINS can allow it",
            headers={"Origin": EVIL}, told={"Access-Control-Allow-Origin": ""}, deviates=NOT_ALLOWED),
    Vector("40 local", "GET /api/version", None, 200, JSON, '{"version":"VERSION"}', headers={"Origin": LOCAL},
           told={"Access-Control-Allow-Origin": LOCAL, "Vary": "Origin"}),
    Vector("40 preflight", "OPTIONS /api/chat", None, 204, "", "", headers={"Origin": LOCAL},
           told={"Access-Control-Allow-Methods": "GET,POST,PUT,PATCH,DELETE,HEAD,OPTIONS",
                 "Access-Control-Max-Age": "43200"}),
    Vector("trailing data", GENERATE, b'{"model":"demo"}{', 200, JSON, LOADED),
    Vector("upper case", GENERATE, {"MODEL": "demo"}, 200, JSON, LOADED),
    Vector("unknown option", GENERATE, {"model": "demo", "options": {"mirostat": 1}}, 200, JSON, LOADED),
    refused("stop as a text", GENERATE, generate("x", options={"stop": "x"}), 400,
            'option "stop" must be of type array', deviates=BAD_VALUE),
    Vector("v1 encoding", "POST /v1/embeddings", {"model": "demo", "input": "x", "encoding_format": "hex"}, 400, JSON,
           '{"error":{"message":"ANY","type":"invalid_request_error","param":null,"code":null}}'),
    refused("evil host", "GET /api/version", None, 403,
            "host evil.example is not allowed; VLLM_WSGI_HOSTS can allow it",
            headers={"Host": "evil.example"}, deviates=NOT_ALLOWED),
    Vector("trailing slash", "POST /api/chat/", {}, 307, "", "", told={"Location": "/api/chat"}),
]  # fmt: skip


@pytest.fixture(scope="module")
def embedder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A scripted engine behind the files of a model that embeds."""
    env = {"VLLM_WSGI_ENGINE": "scripted", "VLLM_WSGI_ENGINE_ARGS": '{"runner": "pooling"}'}
    server = Server.start(tmp_path_factory.mktemp("embedder"), env)
    yield server
    server.stop()


def row(vector: Vector) -> Any:
    marks = [pytest.mark.engine] if vector.server in ("engine_server", "two_models") else []
    return pytest.param(vector, marks=marks, id=vector.number)


def pattern(expected: str) -> str:
    names = "|".join(PLACEHOLDERS)
    parts = re.split(f"({names})", expected)
    return "".join(PLACEHOLDERS.get(part, re.escape(part)) for part in parts)


@pytest.mark.parametrize("vector", [row(vector) for vector in VECTORS])
def test_vector(vector: Vector, request: pytest.FixtureRequest):
    server: Server = request.getfixturevalue(vector.server)
    method, path = vector.request.split()
    content = vector.body if vector.body is None or isinstance(vector.body, bytes) else json.dumps(vector.body)
    answer = httpx.request(method, server.url + path, content=content, headers=vector.headers, timeout=VLLM_SECONDS)
    assert re.fullmatch(pattern(vector.expected), answer.text), answer.text
    assert (answer.status_code, answer.headers.get("Content-Type", "")) == (vector.status, vector.content_type)
    for name, value in vector.told.items():
        assert answer.headers.get(name, "") == value


def test_a_deviation_is_a_row_of_the_page_of_differences():
    page = (ROOT / "docs" / "reference" / "differences-from-ollama.md").read_text()
    missing = {vector.deviates for vector in VECTORS if vector.deviates and f"\n| {vector.deviates} |" not in page}
    assert not missing


def test_vector_23_a_suffix_needs_a_model_that_fills_in():
    with pytest.raises(BadRequest) as refusal:
        infill_prompt(Infill("a", "b"), "M", {"token": 0})
    assert refusal.value.message == "registry.ollama.ai/library/M:latest does not support insert"


def test_vector_28_an_unloaded_model_is_not_in_ps(client: httpx.Client):
    assert client.post("/api/generate", json={"model": "demo", "keep_alive": 0}).status_code == 200
    assert client.get("/api/ps").text == '{"models":[]}'


def test_fewer_dimensions_have_length_one(client: httpx.Client):
    (vector,) = client.post("/api/embed", json={"model": "demo", "input": "x", "dimensions": 3}).json()["embeddings"]
    assert len(vector) == 3
    assert math.hypot(*vector) == pytest.approx(1)


def test_a_client_that_leaves_frees_its_place(server: Server):
    with httpx.stream("POST", f"{server.url}/api/chat", json=chat("one !sleep:60"), timeout=120) as stream:
        assert stream.status_code == 200
        server.wait_until_running()
    server.wait_until_idle()
