"""The tracer: one in a process, and none without OpenTelemetry's packages."""

from __future__ import annotations

import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from service.engine_client.moves import Move, MoveCause
from service.errors import SettingsError
from service.telemetry.request_stats import RequestStats
from service.telemetry.traces import traceparent, traces


def exporters() -> int:
    return sum("BatchSpan" in thread.name for thread in threading.enumerate())


def test_the_first_requests_share_one_exporter():
    made, before = traces("http://127.0.0.1:9/v1/traces"), exporters()
    with ThreadPoolExecutor(8) as pool:
        for _ in range(8):
            pool.submit(made.begin, "/api/chat", {"REQUEST_METHOD": "POST"})
    assert exporters() == before + 1


def test_without_the_packages_the_setting_is_refused(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "opentelemetry.sdk.trace", None)
    with pytest.raises(SettingsError, match="needs OpenTelemetry, the extra `otel`"):
        traces("http://127.0.0.1:4318/v1/traces")


def test_without_a_collector_there_is_no_span():
    span = traces("").begin("/api/chat", {"REQUEST_METHOD": "POST"})
    assert (span, traceparent(span)) == (None, "")


def test_moves_are_events_of_the_span():
    span = Span()
    stats = RequestStats("/api/chat")
    stats.stream = MovedStream()  # type: ignore[assignment]
    traces("http://127.0.0.1:9/v1/traces").end(span, stats, 200)
    assert span.attributes["vllm_wsgi.moves"] == 1
    assert span.events == [("vllm_wsgi.move", {"vllm_wsgi.cause": "drained"}, 7)]


class MovedStream:
    replica = 0
    moves = [Move(MoveCause.DRAINED, 7)]


class Span:
    """Keeps what it is given."""

    def __init__(self) -> None:
        self.attributes: dict[str, Any] = {}
        self.events: list[tuple[str, dict[str, str], int]] = []

    def set_attributes(self, attributes: dict[str, Any]) -> None:
        self.attributes |= attributes

    def add_event(self, name: str, attributes: dict[str, str], timestamp: int) -> None:
        self.events.append((name, attributes, timestamp))

    def end(self) -> None:
        """Nothing more comes."""
