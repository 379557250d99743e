"""Rules for requests that gunicorn's parser does not have, and the end of a body that the application did not read.

In: gunicorn's requests. Out: gunicorn's own parse errors, which the worker answers in JSON.
It never knows the application.
"""

from __future__ import annotations

import time
from contextlib import suppress
from typing import Any

from gunicorn.http.body import Body
from gunicorn.http.errors import InvalidHeader, UnsupportedTransferCoding
from gunicorn.http.message import Message, Request

# How much of a body that the application did not read is taken after the answer, and for how long. A client that sends
# its whole body before it reads then gets the answer, and no client can make the server take more.
DRAIN_BYTES = 4 * 1024 * 1024
DRAIN_SECONDS = 10.0
# In bytes. A chunked body may have a chunk for each byte, which are slow to parse.
DRAINED_AT_ONCE, DRAINED_CHUNKS = 65536, 512

_set_body_reader = Request.set_body_reader
_wants_to_close = Message.should_close


class MissingHost(InvalidHeader):  # type: ignore[misc]
    """RFC 9112 §3.2: a request in HTTP/1.1 without a Host header is a 400."""

    def __str__(self) -> str:
        return "HTTP/1.1 requires a Host header"


def set_body_reader(request: Any) -> None:
    """Find out where the body ends; replaces `Request.set_body_reader`.

    Raises MissingHost, and UnsupportedTransferCoding (501, RFC 9112 §6.1) for codings beside `chunked`: gunicorn
    accepts them and leaves them in the body.
    """
    _set_body_reader(request)
    if request.version >= (1, 1) and not _values(request, "HOST"):
        raise MissingHost("HOST", req=request)
    for value in _values(request, "TRANSFER-ENCODING"):
        codings = {coding.strip(" \t").lower() for coding in value.split(",")}
        if codings - {"chunked", "identity"}:
            raise UnsupportedTransferCoding(value)


def should_close(request: Any) -> bool:
    """Return whether the answer announces that the connection closes; replaces `Message.should_close`.

    It does after a body that can't be read, where gunicorn closes the connection without announcing it, and before a
    body that is too long to be drained.
    """
    body = request.body
    return bool(_wants_to_close(request) or (body and (getattr(body, "failed", False) or _left(body) > DRAIN_BYTES)))


def drain_body(body: Body) -> bool:
    """Read the part of a body that the application left. Return whether the body has ended."""
    taken, piece = 0, DRAINED_AT_ONCE if _left(body) else DRAINED_CHUNKS
    # A client that breaks off, is too slow or sends malformed chunks has its answer already.
    with suppress(Exception):
        while not getattr(body, "failed", False) and taken < DRAIN_BYTES:
            data = body.read(min(piece, DRAIN_BYTES - taken))
            if not data:
                return True
            taken += len(data)
            # Other requests get their turn here.
            time.sleep(0)
    return False


def _left(body: Body) -> int:
    """Return how many bytes are still to come; 0 for a chunked body, whose length is not known."""
    length: int = getattr(body.reader, "length", 0)
    return length


def _values(request: Any, wanted: str) -> list[str]:
    return [value for name, value in request.headers if name == wanted]
