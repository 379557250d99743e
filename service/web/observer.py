"""Reports every request once, at its end, to the request log, the metrics and the trace."""

from __future__ import annotations

from functools import partial
from typing import Any

from flask import Response, request

from ..telemetry.outcome_reports import OutcomeReports
from .context import Context, context

# Machines ask the first ones every few seconds, and a browser asks for all files of the page at once.
UNREPORTED = ("/livez", "/readyz", "/health", "/ping", "/metrics", "/ui", "/ui/", "/ui/<file>")


class Observer:
    """Opens a request's span and reports the request when its response is closed."""

    def __init__(self, reports: OutcomeReports) -> None:
        self._reports = reports

    def opened(self, context: Context) -> None:
        """Begin the request's span."""
        if _is_reported(context):
            context.span = self._reports.begin(context.stats.route, request.environ)

    def report_when_closed(self, response: Response) -> Response:
        """Report at the request's end: the server closes each response, also one that it could not send."""
        ended = context()
        if _is_reported(ended):
            response.call_on_close(partial(self._end, ended, self._http(ended, response.status_code)))
        return response

    def _http(self, ended: Context, status: int) -> dict[str, Any]:
        return {
            "request_id": ended.id,
            "client": request.environ.get("REMOTE_ADDR", ""),
            "key": ended.key.caller.name,
            "method": request.method,
            "status": status,
        }

    def _end(self, ended: Context, http: dict[str, Any]) -> None:
        self._reports.end(ended.stats, ended.span, **http)


def _is_reported(context: Context) -> bool:
    """Return whether a request is reported; without a route the application has answered instead of us."""
    return context.route is not None and context.route.path not in UNREPORTED
