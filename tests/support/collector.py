"""An OTLP/HTTP collector on loopback, for tests of traces; OpenTelemetry's own messages."""

from __future__ import annotations

import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from tests.support.waiting import until

# Of a client's span, and as it sends them along.
TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
CLIENT = {"traceparent": f"00-{TRACE}-{PARENT}-01"}


class Collector:
    """`spans` are those that have come."""

    def __init__(self) -> None:
        self.spans: list[Any] = []
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._receiver())
        self.url = f"http://127.0.0.1:{self._server.server_port}/v1/traces"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def span(self, name: str, trace: str = "") -> dict[str, Any]:
        """The first of that name and trace, once it has come: its ids, its status and its attributes."""
        until(lambda: self._found(name, trace), 120, f"the span {name} comes")
        span = self._found(name, trace)[0]
        ids = {"trace": span.trace_id.hex(), "id": span.span_id.hex(), "parent": span.parent_span_id.hex()}
        plain = {each.key: getattr(each.value, each.value.WhichOneof("value")) for each in span.attributes}
        return plain | ids | {"code": span.status.code}

    def _found(self, name: str, trace: str) -> list[Any]:
        return [span for span in self.spans if span.name == name and span.trace_id.hex().startswith(trace)]

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
