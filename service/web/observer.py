"""What is told of every request: opened at its arrival, told once at its end to the log, the metrics and the trace."""

from __future__ import annotations

from functools import partial
from typing import Any

from flask import Response, request

from ..config import Settings
from ..engine_client.client import Client
from ..telemetry import request_log
from ..telemetry.metrics import MetricsReporter
from ..telemetry.request_stats import RequestStats
from ..telemetry.traces import traces
from .context import ENTRY, current_id, key_of

# Of these, which machines ask every few seconds, nothing is told.
UNREPORTED = ("/livez", "/readyz", "/metrics")


class Observer:
    """Raises SettingsError where traces are wanted and can't be made."""

    def __init__(self, settings: Settings, client: Client) -> None:
        self._reporter = MetricsReporter(client)
        self._traces = traces(settings.traces)

    def opened(self, route: str) -> None:
        if route not in UNREPORTED:
            entry = request.environ[ENTRY] = RequestStats(route)
            self._traces.begin(entry, request.environ)

    def report_when_closed(self, response: Response) -> Response:
        """The end is when the server closes the response, which it does whether it could send it or not."""
        entry = request.environ.get(ENTRY)
        if entry is not None:
            response.call_on_close(partial(self._end, entry, self._http(response.status_code)))
        return response

    def _http(self, status: int) -> dict[str, Any]:
        environ = request.environ
        return {
            "request_id": current_id(),
            "client": environ.get("REMOTE_ADDR", ""),
            "key": key_of(environ).caller.name,
            "method": request.method,
            "status": status,
        }

    def _end(self, entry: RequestStats, http: dict[str, Any]) -> None:
        self._reporter.report(entry.ended())
        self._traces.end(entry, http["status"])
        # Last, since it may wait for a reader.
        request_log.write(entry, http)
