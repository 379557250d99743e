"""Turns records into bytes: NDJSON lines or server-sent events, heartbeats, and the end of a stream.

In: batches of records; an empty batch asks for a heartbeat. Out: chunks of bytes.
It never knows a dialect: the caller passes the function that makes an error record.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import msgspec

from ..dialects.plain_text import HOLE, PlainText, Shape
from ..errors import ClientGone, InternalError, ServiceError

logger = logging.getLogger("vllm_wsgi.web")

_encode = msgspec.json.Encoder().encode

# Go's encoding/json, which writes Ollama's answers, escapes these in strings (`SetEscapeHTML`). In compact JSON they
# can be nowhere else.
_ESCAPES = (
    (b"<", b"\\u003c"),
    (b">", b"\\u003e"),
    (b"&", b"\\u0026"),
    ("\u2028".encode(), b"\\u2028"),
    ("\u2029".encode(), b"\\u2029"),
    # Go does not escape this one. ollama-python splits lines with str.splitlines(), which also splits at NEL.
    ("\u0085".encode(), b"\\u0085"),
)
_ESCAPED = re.compile(b"|".join(re.escape(raw) for raw, _ in _ESCAPES)).search
_HOLE = b'"%b"' % HOLE.encode()


def encode(record: Any) -> bytes:
    """Return compact JSON as Go writes it, in UTF-8, without a newline."""
    if type(record) is PlainText:
        return _filled(record.shape, record.texts)
    data = _encode(record)
    if _ESCAPED(data):
        for raw, escaped in _ESCAPES:
            data = data.replace(raw, escaped)
    return data


def _filled(shape: Shape, texts: tuple[str, ...]) -> bytes:
    """Return the JSON of a shape with these texts. The shape is encoded once, as a format of Python's for bytes."""
    if shape.encoded is None:
        shape.encoded = encode(shape.record).replace(b"%", b"%%").replace(_HOLE, b"%b")
    filled: bytes = shape.encoded % tuple([encode(text) for text in texts])
    return filled


@dataclass(frozen=True)
class Framing:
    """One stream format.

    A heartbeat must be invisible to every client. For SSE it is a comment (WHATWG HTML §9.2.6). For NDJSON it is a
    space before the next object, which every JSON parser skips; a blank line would break ollama-python and Zed.
    `terminator` follows the last record of a success. With `named`, the `type` of a record is the name of its event.
    """

    media_type: str
    prefix: bytes
    suffix: bytes
    heartbeat: bytes
    terminator: bytes = b""
    named: bool = False

    def frame(self, record: Any) -> bytes:
        """Return the bytes of one record."""
        return self._name(record) + self.prefix + encode(record) + self.suffix

    def frames(self, records: Iterable[Any]) -> bytes:
        """Return the bytes of several records."""
        return b"".join([self.frame(record) for record in records])

    def frame_at(self, record: Any, cursor: str) -> bytes:
        """Return the bytes of one record of a stream that can be resumed, and the cursor after it."""
        if self.prefix:
            return b"id: %b\n%b" % (cursor.encode(), self.frame(record))
        return b'%b,"cursor":"%b"}%b' % (encode(record)[:-1], cursor.encode(), self.suffix)

    def _name(self, record: Any) -> bytes:
        if not self.named:
            return b""
        name: str = record["type"] if isinstance(record, dict) else record.type
        return b"event: " + name.encode() + b"\n"


NDJSON = Framing("application/x-ndjson", b"", b"\n", b" ")
SSE = Framing("text/event-stream", b"data: ", b"\n\n", b": heartbeat\n\n")
SSE_WITH_DONE = replace(SSE, terminator=b"data: [DONE]\n\n")
SSE_NAMED = replace(SSE, named=True)
# Anthropic's API has an event for heartbeats, which its clients ignore.
SSE_PINGED = replace(SSE_NAMED, heartbeat=b'event: ping\ndata: {"type":"ping"}\n\n')


# Browsers come back after this many milliseconds (WHATWG HTML §9.2.6).
RETRY = b"retry: 2000\n\n"


class CursorFraming:
    """A stream format whose records carry cursors. The first one also holds the time after which to come back."""

    def __init__(self, framing: Framing) -> None:
        self.framing = framing
        # In the block of the first event: httpx-sse takes a block without data for an event.
        self._begin = RETRY[:-1] if framing.prefix else b""

    def begun(self) -> bytes:
        """Return what stands before the first record, once."""
        begin, self._begin = self._begin, b""
        return begin

    def frames(self, records: Iterable[tuple[Any, str]]) -> bytes:
        """Return the bytes of records with their cursors."""
        framed = b"".join([self.framing.frame_at(record, cursor) for record, cursor in records])
        return self.begun() + framed if self._begin and framed else framed


def resumable_stream(
    batches: Iterable[list[tuple[Any, str]]],
    framing: CursorFraming,
    error_record: Callable[[ServiceError], Any],
    end: str,
) -> Iterator[bytes]:
    """Yield one chunk of bytes for each batch of records with their cursors; `end` is the cursor at the stream's end.

    The same as `stream` otherwise: an error ends the stream for good, and after ClientGone nothing is written.
    """
    plain = framing.framing
    try:
        for batch in batches:
            yield framing.frames(batch) if batch else plain.heartbeat
        if plain.terminator:
            yield framing.begun() + b"id: " + end.encode() + b"\n" + plain.terminator
    except ClientGone:
        return
    except ServiceError as error:
        yield framing.frames([(error_record(error), end)])
    except Exception:
        logger.exception("a stream broke")
        yield framing.frames([(error_record(InternalError()), end)])


def stream(
    batches: Iterable[list[Any]], framing: Framing, error_record: Callable[[ServiceError], Any]
) -> Iterator[bytes]:
    """Yield one chunk of bytes for each batch.

    `batches` either ends after its terminal record or raises. Its error becomes the terminal record, so that every
    stream has exactly one. After ClientGone nothing is written.
    """
    try:
        for batch in batches:
            yield framing.frames(batch) if batch else framing.heartbeat
        if framing.terminator:
            yield framing.terminator
    except ClientGone:
        return
    except ServiceError as error:
        yield framing.frame(error_record(error))
    except Exception:
        logger.exception("a stream broke")
        yield framing.frame(error_record(InternalError()))
