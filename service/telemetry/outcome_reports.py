"""Reports a request once, at its end, to the request log, the metrics and the trace."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..config import Settings
from ..engine_client.client import Client
from . import request_log
from .metrics import MetricsReporter
from .request_stats import RequestStats
from .traces import traces


class OutcomeReports:
    """Reports outcomes. The routes and the calls of the application's own code share one.

    Raises SettingsError when traces are wanted and OpenTelemetry is not installed.
    """

    def __init__(self, settings: Settings, client: Client) -> None:
        self._metrics = MetricsReporter(client)
        self._traces = traces(settings.traces)

    def begin(self, route: str, environ: Mapping[str, Any]) -> Any:
        """Return the request's span, which has begun; None where no traces are wanted."""
        return self._traces.begin(route, environ)

    def end(self, stats: RequestStats, span: Any, **http: Any) -> None:
        """Report the request's end. `http` is as in `RequestStats.ended`."""
        outcome = stats.ended(**http)
        self._metrics.report(outcome)
        self._traces.end(span, stats, http["status"])
        # Last, since it may wait for the log's reader.
        request_log.write(outcome, stats.prompt)
