"""Traces: one through client, web worker and queue, told to a collector. Scripted engine, OpenTelemetry's own SDK."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import httpx
import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from service import SettingsError
from service.traces import traces
from tests.servers import Server, chat, parse, text, until

TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"


class Collector:
    """An OTLP/HTTP collector on loopback; `spans` are those that have come."""

    def __init__(self) -> None:
        self.spans: list[Any] = []
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._receiver())
        self.url = f"http://127.0.0.1:{self._server.server_port}/v1/traces"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def span(self, name: str) -> dict[str, Any]:
        """One of that name, once it has come: its ids, its status and its attributes."""
        until(lambda: any(span.name == name for span in self.spans), 10, f"the span {name} comes")
        span = next(span for span in self.spans if span.name == name)
        values = {each.key: each.value for each in span.attributes}
        ids = {"trace": span.trace_id.hex(), "id": span.span_id.hex(), "parent": span.parent_span_id.hex()}
        plain = {key: value.string_value or value.int_value for key, value in values.items()}
        return plain | ids | {"code": span.status.code}

    def _receiver(self) -> type[BaseHTTPRequestHandler]:
        spans = self.spans

        class Receiver(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                sent = ExportTraceServiceRequest.FromString(self.rfile.read(int(self.headers["Content-Length"])))
                spans.extend(s for r in sent.resource_spans for scope in r.scope_spans for s in scope.spans)
                self.send_response(200)
                self.end_headers()

            def log_message(self, *args: Any) -> None:
                """Nothing."""

        return Receiver


@pytest.fixture
def collector() -> Iterator[Collector]:
    collector = Collector()
    yield collector
    collector.close()


def test_a_trace_goes_through_the_web_worker_to_the_engine(start_server: Callable[..., Server], collector: Collector):
    server = start_server({"VLLM_WSGI_TRACES": collector.url, "OTEL_BSP_SCHEDULE_DELAY": "100"})
    headers = {"traceparent": f"00-{TRACE}-{PARENT}-01"}
    answer = httpx.post(f"{server.url}/api/chat", json=chat("!trace"), headers=headers)
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
    headers = {"traceparent": f"00-{TRACE}-{PARENT}-01"}
    answer = client.post("/api/chat", json=chat("!trace", stream=False), headers=headers)
    assert answer.json()["message"]["content"].strip() == ""


def test_without_the_packages_the_setting_is_refused(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "opentelemetry.sdk.trace", None)
    with pytest.raises(SettingsError, match=r"requirements-otel\.txt"):
        traces("http://127.0.0.1:4318/v1/traces")
