"""Read a request's body within its limit."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import IO

from flask import request

from ..errors import BadRequest, ClientTooSlow, PayloadTooLarge

CHUNK_BYTES = 1 << 20


def read_body(limit: int) -> bytes:
    """The whole body; raises PayloadTooLarge over `limit` bytes, and BadRequest where it ended early.

    Read by hand: Werkzeug's own limit cuts a chunked body off silently, and a short one passes for whole.
    """
    length = request.content_length
    if length is None and not request.environ.get("wsgi.input_terminated"):
        # No length and no server that knows where the body ends: there is none (RFC 9112 §6.3).
        return b""
    wanted = limit + 1 if length is None else min(length, limit + 1)
    body = b"" if wanted > limit and length is not None else _read(request.environ["wsgi.input"], wanted)
    if len(body) > limit or (length is not None and length > limit):
        raise PayloadTooLarge(f"the request body is longer than {limit} bytes")
    if length is not None and len(body) < length:
        raise BadRequest(f"the request body ended after {len(body)} of {length} bytes")
    return body


def body_chunks() -> Iterator[bytes]:
    """A body of any length in pieces. Raises BadRequest where it ended early."""
    length, got = request.content_length, 0
    if length is None and not request.environ.get("wsgi.input_terminated"):
        return
    while chunk := _read(request.environ["wsgi.input"], min(CHUNK_BYTES, (length or sys.maxsize) - got)):
        got += len(chunk)
        yield chunk
    if length is not None and got < length:
        raise BadRequest(f"the request body ended after {got} of {length} bytes")


def _read(source: IO[bytes], wanted: int) -> bytes:
    """Up to `wanted` bytes; a single read may bring fewer before the end.

    Raises BadRequest for broken chunks, and ClientTooSlow where the server has waited long enough.
    """
    parts = []
    try:
        while wanted > 0 and (part := source.read(min(wanted, 1 << 16))):
            parts.append(part)
            wanted -= len(part)
    except TimeoutError:
        raise ClientTooSlow("the request body came too slowly") from None
    except Exception:
        # Each server has errors of its own for what a client sent wrong, and nothing else happens here.
        raise BadRequest("the request body can't be read: it is cut or its chunks are malformed") from None
    return b"".join(parts)
