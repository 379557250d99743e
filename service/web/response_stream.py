"""Turns an iterator of the application's own code into a streamed response, in the format that the request wants.

In: a Generation, or an iterable of JSON records. Out: a Flask response with heartbeats and exactly one last record.
"""

from __future__ import annotations

import uuid
from collections.abc import Generator, Iterable
from functools import partial
from typing import Any, Optional, Union

from flask import Response, request

from ..errors import ServiceError
from .context import HEADER
from .framing import NDJSON
from .generation import Generation
from .http_responses import framed_response, json_response
from .negotiation import negotiate


def stream_response(pieces: Union[Generation, Iterable[Any]], format: Optional[str] = None) -> Response:
    """Return a response that streams `pieces` as server-sent events or NDJSON.

    The format is `format` ("sse" or "ndjson"), or what the query `?alt=sse` or the header `Accept` asks for, as on
    Ollama's routes. A Generation becomes the records of Ollama's route. Of any other iterable each item is one record:
    a dict, a dataclass, or another value that JSON can hold; None is a heartbeat, which clients do not see.

    The first piece is waited for, so that a request that is refused gets the status of its error. A later error is the
    last record, `{"error": …}`. The iterable is closed when the client disconnects. It runs outside of the request's
    context; `flask.stream_with_context` keeps the context for it. Raises BadRequest for an unknown format.
    """
    framing = negotiate(format, None, request.args.get("alt"), request.headers.get("Accept", "")) or NDJSON
    if isinstance(pieces, Generation):
        request_id, batches, failure = pieces.request_id, pieces.records(), pieces.failure
    else:
        request_id = uuid.uuid4().hex
        batches, failure = _batches(pieces), partial(_failure, request_id)
    response: Response
    try:
        response = framed_response(batches, framing, failure, batches.close)
    except ServiceError as error:
        response = json_response(failure(error), error.status)
        response.headers.update(error.headers)
    response.headers[HEADER] = request_id
    response.vary.add("Accept")
    return response


def _batches(pieces: Iterable[Any]) -> Generator[list[Any], None, None]:
    """Yield a batch for each piece. Closes the pieces at the end."""
    iterator = iter(pieces)
    try:
        for piece in iterator:
            yield [] if piece is None else [piece]
    finally:
        close = getattr(iterator, "close", None)
        if close is not None:
            close()


def _failure(request_id: str, error: ServiceError) -> dict[str, Any]:
    return {"error": error.message, "request_id": request_id}
