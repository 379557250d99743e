"""Traces: one through client, web worker and queue, told to a collector. Scripted engine, OpenTelemetry's own SDK."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import httpx
import pytest

from tests.support.answers import chat, parse, text
from tests.support.collector import CLIENT, PARENT, TRACE, Collector
from tests.support.servers import Server


@pytest.fixture
def collector() -> Iterator[Collector]:
    collector = Collector()
    yield collector
    collector.close()


def test_a_trace_goes_through_the_web_worker_to_the_engine(start_server: Callable[..., Server], collector: Collector):
    server = start_server({"VLLM_WSGI_TRACES": collector.url, "OTEL_BSP_SCHEDULE_DELAY": "100"})
    answer = httpx.post(f"{server.url}/api/chat", json=chat("!trace"), headers=CLIENT)
    span = collector.span("POST /api/chat")
    assert (span["trace"], span["parent"], span["http.response.status_code"]) == (TRACE, PARENT, 200)
    assert (span["gen_ai.request.model"], span["gen_ai.usage.output_tokens"], span["vllm_wsgi.ending"]) == (
        "demo",
        1,
        "done",
    )
    assert text(parse(answer.content, "application/x-ndjson")) == f"00-{TRACE}-{span['id']}-01 "
    httpx.post(
        f"{server.url}/api/generate", json={"model": "demo", "prompt": "a !fail:oh"}, headers={"traceparent": "x"}
    )
    failed = collector.span("POST /api/generate")
    assert (failed["error.type"], failed["code"], failed["parent"]) == ("EngineFailure", 2, "")
    assert failed["trace"] not in ("", TRACE)


def test_a_collector_that_is_not_there_holds_up_nothing(start_server: Callable[..., Server]):
    server = start_server({"VLLM_WSGI_TRACES": "http://127.0.0.1:9/v1/traces", "OTEL_BSP_SCHEDULE_DELAY": "50"})
    answers = [httpx.post(f"{server.url}/api/chat", json=chat("a", stream=False)) for _ in range(3)]
    assert [answer.status_code for answer in answers] == [200] * 3


def test_without_the_setting_there_is_no_trace(client: httpx.Client):
    answer = client.post("/api/chat", json=chat("!trace", stream=False), headers=CLIENT)
    assert answer.json()["message"]["content"].strip() == ""
