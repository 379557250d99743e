"""OpenAI's routes over real HTTP, on a scripted engine."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from tests.support.servers import Server
from tests.support.waiting import until

JSON_TYPE = "application/json; charset=utf-8"
CHAT, COMPLETIONS = "/v1/chat/completions", "/v1/completions"
BOTH = pytest.mark.parametrize("path", [CHAT, COMPLETIONS])
DONE = "data: [DONE]\n\n"


def asked(path: str, script: str, **fields: Any) -> dict[str, Any]:
    """A body whose answer plays the script."""
    prompt = {"prompt": script} if path == COMPLETIONS else {"messages": [{"role": "user", "content": script}]}
    return {"model": "demo", **prompt, **fields}


def streamed(client: httpx.Client, path: str, script: str, **fields: Any) -> tuple[list[dict[str, Any]], bool]:
    """The records of a stream, and whether it ended as a success does."""
    answer = client.post(path, json=asked(path, script, stream=True, **fields))
    assert (answer.status_code, answer.headers["Content-Type"]) == (200, "text/event-stream")
    frames = answer.text.removesuffix(DONE).split("\n\n")
    assert frames.pop() == ""
    return [json.loads(frame.removeprefix("data: ")) for frame in frames], answer.text.endswith(DONE)


def texts(records: list[dict[str, Any]]) -> dict[int, str]:
    """What each choice of the records says."""
    said: dict[int, str] = {}
    for choice in (choice for record in records for choice in record.get("choices", [])):
        said[choice["index"]] = said.get(choice["index"], "") + _text(choice)
    return said


def _text(choice: dict[str, Any]) -> str:
    message = choice.get("delta") or choice.get("message") or choice
    return message.get("content") or message.get("text") or ""


@BOTH
def test_a_stream_ends_in_a_reason_the_usage_and_done(client: httpx.Client, path: str):
    records, done = streamed(client, path, "a b", stream_options={"include_usage": True})
    assert done
    *_, finish, usage = records
    assert finish["choices"][0]["finish_reason"] == "stop"
    assert (usage["choices"], usage["usage"]["total_tokens"]) == ([], 4)
    assert len({(record["id"], record["created"]) for record in records}) == 1


@BOTH
def test_without_include_usage_no_chunk_has_any(client: httpx.Client, path: str):
    records, _ = streamed(client, path, "a b")
    assert not [record for record in records if "usage" in record]


@BOTH
@pytest.mark.parametrize("n", [1, 3])
def test_collecting_is_the_stream_put_together(client: httpx.Client, path: str, n: int):
    records, _ = streamed(client, path, "!think:hm a <b>", n=n)
    whole = client.post(path, json=asked(path, "!think:hm a <b>", n=n)).json()
    assert texts([whole]) == texts(records) == dict.fromkeys(range(n), "a <b> ")


@BOTH
@pytest.mark.parametrize("accept", ["text/event-stream", "application/x-ndjson", "*/*"])
def test_accept_changes_nothing(client: httpx.Client, path: str, accept: str):
    whole = client.post(path, json=asked(path, "a"), headers={"Accept": accept})
    assert (whole.headers["Content-Type"], "Vary" in whole.headers) == (JSON_TYPE, False)
    stream = client.post(path, json=asked(path, "a", stream=True), headers={"Accept": accept})
    assert (stream.headers["Content-Type"], "Vary" in stream.headers) == ("text/event-stream", False)


@BOTH
def test_a_failure_in_the_stream_is_told_and_never_ends_like_a_success(client: httpx.Client, path: str):
    records, done = streamed(client, path, "a !fail:oh", n=2, stream_options={"include_usage": True})
    assert not done
    assert records[-1]["error"] == {"message": "oh", "type": "api_error", "param": None, "code": None}
    assert not [choice for record in records[:-1] for choice in record["choices"] if choice["finish_reason"]]


@BOTH
@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize(
    ("script", "status", "kind"), [("!refuse:no", 400, "invalid_request_error"), ("!fail:no", 500, "api_error")]
)
def test_a_failure_before_it_has_a_status(
    client: httpx.Client, path: str, stream: bool, script: str, status: int, kind: str
):
    answer = client.post(path, json=asked(path, script, stream=stream))
    assert (answer.status_code, answer.headers["Content-Type"]) == (status, JSON_TYPE)
    assert answer.json() == {"error": {"message": "no", "type": kind, "param": None, "code": None}}


@pytest.mark.parametrize("stream", [True, False])
def test_several_prompts_have_their_answers_counted_through(client: httpx.Client, stream: bool):
    body = {"model": "demo", "prompt": ["a", "b c", "d"], "n": 2, "stream": stream}
    answer = client.post(COMPLETIONS, json=body)
    frames = answer.text.removesuffix(DONE).split("\n\n")[:-1] if stream else [answer.text]
    said = texts([json.loads(frame.removeprefix("data: ")) for frame in frames])
    assert said == {0: "a ", 1: "a ", 2: "b c ", 3: "b c ", 4: "d ", 5: "d "}


def test_one_prompt_that_fails_fails_them_all_and_nothing_runs_on(client: httpx.Client, server: Server):
    body = {"model": "demo", "prompt": ["!sleep:60 a", "!fail:oh", "!sleep:60 b"]}
    answer = client.post(COMPLETIONS, json=body)
    assert (answer.status_code, answer.json()["error"]["message"]) == (500, "oh")
    server.wait_until_idle()


def test_a_client_that_leaves_cancels_every_prompt(start_server: Callable[..., Server]):
    server = start_server()
    body = json.dumps({"model": "demo", "prompt": ["!sleep:60 a", "!sleep:60 b"], "stream": True})
    with server.connect() as connection:
        head = f"POST {COMPLETIONS} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n\r\n"
        connection.sendall((head + body).encode())
        server.wait_until_running(2)
        connection.shutdown(socket.SHUT_WR)
        server.wait_until_idle()
    until(lambda: '"ending":"client_gone"' in server.output, 120, "the request is logged")
    assert server.output.count('"route":"/v1/completions"') == 1


GO = "json: cannot unmarshal"


@pytest.mark.parametrize(
    ("path", "body", "status", "kind", "text"),
    [
        (CHAT, b"", 400, "invalid_request_error", "EOF"),
        (CHAT, b"{", 400, "invalid_request_error", "unexpected EOF"),
        (CHAT, b"[]", 400, "invalid_request_error",
         f"{GO} array into Go value of type openai.ChatCompletionRequest"),
        (COMPLETIONS, b"[]", 400, "invalid_request_error",
         f"{GO} array into Go value of type openai.CompletionRequest"),
        (CHAT, b'{"model":"demo"}', 400, "invalid_request_error", "[] is too short - 'messages'"),
        (CHAT, b"{}", 400, "invalid_request_error", "model is required"),
        (CHAT, asked(CHAT, "a", model="other"), 404, "not_found_error", "model 'other' not found"),
        (COMPLETIONS, asked(COMPLETIONS, "a", model="other"), 404, "not_found_error", "model 'other' not found"),
        ("/v1/embeddings", {"model": "other", "input": "a"}, 404, "not_found_error",
         'model "other" not found, try pulling it first'),
    ],
)  # fmt: skip
def test_a_refusal_has_openais_shape(client: httpx.Client, path: str, body: Any, status: int, kind: str, text: str):
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    answer = client.post(path, content=content, headers={"Accept": "text/event-stream"})
    assert (answer.status_code, answer.headers["Content-Type"]) == (status, JSON_TYPE)
    code = "model_not_found" if status == 404 else None
    assert answer.json() == {"error": {"message": text, "type": kind, "param": None, "code": code}}


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/v1/nope", 404),
        ("POST", "/v1/audio/transcriptions", 404),
        ("GET", CHAT, 405),
        ("OPTIONS", COMPLETIONS, 405),
        ("DELETE", "/v1/models/demo", 405),
    ],
)
def test_what_no_route_answers_has_openais_shape(client: httpx.Client, method: str, path: str, status: int):
    answer = client.request(method, path)
    assert (answer.status_code, answer.headers["Content-Type"]) == (status, JSON_TYPE)
    assert str(status) in answer.json()["error"]["message"]
    assert ("Allow" in answer.headers) == (status == 405)


def test_a_foreign_page_is_refused_in_openais_shape(client: httpx.Client):
    answer = client.get("/v1/models", headers={"Origin": "https://evil.example"})
    assert (answer.status_code, answer.json()["error"]["type"]) == (403, "invalid_request_error")


def test_a_body_that_is_too_long_is_refused_in_openais_shape(client: httpx.Client):
    answer = client.post(CHAT, content=b" " * (32 * 1024 * 1024 + 1))
    assert (answer.status_code, answer.json()["error"]["type"]) == (413, "invalid_request_error")


def test_embeddings_are_those_of_the_native_route(client: httpx.Client):
    body = {"model": "demo", "input": ["a", "b c"], "dimensions": 3}
    native = client.post("/api/embed", json=body).json()
    ours = client.post("/v1/embeddings", json=body).json()
    assert [each["embedding"] for each in ours["data"]] == native["embeddings"]
    assert ours["usage"] == {"prompt_tokens": 3, "total_tokens": 3}


def test_a_text_that_is_too_long_to_embed_is_refused_unless_it_may_be_cut(client: httpx.Client):
    body = {"model": "demo", "input": ["a", "b " * 5000]}
    error = client.post("/v1/embeddings", json=body).json()["error"]
    assert error["code"] == "context_length_exceeded"
    assert "maximum context length is 4096 tokens" in error["message"]
    cut = client.post("/v1/embeddings", json={**body, "truncate_prompt_tokens": -1}).json()
    assert cut["usage"]["prompt_tokens"] == 4097


def test_models_are_listed_and_each_is_found_by_any_of_its_names(client: httpx.Client):
    (entry,) = client.get("/v1/models").json()["data"]
    assert (entry["id"], entry["object"], entry["owned_by"]) == ("demo:latest", "model", "library")
    for name in ("demo", "DEMO:latest", "library/demo", "library%2Fdemo"):
        answer = client.get(f"/v1/models/{name}")
        assert answer.json() == {**entry, "id": name.replace("%2F", "/")}
    unknown = client.get("/v1/models/x").json()["error"]
    assert (unknown["message"], unknown["type"]) == ("model 'x:latest' not found", "not_found_error")
    assert unknown["code"] == "model_not_found"


def test_anthropics_clients_have_models_and_errors_in_their_own_form(client: httpx.Client):
    theirs = {"anthropic-version": "2023-06-01"}
    listed = client.get("/v1/models?limit=1000", headers=theirs).json()
    assert (listed["first_id"], listed["has_more"], listed["data"][0]["type"]) == ("demo:latest", False, "model")
    assert client.get("/v1/models/demo", headers=theirs).json()["display_name"] == "demo"
    unknown = client.get("/v1/models/x", headers=theirs)
    assert (unknown.status_code, unknown.json()["error"]["type"]) == (404, "not_found_error")
    assert unknown.json()["request_id"] == unknown.headers["X-Request-Id"] == unknown.headers["Request-Id"]
    for path in ("/v1/files", "/v1/complete", "/v1/messages/batches"):
        absent = client.post(path, json={}, headers=theirs)
        assert (absent.status_code, absent.json()["type"]) == (404, "error")
        assert absent.json()["error"]["type"] == "not_found_error"
        assert absent.json()["request_id"] == absent.headers["Request-Id"]
    assert "Request-Id" not in client.get("/v1/models").headers
    # Other routes are OpenAI's, whoever asks.
    error = client.post(CHAT, json={}, headers=theirs).json()["error"]
    assert error["type"] == "invalid_request_error"
    assert {"code", "param"} <= error.keys()


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [("POST", "/v1/nothing", 404, "unknown_url"), ("GET", CHAT, 405, "method_not_supported")],
)
def test_a_wrong_path_or_method_has_a_code(client: httpx.Client, method: str, path: str, status: int, code: str):
    answer = client.request(method, path)
    assert (answer.status_code, answer.json()["error"]["code"]) == (status, code)


@BOTH
def test_each_chunk_has_the_usage_so_far_where_a_client_asks_for_it(client: httpx.Client, path: str):
    options = {"include_usage": True, "continuous_usage_stats": True}
    records, done = streamed(client, path, "a !sleep:0.05 b", stream_options=options)
    assert done
    tokens = [record["usage"]["completion_tokens"] for record in records]
    # The two tokens may come in one chunk. The last two chunks are the reason and the usage.
    assert (tokens[-3:], tokens) == ([2, 2, 2], sorted(tokens))


def test_a_silent_stream_beats_with_comments(start_server: Callable[..., Server]):
    server = start_server({"VLLM_WSGI_HEARTBEAT": "0.1"})
    answer = httpx.post(f"{server.url}{CHAT}", json=asked(CHAT, "!sleep:0.4 a", stream=True))
    assert answer.text.startswith(": heartbeat\n\n")
    assert answer.text.endswith(DONE)
