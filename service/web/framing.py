"""Records to bytes: NDJSON lines or server-sent events, heartbeats, and what ends a stream, well or not.

What enters are batches of records; an empty batch means that nothing has come for a while. This module knows no
dialect: what an error record looks like is handed in.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import msgspec

from ..errors import ClientGone, InternalError, ServiceError

logger = logging.getLogger(__name__)

_encode = msgspec.json.Encoder().encode

# Go's encoding/json escapes these in strings, and nowhere else can they stand in compact JSON (Ollama's answers
# come from it: reference `encoding/json`, `SetEscapeHTML`).
_ESCAPES = (
    (b"<", b"\\u003c"),
    (b">", b"\\u003e"),
    (b"&", b"\\u0026"),
    ("\u2028".encode(), b"\\u2028"),
    ("\u2029".encode(), b"\\u2029"),
    # Not Go's: ollama-python reads lines as str.splitlines() cuts them, at NEL too.
    ("\u0085".encode(), b"\\u0085"),
)


def encode(record: Any) -> bytes:
    """Compact JSON as Go writes it, UTF-8, without a newline."""
    data = _encode(record)
    for raw, escaped in _ESCAPES:
        if raw in data:
            data = data.replace(raw, escaped)
    return data


@dataclass(frozen=True)
class Framing:
    """One stream format.

    A heartbeat must be invisible to every reader: for SSE a comment (WHATWG HTML §9.2.6), for NDJSON a space
    before the next object, which every JSON parser skips; a blank line breaks ollama-python and Zed.
    `terminator` follows the last record of a success. `named`: each event has its record's `type` for a name.
    """

    media_type: str
    prefix: bytes
    suffix: bytes
    heartbeat: bytes
    terminator: bytes = b""
    named: bool = False

    def frame(self, record: Any) -> bytes:
        return self._name(record) + self.prefix + encode(record) + self.suffix

    def _name(self, record: Any) -> bytes:
        if not self.named:
            return b""
        name: str = record["type"] if isinstance(record, dict) else record.type
        return b"event: " + name.encode() + b"\n"


NDJSON = Framing("application/x-ndjson", b"", b"\n", b" ")
SSE = Framing("text/event-stream", b"data: ", b"\n\n", b": heartbeat\n\n")
SSE_WITH_DONE = replace(SSE, terminator=b"data: [DONE]\n\n")
SSE_NAMED = replace(SSE, named=True)
# Anthropic's heartbeat is an event of its own, which its clients know and pass over.
SSE_PINGED = replace(SSE_NAMED, heartbeat=b'event: ping\ndata: {"type":"ping"}\n\n')


def stream(
    batches: Iterable[list[Any]], framing: Framing, error_record: Callable[[ServiceError], Any]
) -> Iterator[bytes]:
    """One chunk of bytes a batch.

    `batches` either ends after its terminal record or raises; what it raises becomes the terminal record, so every
    stream has exactly one. A client that is gone gets nothing.
    """
    try:
        for batch in batches:
            yield b"".join([framing.frame(record) for record in batch]) if batch else framing.heartbeat
        if framing.terminator:
            yield framing.terminator
    except ClientGone:
        return
    except ServiceError as error:
        yield framing.frame(error_record(error))
    except Exception:
        logger.exception("a stream broke")
        yield framing.frame(error_record(InternalError()))
