"""A span for each request, in OpenTelemetry's terms, told to a collector over OTLP/HTTP.

Optional: the packages are in requirements/otel.txt, and nothing of them is imported before a collector is named.
The application's own tracer provider, if it has one, is left alone.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Mapping
from typing import Any, Protocol

from ..errors import SettingsError
from .request_stats import RequestStats

# For one batch and all tries to send it. OpenTelemetry's own, 10, a process waits for at its end, too.
TIMEOUT_SECONDS = 2.0


class Traces(Protocol):
    """What begins and ends spans."""

    def begin(self, entry: RequestStats, environ: Mapping[str, Any]) -> None: ...

    def end(self, entry: RequestStats, status: int) -> None: ...


class NoTraces:
    def begin(self, entry: RequestStats, environ: Mapping[str, Any]) -> None:
        """Nothing."""

    def end(self, entry: RequestStats, status: int) -> None:
        """Nothing."""


def traces(endpoint: str | None) -> Traces:
    """`endpoint` is a collector's, with its path: `http://127.0.0.1:4318/v1/traces`. Raises SettingsError."""
    if not endpoint:
        return NoTraces()
    try:
        import opentelemetry.exporter.otlp.proto.http
        import opentelemetry.sdk.trace  # noqa: F401
    except ImportError as error:
        raise SettingsError(f"VLLM_WSGI_TRACES needs what requirements/otel.txt lists: {error}") from None
    return OpenTelemetry(endpoint)


class OpenTelemetry:
    """The sampler, the service's name and the exporter's headers are for OpenTelemetry's own OTEL_ variables to say."""

    def __init__(self, endpoint: str) -> None:
        self._endpoint = endpoint
        self._making = threading.Lock()
        self._pid = 0

    def begin(self, entry: RequestStats, environ: Mapping[str, Any]) -> None:
        """A span in the trace that the client says it belongs to (W3C Trace Context), else in one of its own."""
        from opentelemetry.trace import SpanKind
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

        sent = {"traceparent": environ.get("HTTP_TRACEPARENT", ""), "tracestate": environ.get("HTTP_TRACESTATE", "")}
        entry.span = self._tracer().start_span(
            f"{environ['REQUEST_METHOD']} {entry.route}",
            TraceContextTextMapPropagator().extract(sent),
            SpanKind.SERVER,
            {"http.request.method": environ["REQUEST_METHOD"], "http.route": entry.route},
        )

    def end(self, entry: RequestStats, status: int) -> None:
        from opentelemetry.trace import Status, StatusCode

        numbers = {
            "http.response.status_code": status,
            "gen_ai.request.model": entry.model,
            "gen_ai.usage.input_tokens": entry.prompt_tokens,
            "gen_ai.usage.output_tokens": entry.output_tokens,
            "vllm_wsgi.load_seconds": entry.load / 1e9,
            "vllm_wsgi.queue_seconds": entry.queue / 1e9,
            "vllm_wsgi.first_token_seconds": entry.first / 1e9,
            "vllm_wsgi.ending": entry.ending,
            "error.type": entry.error,
        }
        entry.span.set_attributes({name: value for name, value in numbers.items() if value})
        if entry.ending in ("error", "drained"):
            entry.span.set_status(Status(StatusCode.ERROR))
        entry.span.end()

    def _tracer(self) -> Any:
        """Made in the process that uses it, since its exporter has a thread."""
        if self._pid != os.getpid():
            with self._making:
                if self._pid != os.getpid():
                    self._made, self._pid = _tracer(self._endpoint), os.getpid()
        return self._made


def traceparent(entry: RequestStats) -> str:
    """What carries the trace on; empty where there is none."""
    if entry.span is None:
        return ""
    context = entry.span.get_span_context()
    return f"00-{context.trace_id:032x}-{context.span_id:016x}-{context.trace_flags:02x}"


def _tracer(endpoint: str) -> Any:
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    name = os.environ.get("OTEL_SERVICE_NAME", "vllm-wsgi")
    provider = TracerProvider(resource=Resource.create({"service.name": name}))
    timeout = None if "OTEL_EXPORTER_OTLP_TIMEOUT" in os.environ else TIMEOUT_SECONDS
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(endpoint, timeout=timeout)))
    return provider.get_tracer("vllm_wsgi")
