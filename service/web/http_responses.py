"""Turn records, errors and streams into Flask responses."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import chain
from typing import Any

from flask import Response, request
from werkzeug.exceptions import HTTPException

from ..engine_client.exchange import Job, Stream
from ..errors import HTTPRefusal, ServiceError
from . import framing
from .context import HEADER, current_id, entry_of
from .framing import Framing

JSON_TYPE = "application/json; charset=utf-8"

# nginx buffers without the last one; `no-transform` keeps HAProxy from compressing; tokens are nobody's to cache.
STREAM_HEADERS = {"Cache-Control": "no-cache, no-store, no-transform", "X-Accel-Buffering": "no"}

ErrorRecord = Callable[[ServiceError], Any]


def stream_response(
    stream: Stream | Job, batches: Iterator[list[Any]], chosen: Framing, failure: ErrorRecord
) -> Response:
    """A streamed answer. Its status waits for the first record, so that an early error has a status of its own."""
    first = next(batches)
    # The request's context is over when the chunks are made.
    identity, entry = {"request_id": current_id()}, entry_of(request.environ)
    entry.streams()

    def error_record(error: ServiceError) -> Any:
        entry.failed(error)
        return failure(error) | identity

    chunks = framing.stream(chain([first], batches), chosen, error_record)
    response = Response(chunks, content_type=chosen.media_type, headers=STREAM_HEADERS)
    response.call_on_close(stream.close)
    return response


def identified(response: Response) -> Response:
    response.headers[HEADER] = current_id()
    return response


def json_response(record: Any, status: int = 200) -> Response:
    return Response(framing.encode(record), status, content_type=JSON_TYPE)


def empty_response(status: int, headers: dict[str, str] | None = None) -> Response:
    response = Response(status=status, headers=headers)
    del response.headers["Content-Type"]
    return response


def error_response(error_record: ErrorRecord, error: ServiceError) -> Response:
    entry_of(request.environ).failed(error)
    response = json_response(error_record(error), error.status)
    response.headers.update(error.headers)
    return response


def http_error_response(error_record: ErrorRecord, error: HTTPException) -> Response:
    """Flask's and Werkzeug's own errors, as JSON and with their headers (Allow, Location)."""
    status = error.code or 500
    told = f"{status} {(error.name or 'error').lower()}"
    # Nothing was refused where something broke.
    response = error_response(error_record, ServiceError(told) if status == 500 else HTTPRefusal(told, status=status))
    for name, value in error.get_headers():
        if name.lower() not in ("content-type", "content-length"):
            response.headers[name] = value
    return response
