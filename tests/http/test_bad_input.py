"""Whatever a client sends, on every route that there is: no failure of the server, and an answer in the route's shape.

The application runs in this process, its scripted engine behind the real queue.
"""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote, unquote

import msgspec
import pytest
from flask.testing import FlaskClient
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from werkzeug.exceptions import HTTPException
from werkzeug.test import TestResponse

from app import create_app
from service.config import Settings
from service.engine_client.client import Client
from service.protocol.wire import decode_command, decode_events, decode_report
from tests.support.answers import NDJSON, chat, generate, parse, terminal
from tests.support.hub import LoopbackHub
from tests.support.servers import SCRIPTED, EngineHost
from tests.support.waiting import until
from tests.unit.protocol.test_wire import COMMANDS, EVENTS

TOOL = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}
DIGEST = "sha256:" + "0" * 64
# A good body for each route that takes one; test_every_route_is_tried fails for a new one.
GOOD: dict[str, dict[str, Any]] = {
    "/api/generate": generate(
        "a b", system="s", stream=True, options={"temperature": 0.5, "stop": ["x"]}, format="json", suffix="",
    ),
    "/api/chat": chat("a b", tools=[TOOL], think=True, stream="sse", keep_alive="5m", logprobs=True, top_logprobs=2),
    "/api/embed": {"model": "demo", "input": ["a", "b c"], "dimensions": 4, "truncate": True},
    "/api/embeddings": {"model": "demo", "prompt": "a b"},
    "/api/show": {"model": "demo", "verbose": False},
    "/api/pull": {"model": "hf.co/org/nothing", "stream": True},
    "/api/create": {
        "model": "poet", "from": "demo", "system": "Rhyme.", "parameters": {"temperature": 1}, "stream": False,
        "messages": [{"role": "user", "content": "a"}], "license": ["mit"], "files": {"config.json": DIGEST},
    },
    "/api/copy": {"source": "demo", "destination": "bard"},
    "/api/delete": {"model": "bard"},
    "/api/blobs/<digest>": {},
    "/v1/chat/completions": chat(
        "a b", stream=True, tools=[TOOL], tool_choice="auto", max_tokens=5, n=2, logit_bias={"1": 2}, stop=["x"],
        stream_options={"include_usage": True}, response_format={"type": "json_object"}, logprobs=True, top_logprobs=1,
    ),
    "/v1/completions": generate(["a b", "c"], stream=True, max_tokens=5, echo=True, logprobs=1, suffix=""),
    "/v1/responses": {
        "model": "demo", "input": [{"role": "user", "content": "a b"}], "stream": True, "instructions": "s",
        "tools": [{"type": "function", "name": "f", "parameters": {}}], "reasoning": {"effort": "low"},
        "text": {"format": {"type": "text"}}, "max_output_tokens": 5,
    },
    "/v1/responses/input_tokens": {
        "model": "demo", "input": [{"role": "user", "content": "a b"}], "instructions": "s",
        "tools": [{"type": "function", "name": "f", "parameters": {}}], "truncation": "auto",
    },
    "/v1/embeddings": {"model": "demo", "input": ["a", "b"], "encoding_format": "base64", "dimensions": 4},
    "/v1/messages": {
        "model": "demo", "max_tokens": 5, "messages": [{"role": "user", "content": [{"type": "text", "text": "a b"}]}],
        "stream": True, "system": [{"type": "text", "text": "s"}], "stop_sequences": ["x"], "temperature": 1,
        "tools": [{"name": "f", "input_schema": {"type": "object"}}], "thinking": {"type": "disabled"},
    },
    "/v1/messages/count_tokens": {"model": "demo", "messages": [{"role": "user", "content": "a b"}]},
}  # fmt: skip
WITHOUT_BODY = {
    "/", "/livez", "/readyz", "/metrics", "/v1/responses/<id>", "/v1/responses/<id>/input_items",
    "/api/version", "/api/status", "/api/tags", "/api/ps", "/v1/models", "/v1/models/<path:name>",
    "/api/<path:path>", "/v1/<path:path>", "/v1/messages/", "/v1/messages/<path:path>",
    "/health", "/ping", "/version", "/api/events/", "/api/events/<path:path>", "/api/streams", "/api/streams/<id>",
    "/v1/responses/<id>/cancel",
}  # fmt: skip
# A stream without an end, and files for a browser: tests/http/test_events.py and tests/page have these.
ELSEWHERE = {"/api/events", "/ui", "/ui/", "/ui/<file>"}
# 501: what needs ollama.com, or another kind of model. All else that is 5xx would be the server's failure.
DOCUMENTED = {501}
APP = create_app(Settings(engine_socket="none"))
RULES = {rule.rule: sorted(rule.methods or ()) for rule in APP.url_map.iter_rules() if rule.rule not in ELSEWHERE}
# Good only where there is something to be found, or that can't be had twice.
CONDITIONAL = {"/api/blobs/<digest>", "/api/pull", "/api/delete", "/api/create"}


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EngineHost]:
    hub = LoopbackHub()
    directory = tmp_path_factory.mktemp("engine")
    env = {**SCRIPTED, "HF_ENDPOINT": hub.url, "HF_HOME": str(directory / "hf"), "NO_PROXY": "*"}
    host = EngineHost(directory, env)
    until(lambda: "is loaded" in host.output, 120, "the model is loaded")
    yield host
    host.stop()
    hub.stop()
    assert "Traceback" not in host.output


@pytest.fixture(scope="module")
def http(engine: EngineHost) -> FlaskClient:
    # A request that hangs would be a 504.
    return create_app(Settings(engine_socket=engine.socket, deadline=15.0, max_body=50_000)).test_client()


@pytest.fixture(autouse=True)
def log() -> Iterator[list[logging.LogRecord]]:
    """What is logged in this process."""
    records: list[logging.LogRecord] = []
    handler = logging.Handler()
    handler.emit = records.append  # type: ignore[method-assign,assignment]
    logging.getLogger().addHandler(handler)
    yield records
    logging.getLogger().removeHandler(handler)
    assert [each.getMessage() for each in records if each.exc_info] == []


# --- bodies near the good ones, and anything else --------------------------------------------------------

texts = st.text(max_size=20) | st.sampled_from(
    ["demo", "user", "../../etc/passwd", "a\nb", "$(id)", "%s%n", "\0", "\u2028"]
)
scalars = st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats() | texts
values = st.recursive(scalars, lambda each: st.lists(each, max_size=4) | st.dictionaries(texts, each), max_leaves=6)


@st.composite
def near(draw: st.DrawFn, good: Any) -> Any:
    """`good`, parts of which are something else, missing or there twice."""
    if not draw(st.integers(0, 9)):
        return draw(values)
    if isinstance(good, dict):
        return {name: draw(near(value)) for name, value in good.items() if draw(st.integers(0, 9))}
    if isinstance(good, list):
        return [draw(near(value)) for value in good for _ in range(draw(st.sampled_from([1, 1, 1, 0, 2])))]
    return good


def awake(body: Any) -> Any:
    """Nothing unloads the model: that is for another test, and takes its time."""
    return {name: value for name, value in body.items() if name != "keep_alive"} if isinstance(body, dict) else body


def bodies(path: str) -> st.SearchStrategy[bytes]:
    wrong = near(GOOD.get(path, {})).map(awake).map(lambda body: json.dumps(body).encode())
    cut = st.tuples(wrong, st.integers(0, 50)).map(lambda pair: pair[0][: pair[1]])
    return wrong | wrong | wrong | cut | st.binary(max_size=200) | st.just(b" " * 50_001)


# Not "\r\n": neither servers nor this client let it into a header.
headers = st.dictionaries(
    st.sampled_from(["Accept", "Content-Type", "Authorization", "X-Api-Key", "Origin", "X-Request-Id", "User-Agent",
                     "X-Forwarded-For", "X-Forwarded-Host", "Anthropic-Version", "Range", "If-None-Match"]),
    st.text(st.characters(max_codepoint=255, exclude_characters="\r\n\0"), max_size=60)
    | st.sampled_from(["text/event-stream", "text/event-stream;q=x,*/*;q=-1", "Bearer ", "http://localhost"]),
    max_size=4,
)  # fmt: skip
queries = st.text(max_size=30) | st.sampled_from(["alt=sse", "alt=", "alt=%ff&alt=jsonl", "&&==", "alt=" + "x" * 500])


def filled(rule: str, argument: str) -> str:
    return re.sub("<[^>]+>", lambda _: quote(argument, safe="/") or "x", rule)


# --- what an answer must be ------------------------------------------------------------------------------


def taken_by(path: str, method: str) -> str:
    """The rule of ours that takes it, if any."""
    try:
        rule, _ = APP.url_map.bind("localhost").match(unquote(path), method, return_rule=True)
    except HTTPException:
        return ""
    return rule.rule


def check_error(path: str, answer: TestResponse, record: dict[str, Any]) -> None:
    """In the shape of the route's dialect. Clients of two APIs ask for `/v1/models`, and for paths that do not exist.

    What Werkzeug's rules can't hold is taken by another one, `/v1/messages//` by that for all of `/v1`, or by none,
    and then the application answers.
    """
    if "%0A" in path or "//" in path:
        path = taken_by(path, answer.request.method)
    asks_for_models = path.startswith("/v1/models") and answer.request.method in ("GET", "HEAD")
    by_either = asks_for_models or taken_by(path, answer.request.method) == "/v1/<path:path>"
    if path.startswith("/v1/messages") or (by_either and "Anthropic-Version" in answer.request.headers):
        assert record["type"] == "error"
        assert record["error"].keys() >= {"type", "message"}
    elif path.startswith("/v1"):
        assert record["error"].keys() >= {"message", "type", "code", "param"}
    else:
        assert isinstance(record["error"], str)


def check_stream(path: str, answer: TestResponse) -> None:
    """One last record, at the end."""
    if path.startswith("/api"):
        media_type = answer.headers["Content-Type"]
        ends = [terminal(record) or record.get("status") == "success" for record in parse(answer.data, media_type)]
    else:
        lines = [line.removeprefix("data: ") for line in answer.text.split("\n") if line.startswith("data: ")]
        ends = [line == "[DONE]" or ends_stream(json.loads(line)) for line in lines]
    assert ends == [False] * (len(ends) - 1) + [True]


def ends_stream(event: dict[str, Any]) -> bool:
    ends = ("message_stop", "error", "response.completed", "response.incomplete", "response.failed")
    return event.get("type") in ends or (bool(event.get("error")) and "type" not in event)


def check(path: str, answer: TestResponse) -> None:
    assert answer.status_code < 500 or answer.status_code in DOCUMENTED, answer.text
    media_type = answer.headers.get("Content-Type", "")
    if answer.request.method == "HEAD" or not answer.data:
        return
    if answer.status_code >= 400:
        assert media_type == "application/json; charset=utf-8"
        check_error(path, answer, json.loads(answer.data))
    elif media_type in (NDJSON, "text/event-stream"):
        check_stream(path, answer)
    elif path not in ("/", "/metrics"):
        assert media_type.startswith("application/json")
        json.loads(answer.data)


def test_every_route_is_tried() -> None:
    assert RULES.keys() == GOOD.keys() | WITHOUT_BODY


def test_a_query_goes_along_with_a_redirect_whatever_is_in_it(http: FlaskClient) -> None:
    answer = http.post("/v1/messages/", query_string="a=%20b\n")
    assert (answer.status_code, answer.headers["Location"]) == (307, "/v1/messages?a=%20b%0A")


@pytest.mark.parametrize("rule", sorted(RULES))
@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_nothing_that_a_client_sends_fails(http: FlaskClient, rule: str, data: st.DataObject) -> None:
    methods = st.sampled_from(RULES[rule])
    method = data.draw(methods | methods | st.sampled_from(["POST", "GET", "PUT", "DELETE", "OPTIONS"]), "method")
    path = filled(rule, data.draw(texts | st.just(DIGEST), "argument"))
    answer = http.open(
        path, method=method, data=data.draw(bodies(rule), "body"), headers=data.draw(headers, "headers"),
        query_string=data.draw(queries, "query"),
    )  # fmt: skip
    check(path, answer)


@pytest.mark.parametrize("rule", sorted(GOOD.keys() - CONDITIONAL))
def test_the_good_bodies_are_good(http: FlaskClient, rule: str) -> None:
    """Else what is near them would test nothing but the first refusal."""
    answer = http.post(rule, json=GOOD[rule])
    assert answer.status_code == 200, answer.text
    check(rule, answer)


@pytest.mark.parametrize("path", ["/v1//a%0A", "//api/blobs/a%0A", "/v1/models/a%0Db/", "/api/blobs/a%0D/"])
def test_a_line_break_in_a_path_is_no_redirect(http: FlaskClient, path: str) -> None:
    answer = http.get(path)
    assert answer.status_code in (301, 400, 404, 405)
    assert "\r" not in answer.headers.get("Location", "")


# --- the queue's decoder ---------------------------------------------------------------------------------

samples = [msgspec.to_builtins(command, str_keys=False) for command in COMMANDS]
decoders = st.sampled_from([decode_command, decode_report, decode_events])
frames = (
    st.binary(max_size=300)
    | st.sampled_from([*samples, msgspec.to_builtins(EVENTS)]).flatmap(near).map(msgspec.msgpack.encode)
    | st.integers(1, 5000).map(lambda depth: b"\x91" * depth)
)  # fmt: skip


@settings(deadline=None)
@given(decode=decoders, payload=frames)
def test_the_decoders_refuse_what_is_no_message(decode: Any, payload: bytes) -> None:
    try:
        message = decode(payload)
    except (ValueError, msgspec.MsgspecError, RecursionError):
        # What Peer and Connection wait for.
        return
    # What was taken for a message is one: it can be sent, and means the same at the other end.
    sent = msgspec.msgpack.encode(message)
    assert msgspec.msgpack.encode(decode(sent)) == sent


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(payload=frames)
def test_an_engine_host_outlives_what_is_no_command(engine: EngineHost, payload: bytes) -> None:
    client = Client(engine.socket, 10.0)
    connection = client.connections.control()
    connection._socket.send(len(payload).to_bytes(4, "big") + payload)
    assert Client(engine.socket, 10.0).models()
    connection._socket.close()
