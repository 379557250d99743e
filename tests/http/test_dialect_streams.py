"""Anthropic's and OpenAI's Responses streams over real HTTP, on a scripted engine: ends, failures, heartbeats."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import httpx
import pytest
from httpx_sse import connect_sse

from tests.support.answers import SSE
from tests.support.servers import Server

JSON = "application/json; charset=utf-8"
MESSAGES, COUNT, RESPONSES = "/v1/messages", "/v1/messages/count_tokens", "/v1/responses"
BOTH = pytest.mark.parametrize("path", [MESSAGES, RESPONSES])


def body(path: str, script: str, **fields: Any) -> dict[str, Any]:
    if path == RESPONSES:
        return {"model": "demo", "input": script, **fields}
    return {"model": "demo", "max_tokens": 50, "messages": [{"role": "user", "content": script}], **fields}


def events(client: httpx.Client, path: str, script: str, **fields: Any) -> list[dict[str, Any]]:
    """Those of a stream; each is named by its type."""
    with connect_sse(client, "POST", path, json=body(path, script, stream=True, **fields)) as source:
        read = [(event.event, event.json()) for event in source.iter_sse()]
    assert [name for name, _ in read] == [record["type"] for _, record in read]
    return [record for _, record in read]


def failed(answer: httpx.Response) -> dict[str, Any]:
    """What an answer that failed before its first byte says, whatever its dialect calls the rest."""
    assert answer.headers["Content-Type"] == JSON
    error: dict[str, Any] = answer.json()["error"]
    return error


def test_a_message_streams_with_a_start_and_one_end(client: httpx.Client):
    start, *between, end, stop = events(client, MESSAGES, "!think:hm one two")
    assert start["message"]["usage"]["input_tokens"] == 3
    assert "".join(each["delta"].get("text", "") for each in between if "delta" in each) == "one two "
    assert (end["delta"]["stop_reason"], end["usage"]["output_tokens"], stop["type"]) == ("end_turn", 3, "message_stop")


def test_a_response_streams_with_a_start_and_one_end(client: httpx.Client):
    start, *_, end = events(client, RESPONSES, "!think:hm one two")
    assert (start["type"], end["type"]) == ("response.created", "response.completed")
    reasoning, message = end["response"]["output"]
    assert reasoning["summary"][0]["text"] == "hm "
    assert message["content"][0]["text"] == "one two "
    assert end["response"]["usage"]["total_tokens"] == 6


@pytest.mark.parametrize("accept", [SSE, "application/json", "*/*"])
@BOTH
def test_the_body_alone_says_whether_to_stream(client: httpx.Client, path: str, accept: str):
    one = client.post(path, json=body(path, "a"), headers={"Accept": accept})
    assert (one.status_code, one.headers["Content-Type"]) == (200, JSON)
    assert one.json()["model"] == "demo"
    stream = client.post(path, json=body(path, "a", stream=True), headers={"Accept": accept})
    assert stream.headers["Content-Type"] == SSE
    assert stream.headers["X-Accel-Buffering"] == "no"


def test_an_answer_that_is_cut_off_says_so(client: httpx.Client):
    message = client.post(MESSAGES, json=body(MESSAGES, "a b c", max_tokens=2)).json()
    assert (message["stop_reason"], message["content"][0]["text"]) == ("max_tokens", "a b ")
    response = client.post(RESPONSES, json=body(RESPONSES, "a b c", max_output_tokens=2)).json()
    assert (response["status"], response["incomplete_details"]) == ("incomplete", {"reason": "max_output_tokens"})


@pytest.mark.parametrize("stream", [True, False])
@BOTH
def test_a_failure_before_the_first_byte_has_its_status(client: httpx.Client, path: str, stream: bool):
    refused = client.post(path, json=body(path, "!refuse:no", stream=stream))
    assert (refused.status_code, failed(refused)["message"]) == (400, "no")
    assert failed(refused)["type"] == "invalid_request_error"
    broken = client.post(path, json=body(path, "!fail:oh", stream=stream))
    assert (broken.status_code, failed(broken)["type"]) == (500, "api_error")
    unknown = client.post(path, json=body(path, "a", stream=stream, model="nope"))
    assert (unknown.status_code, failed(unknown)["type"]) == (404, "not_found_error")


@BOTH
def test_a_failure_of_an_answer_that_is_not_streamed_has_its_status(client: httpx.Client, path: str):
    broken = client.post(path, json=body(path, "a b !fail:oh"))
    assert (broken.status_code, failed(broken)["message"]) == (500, "oh")


def test_a_message_that_fails_ends_in_an_error(client: httpx.Client):
    *told, last = events(client, MESSAGES, "a b !sleep:0.1 !fail:oh")
    assert (last["type"], last["error"]) == ("error", {"type": "api_error", "message": "oh"})
    assert not {"message_delta", "message_stop"} & {record["type"] for record in told}


def test_a_response_that_fails_ends_as_failed(client: httpx.Client):
    *told, last = events(client, RESPONSES, "a b !sleep:0.1 !fail:oh")
    assert (last["type"], last["sequence_number"]) == ("response.failed", len(told))
    assert last["response"]["error"] == {"code": "server_error", "message": "oh"}
    assert last["response"]["id"] == told[0]["response"]["id"]


def test_counting_tokens_generates_nothing(client: httpx.Client):
    request = {"model": "demo", "messages": [{"role": "user", "content": "one two !fail:oh"}]}
    counted = client.post(COUNT, json=request)
    assert (counted.status_code, counted.json()) == (200, {"input_tokens": 3})
    assert failed(client.post(COUNT, json={"model": "demo"}))["message"] == "messages is required"


@pytest.mark.parametrize(
    "fields", [{}, {"truncation": "auto"}, {"stream": True}, {"background": True}, {"store": True}]
)
def test_counting_the_tokens_of_a_response_generates_nothing(client: httpx.Client, fields: dict[str, Any]):
    counted = client.post(f"{RESPONSES}/input_tokens", json={"model": "demo", "input": "one two !fail:oh", **fields})
    assert (counted.status_code, counted.json()) == (200, {"object": "response.input_tokens", "input_tokens": 3})


def test_a_response_before_that_is_not_there_is_refused_when_counting_too(client: httpx.Client):
    body = {"model": "demo", "input": "three", "previous_response_id": "resp_nothing"}
    refused = failed(client.post(f"{RESPONSES}/input_tokens", json=body))
    assert refused["code"] == "previous_response_not_found"


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", MESSAGES, 405),
        ("GET", RESPONSES, 405),
        ("POST", f"{MESSAGES}/batches", 404),
        ("PUT", COUNT, 405),
        ("POST", f"{RESPONSES}/compact", 404),
        ("POST", f"{RESPONSES}/resp_1", 405),
        ("GET", f"{RESPONSES}/input_tokens", 404),
        ("GET", f"{RESPONSES}/resp_1/cancel", 405),
        ("POST", f"{RESPONSES}/resp_1/input_items", 405),
        ("POST", "/v1/models/demo", 405),
    ],
)
def test_what_no_route_answers_is_told_in_the_dialects_shape(client: httpx.Client, method: str, path: str, status: int):
    answer = client.request(method, path)
    assert (answer.status_code, "message" in failed(answer)) == (status, True)
    assert (answer.json().get("type") == "error") == path.startswith(MESSAGES)


@pytest.mark.parametrize(("content", "text"), [(b"", "EOF"), (b"{", "unexpected EOF")])
@BOTH
def test_a_body_that_is_none_is_told_in_the_dialects_shape(client: httpx.Client, path: str, content: bytes, text: str):
    answer = client.post(path, content=content)
    assert (answer.status_code, failed(answer)["message"]) == (400, text)


def test_silence_is_filled_and_a_failure_after_it_is_an_event(start_server: Callable[..., Server]):
    server = start_server({"VLLM_WSGI_HEARTBEAT": "0.1"})
    with httpx.Client(base_url=server.url, timeout=120) as client:
        # Long enough for a heartbeat of a busy machine, too.
        message = events(client, MESSAGES, "!sleep:2 a")
        assert message[0]["type"] == "ping"
        assert message[-1]["type"] == "message_stop"
        script = body(RESPONSES, "!sleep:2 a", stream=True)
        assert client.post(RESPONSES, json=script).content.startswith(b": heartbeat\n\n")
        assert events(client, MESSAGES, "!sleep:0.4 !fail:oh")[-1]["error"]["message"] == "oh"
        (error,) = events(client, RESPONSES, "!sleep:0.4 !fail:oh")
        assert (error["type"], error["message"], error["sequence_number"]) == ("error", "oh", 0)
