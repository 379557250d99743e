"""Turn records, errors and streams into Flask responses."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import chain
from string import punctuation
from typing import Any
from urllib.parse import quote

from flask import Response, current_app, request
from werkzeug.exceptions import HTTPException

from ..engine_client.exchange import Exchange
from ..errors import HTTPRefusal, ServiceError
from . import framing
from .context import HEADER, context
from .fast_path import FastResponse, StreamFastPath
from .framing import CursorFraming, Framing
from .neighbours import uncollected

JSON_TYPE = "application/json; charset=utf-8"

# `no-transform` keeps HAProxy from compressing, X-Accel-Buffering keeps nginx from buffering.
STREAM_HEADERS = {"Cache-Control": "no-cache, no-store, no-transform", "X-Accel-Buffering": "no"}

ErrorRecord = Callable[[ServiceError], Any]


def stream_answer(
    stream: Exchange,
    batches: Iterator[list[Any]],
    chosen: Framing,
    failure: ErrorRecord,
    path: StreamFastPath | None = None,
) -> Response:
    """Return a streamed answer of a route. It waits for the first record, as `framed_response` does."""
    error_record, stats = _error_record(failure), context().stats
    response = framed_response(batches, chosen, error_record, stream.close)
    if path is not None:
        response.let_pass(path)
    stats.streams()
    return response


def framed_response(
    batches: Iterator[list[Any]], chosen: Framing, error_record: ErrorRecord, close: Callable[[], None]
) -> FastResponse:
    """Return a stream of batches of records; `close` is called when the server closes the response.

    Waits for the first batch, so that an error before it decides the status. Raises the errors of that wait.
    """
    first = next(batches, None)
    chunks = framing.stream(batches if first is None else chain([first], batches), chosen, error_record)
    return streamed_response(chunks, chosen, close)


def streamed_response(chunks: Iterator[bytes], chosen: Framing, close: Callable[[], None]) -> FastResponse:
    """Return a stream of bytes, which no hook of the application can collect; `close` is called at its end."""
    streamed = uncollected(current_app.response_class)
    response = streamed(chunks, content_type=chosen.media_type, headers=STREAM_HEADERS)
    response.call_on_close(close)
    return response


def resumable_answer(
    batches: Iterator[list[tuple[Any, str]]],
    chosen: CursorFraming,
    failure: ErrorRecord,
    end: str,
    close: Callable[[], None],
) -> FastResponse:
    """Return a stream whose records have cursors; `end` is the cursor at its end."""
    chunks = framing.resumable_stream(batches, chosen, _error_record(failure), end)
    response = streamed_response(chunks, chosen.framing, close)
    context().stats.streams()
    return response


def _error_record(failure: ErrorRecord) -> ErrorRecord:
    """Return a function that makes the last record of a stream that fails, and records the error for the log."""
    # Flask's request context is gone when the chunks are made.
    streamed = context()

    def error_record(error: ServiceError) -> Any:
        streamed.stats.failed(error)
        return failure(error) | {"request_id": streamed.id}

    return error_record


def add_request_id(response: Response) -> Response:
    """Set X-Request-Id."""
    response.headers[HEADER] = context().id
    return response


def json_response(record: Any, status: int = 200) -> Response:
    """Return one record as the whole answer."""
    return Response(framing.encode(record), status, content_type=JSON_TYPE)


def single_response(record: Any, chosen: Framing | None) -> Response:
    """Return one record as the whole answer: one event for a reader of events, which can't read JSON, else JSON."""
    if chosen is not framing.SSE:
        return json_response(record)
    return Response(chosen.frame(record), content_type=chosen.media_type, headers=STREAM_HEADERS)


def empty_response(status: int, headers: dict[str, str] | None = None) -> Response:
    """Return an answer without a body, and so without a media type."""
    response = Response(status=status, headers=headers)
    del response.headers["Content-Type"]
    return response


def redirect_to(path: str) -> Response:
    """Return a redirect to a path of this server, with the request's query. 307 keeps the method and the body."""
    # As gin does. Only what no header may hold is escaped in the query.
    query = f"?{quote(request.query_string, safe=punctuation)}" if request.query_string else ""
    # Two slashes at its beginning would lead to another host.
    location = quote(f"{request.script_root}{path}".lstrip("/"))
    return empty_response(301 if request.method == "GET" else 307, {"Location": f"/{location}{query}"})


def error_response(error_record: ErrorRecord, error: ServiceError) -> Response:
    """Return the answer to a request that failed before its first record, and record the error for the log."""
    context().stats.failed(error)
    response = json_response(error_record(error), error.status)
    response.headers.update(error.headers)
    return response


def http_error_response(error_record: ErrorRecord, error: HTTPException) -> Response:
    """Return one of Flask's and Werkzeug's own errors as JSON, with its headers (Allow, Location)."""
    status = error.code or 500
    text = f"{status} {(error.name or 'error').lower()}"
    # A 500 is a fault of ours and counts as an error; the others are refusals.
    response = error_response(error_record, ServiceError(text) if status == 500 else HTTPRefusal(text, status=status))
    for name, value in error.get_headers():
        if name.lower() not in ("content-type", "content-length"):
            response.headers[name] = value
    return response
