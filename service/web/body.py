"""Reads a request's body within its limit, whole or in pieces."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import IO

from flask import request

from ..errors import BadRequest, ClientTooSlow, PayloadTooLarge

CHUNK_BYTES = 1 << 20


def read_body(limit: int) -> bytes:
    """Return the whole body. Raises PayloadTooLarge over `limit` bytes, and BadRequest when the body ends early.

    Werkzeug's own limit is not used: it cuts off a chunked body without an error, and accepts a body that ends early.
    """
    length = request.content_length
    if length is None and not request.environ.get("wsgi.input_terminated"):
        # Without a length and a server that ends the input, there is no body (RFC 9112 §6.3).
        return b""
    wanted = limit + 1 if length is None else min(length, limit + 1)
    body = b"" if wanted > limit and length is not None else _read(request.environ["wsgi.input"], wanted)
    if len(body) > limit or (length is not None and length > limit):
        raise PayloadTooLarge(f"the request body is longer than {limit} bytes")
    if length is not None and len(body) < length:
        raise BadRequest(f"the request body ended after {len(body)} of {length} bytes")
    return body


def body_chunks() -> Iterator[bytes]:
    """Yield a body of any length in pieces of at most CHUNK_BYTES. Raises BadRequest when the body ends early."""
    length, got = request.content_length, 0
    if length is None and not request.environ.get("wsgi.input_terminated"):
        return
    while chunk := _read(request.environ["wsgi.input"], min(CHUNK_BYTES, (length or sys.maxsize) - got)):
        got += len(chunk)
        yield chunk
    if length is not None and got < length:
        raise BadRequest(f"the request body ended after {got} of {length} bytes")


def _read(source: IO[bytes], wanted: int) -> bytes:
    """Return `wanted` bytes, or fewer at the body's end; a single read may return fewer before that.

    Raises BadRequest for malformed chunks, and ClientTooSlow when the server's time for a body is over.
    """
    parts = []
    try:
        while wanted > 0 and (part := source.read(min(wanted, 1 << 16))):
            parts.append(part)
            wanted -= len(part)
    except TimeoutError:
        raise ClientTooSlow("the request body came too slowly") from None
    except Exception:
        # Each WSGI server raises errors of its own for malformed input; nothing else can fail here.
        raise BadRequest("the request body can't be read: it is cut or its chunks are malformed") from None
    return b"".join(parts)
