"""Reads a request's body within its limit, whole or in pieces, and undoes its Content-Encoding.

In: the WSGI input of the current request. Out: bytes.
It never knows what the bytes mean.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from typing import IO

from flask import request

from ..errors import BadRequest, ClientTooSlow, PayloadTooLarge, Unsupported
from .content_coding import decoded
from .neighbours import body_read_before

CHUNK_BYTES = 1 << 20
# The most bytes that a body's reader takes at once from the server.
READ_BYTES = 1 << 16
# A chunked body may have a chunk for each byte, which are slow to parse. It is read in smaller pieces while one takes
# more CPU time than this: other requests get their turn in between.
LEAST_READ_BYTES = 1 << 9
LONG_SECONDS = 0.005


def read_body(limit: int, check: Callable[[bytes], None]) -> bytes:
    """Return the whole body, decoded. `check` gets each chunk as it comes in, and may raise.

    Raises the errors of `body_chunks`, and PayloadTooLarge over `limit` bytes. The limit holds for the bytes as they
    are sent and for the decoded ones. Werkzeug's own limit is not used: it cuts off a chunked body without an error,
    and accepts a body that ends early.
    """
    if (request.content_length or 0) > limit:
        raise PayloadTooLarge(f"the request body is longer than {limit} bytes")
    parts, length = [], 0
    for chunk in decoded(_sent(limit), _coding()):
        length += len(chunk)
        if length > limit:
            raise PayloadTooLarge(f"the request body holds more than {limit} bytes")
        check(chunk)
        parts.append(chunk)
    return b"".join(parts)


def body_chunks() -> Iterator[bytes]:
    """Yield a body of any length, decoded, in pieces of at most CHUNK_BYTES.

    Raises BadRequest when the body ends early or is malformed, ClientTooSlow when the server's time for a body is over,
    UnsupportedCoding for a Content-Encoding and Unsupported for a Transfer-Encoding that can't be undone.
    """
    kept = bytearray()
    for chunk in decoded(_sent(sys.maxsize), _coding()):
        kept += chunk
        while len(kept) >= CHUNK_BYTES:
            yield bytes(kept[:CHUNK_BYTES])
            del kept[:CHUNK_BYTES]
    if kept:
        yield bytes(kept)


def _coding() -> str:
    coding: str = request.environ.get("HTTP_CONTENT_ENCODING", "")
    return coding


def _sent(limit: int) -> Iterator[bytes]:
    """Yield the body as it was sent. Raises PayloadTooLarge after `limit` bytes."""
    transfer = request.environ.get("HTTP_TRANSFER_ENCODING", "chunked")
    if transfer.strip().lower() not in ("chunked", "identity"):
        raise Unsupported(f"Transfer-Encoding: {transfer} is not supported, only chunked is")
    before = body_read_before()
    if before is not None:
        if len(before) > limit:
            raise PayloadTooLarge(f"the request body is longer than {limit} bytes")
        yield before
        return
    length, sent = request.content_length, 0
    if length is None and not request.environ.get("wsgi.input_terminated"):
        # Without a length and a server that ends the input, there is no body (RFC 9112 §6.3).
        return
    piece, began = READ_BYTES if length is not None else LEAST_READ_BYTES, time.thread_time()
    while chunk := _read(request.environ["wsgi.input"], piece if length is None else length - sent):
        is_slow = time.thread_time() - began > LONG_SECONDS
        piece = max(LEAST_READ_BYTES, piece // 2) if is_slow else min(READ_BYTES, piece * 2)
        sent += len(chunk)
        if sent > limit:
            raise PayloadTooLarge(f"the request body is longer than {limit} bytes")
        yield chunk
        if sent != length:
            # The body of a fast client is there without a wait, so other requests get their turn here.
            time.sleep(0)
        began = time.thread_time()
    if length is not None and sent < length:
        raise BadRequest(f"the request body ended after {sent} of {length} bytes")


def _read(source: IO[bytes], wanted: int) -> bytes:
    """Return up to `wanted` bytes, or nothing at the body's end.

    Raises BadRequest for malformed chunks, and ClientTooSlow when the server's time for a body is over.
    """
    if wanted <= 0:
        return b""
    try:
        return source.read(min(wanted, READ_BYTES))
    except TimeoutError:
        raise ClientTooSlow("the request body came too slowly") from None
    except Exception:
        # Each WSGI server raises errors of its own for malformed input; nothing else can fail here.
        raise BadRequest("the request body can't be read: it is cut or its chunks are malformed") from None
