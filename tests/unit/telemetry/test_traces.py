"""The tracer: one in a process, and none without OpenTelemetry's packages."""

from __future__ import annotations

import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from service.errors import SettingsError
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
    with pytest.raises(SettingsError, match=r"requirements/otel\.txt"):
        traces("http://127.0.0.1:4318/v1/traces")


def test_without_a_collector_there_is_no_span():
    span = traces("").begin("/api/chat", {"REQUEST_METHOD": "POST"})
    assert (span, traceparent(span)) == (None, "")
