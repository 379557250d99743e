"""One JSON line for each request, with its real ending. Scripted engine."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from app import create_app
from service.config import Settings
from service.engine_client.client import Client
from service.telemetry.request_log import LOGGER
from tests.support.answers import chat, generate
from tests.support.servers import ROOT, Server
from tests.support.waiting import until

HOSTILE = 'x"}\n{"status": 200}\r\u0085\u2028\u009b31m\x1b[2J\\'
FIELDS = {
    "time", "request_id", "client", "key", "method", "status", "route", "ending", "error", "model", "prompt_tokens",
    "output_tokens", "duration_ms", "load_ms", "queue_ms", "first_token_ms", "longest_pause_ms",
    "replica", "moves",
}  # fmt: skip


def lines(server: Server, request_id: str) -> list[dict[str, Any]]:
    written = [text for text in server.output.split("\n") if f'"request_id":"{request_id}"' in text]
    return [json.loads(text) for text in written]


def told(server: Server, request_id: str) -> dict[str, Any]:
    """The line of a request, of which there is one."""
    until(lambda: lines(server, request_id), 120, "the line is written")
    (record,) = lines(server, request_id)
    return record


def post(server: Server, request_id: str, body: dict[str, Any], path: str = "/api/chat") -> httpx.Response:
    return httpx.post(f"{server.url}{path}", json=body, headers={"X-Request-Id": request_id})


def test_a_stream_that_ends_well_is_done(server: Server):
    post(server, "log-1", chat("one !sleep:0.1 two"))
    record = told(server, "log-1")
    assert record.keys() == FIELDS
    assert (record["status"], record["ending"], record["route"], record["model"]) == (200, "done", "/api/chat", "demo")
    assert (record["prompt_tokens"], record["output_tokens"]) == (3, 2)
    assert record["duration_ms"] > record["longest_pause_ms"] > 0


@pytest.mark.parametrize(
    ("name", "path", "body", "ending"),
    [
        ("log-fail", "/api/chat", chat("a !fail:oh"), (200, "error", "EngineFailure")),
        ("log-collected", "/api/chat", chat("a !fail:oh", stream=False), (500, "error", "EngineFailure")),
        ("log-bad", "/api/chat", chat("!refuse:no"), (400, "refused", "BadRequest")),
        ("log-nobody", "/api/generate", generate("a", model="nobody"), (404, "refused", "ModelNotFound")),
        ("log-embed", "/api/embed", {"model": "demo", "input": "a b"}, (200, "done", "")),
        ("log-v1", "/v1/chat/completions", chat("a !fail:oh", stream=True), (200, "error", "EngineFailure")),
        ("log-messages", "/v1/messages", chat("a", max_tokens=1, stream=True), (200, "done", "")),
        ("log-unknown", "/api/nothing", {}, (404, "refused", "HTTPRefusal")),
    ],
)
def test_each_ending_is_told(server: Server, name: str, path: str, body: dict[str, Any], ending: tuple[Any, ...]):
    post(server, name, body, path)
    record = told(server, name)
    assert (record["status"], record["ending"], record["error"]) == ending


def test_a_client_that_leaves_is_told_whatever_the_status(server: Server):
    headers = {"X-Request-Id": "log-gone"}
    with httpx.stream("POST", f"{server.url}/api/chat", json=chat("a !sleep:30"), headers=headers) as answer:
        next(answer.iter_raw())
    record = told(server, "log-gone")
    assert (record["status"], record["ending"], record["output_tokens"]) == (200, "client_gone", 1)


def test_no_line_can_be_forged(server: Server):
    post(server, "log-forge", chat("a", model="m" + HOSTILE.replace("/", "")))
    assert "\x1b" not in server.output
    record = told(server, "log-forge")
    assert record["ending"] == "refused"


def test_prompts_are_not_in_it(server: Server):
    post(server, "log-secret", chat("my-secret-word"))
    told(server, "log-secret")
    assert "my-secret-word" not in server.output


def test_prompts_are_in_it_where_the_operator_says_so(start_server: Callable[..., Server]):
    server = start_server({"VLLM_WSGI_LOG_PROMPTS": "1"})
    post(server, "log-chat", chat("what I said"))
    post(server, "log-embed", {"model": "demo", "input": ["a", "b"]}, "/api/embed")
    assert told(server, "log-chat")["prompt"] == [[{"role": "user", "content": "what I said"}]]
    assert told(server, "log-embed")["prompt"] == ["a", "b"]


def test_the_lines_can_be_turned_off(start_server: Callable[..., Server]):
    server = start_server({"VLLM_WSGI_LOG_REQUESTS": "0"})
    post(server, "log-off", chat("a"))
    server.stop()
    assert "log-off" not in server.output


# --- where the lines go ----------------------------------------------------------------------------------

WRITER = """
from service.telemetry import request_log
request_log.PATIENCE_SECONDS = 60.0
request_log.to_stdout()
for _ in range(20):
    request_log.logger.info("%s", "x" * 60_000)
"""


def test_long_lines_of_several_processes_do_not_mix():
    reads, writes = os.pipe()
    writers = [subprocess.Popen([sys.executable, "-c", WRITER], stdout=writes, cwd=ROOT) for _ in range(2)]
    os.close(writes)
    with os.fdopen(reads, "rb") as reader:
        assert set(reader) == {b"x" * 60_000 + b"\n"}
    assert [writer.wait() for writer in writers] == [0, 0]


def test_what_breaks_in_our_own_code_was_not_refused(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture):
    def broken(client: Client) -> None:
        raise RuntimeError("oh")

    monkeypatch.setattr(Client, "models", broken)
    app = create_app(Settings(engine_socket="nowhere"))
    with caplog.at_level(logging.INFO, LOGGER):
        answer = app.test_client().get("/api/tags")
        answer.close()
    assert (answer.status_code, answer.get_json()) == (500, {"error": "500 internal server error"})
    told = [json.loads(record.getMessage()) for record in caplog.records if record.name == LOGGER]
    assert [(line["ending"], line["error"]) for line in told] == [("error", "ServiceError")]
