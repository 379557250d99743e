"""A span for each request, in OpenTelemetry's terms, sent to a collector over OTLP/HTTP.

Optional: the packages are imported only when a collector is named. The tracer provider of the host application, if
there is one, stays as it is.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from functools import partial
from typing import Any, Protocol

from ..engine_client.per_process import PerProcess
from ..errors import SettingsError
from .request_stats import Ending, RequestStats

# For one batch and all tries to send it. A process waits this long at its end; OpenTelemetry's default is 10.
TIMEOUT_SECONDS = 2.0


class Traces(Protocol):
    """Begins a request's span and ends it."""

    def begin(self, route: str, environ: Mapping[str, Any]) -> Any: ...

    def end(self, span: Any, stats: RequestStats, status: int) -> None: ...


class NoTraces:
    """Stands in where no collector is named: its spans are None."""

    def begin(self, route: str, environ: Mapping[str, Any]) -> Any:
        """Return None."""

    def end(self, span: Any, stats: RequestStats, status: int) -> None:
        """Do nothing."""


def traces(endpoint: str | None) -> Traces:
    """Return what makes the spans; without an `endpoint` there are none.

    `endpoint` is the URL of a collector with its path: `http://127.0.0.1:4318/v1/traces`. Raises SettingsError when
    OpenTelemetry's packages are not installed.
    """
    if not endpoint:
        return NoTraces()
    try:
        import opentelemetry.exporter.otlp.proto.http
        import opentelemetry.sdk.trace  # noqa: F401
    except ImportError as error:
        raise SettingsError(f"VLLM_WSGI_TRACES needs OpenTelemetry, the extra `otel`: {error}") from None
    return OpenTelemetry(endpoint)


class OpenTelemetry:
    """Spans of OpenTelemetry's SDK.

    The SDK's own OTEL_ variables set the sampler, the service's name and the exporter's headers.
    """

    def __init__(self, endpoint: str) -> None:
        self._tracer = PerProcess(partial(_tracer, endpoint))

    def begin(self, route: str, environ: Mapping[str, Any]) -> Any:
        """Begin a span in the trace that the client's headers name (W3C Trace Context), or in a new trace."""
        from opentelemetry.trace import SpanKind
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

        sent = {"traceparent": environ.get("HTTP_TRACEPARENT", ""), "tracestate": environ.get("HTTP_TRACESTATE", "")}
        return self._tracer.get().start_span(
            f"{environ['REQUEST_METHOD']} {route}",
            TraceContextTextMapPropagator().extract(sent),
            SpanKind.SERVER,
            {"http.request.method": environ["REQUEST_METHOD"], "http.route": route},
        )

    def end(self, span: Any, stats: RequestStats, status: int) -> None:
        """Put the numbers of the request into its span, and end it."""
        from opentelemetry.trace import Status, StatusCode

        numbers = {
            "http.response.status_code": status,
            "gen_ai.request.model": stats.model,
            "gen_ai.usage.input_tokens": stats.prompt_tokens,
            "gen_ai.usage.output_tokens": stats.output_tokens,
            "vllm_wsgi.load_seconds": stats.load / 1e9,
            "vllm_wsgi.queue_seconds": stats.queue / 1e9,
            "vllm_wsgi.first_token_seconds": stats.first / 1e9,
            "vllm_wsgi.moves": len(stats.moves),
            "vllm_wsgi.ending": stats.ending.value,
            "error.type": stats.error,
        }
        span.set_attributes({name: value for name, value in numbers.items() if value})
        for move in stats.moves:
            span.add_event("vllm_wsgi.move", {"vllm_wsgi.cause": move.cause.value}, move.time_ns)
        if stats.ending in (Ending.ERROR, Ending.DRAINED):
            span.set_status(Status(StatusCode.ERROR))
        span.end()


def traceparent(span: Any) -> str:
    """Return the header that names the span (W3C Trace Context); empty when `span` is None."""
    if span is None:
        return ""
    context = span.get_span_context()
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
