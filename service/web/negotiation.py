"""Choose the stream format: the body beats the query, the query beats the Accept header.

    body `"stream": false`, whatever else the request has            one JSON object
    body `"stream": "sse"` | `"jsonl"` | `"ndjson"`                  that format
    body `"stream_type"` | `"StreamType"`: a media type              that format
    query `?alt=sse`                                                 SSE
    `Accept` prefers text/event-stream over NDJSON and JSON by name  SSE
    none of these                                                    NDJSON, as Ollama does

For Ollama's native routes only.
"""

from __future__ import annotations

from typing import Any
from urllib.request import parse_http_list

from werkzeug.http import parse_options_header

from ..errors import BadRequest
from .framing import NDJSON, SSE, Framing

_STREAM_NAMES = {"sse": SSE, "jsonl": NDJSON, "ndjson": NDJSON}
_MEDIA_TYPES = {"text/event-stream": SSE, "application/x-ndjson": NDJSON}
_JSON_TYPES = {
    "application/x-ndjson", "application/ndjson", "application/jsonl", "application/x-jsonlines", "application/json",
}  # fmt: skip


def negotiate(stream: Any, stream_type: Any, query: str | None, accept: str) -> Framing | None:
    """Return the framing of the answer; None stands for one JSON object.

    `stream` and `stream_type` come from the body (None when absent), `query` is the value of `alt`, `accept` the
    header. Raises BadRequest for an unknown value, and when the body contradicts itself.
    """
    if stream is False:
        # A client may send its stream_type with every body.
        return None
    by_stream, by_type = _from_stream(stream), _from_type(stream_type)
    if by_stream and by_type and by_stream is not by_type:
        raise BadRequest(f'stream "{stream}" and stream_type "{stream_type}" contradict each other')
    return by_stream or by_type or _from_query(query) or _from_accept(accept)


def _from_stream(stream: Any) -> Framing | None:
    if stream is None or isinstance(stream, bool):
        return None
    if isinstance(stream, str) and stream in _STREAM_NAMES:
        return _STREAM_NAMES[stream]
    raise BadRequest('stream must be true, false, "sse", "jsonl" or "ndjson"')


def _from_type(stream_type: Any) -> Framing | None:
    if stream_type is None:
        return None
    if isinstance(stream_type, str):
        media_type = parse_options_header(stream_type)[0].lower()
        if media_type in _MEDIA_TYPES:
            return _MEDIA_TYPES[media_type]
    raise BadRequest('stream_type must be "text/event-stream" or "application/x-ndjson"')


def _from_query(alt: str | None) -> Framing | None:
    if alt in (None, "sse"):
        return SSE if alt else None
    raise BadRequest('alt must be "sse"')


def _from_accept(accept: str) -> Framing:
    """Return SSE when the header names it and no JSON type has a higher quality, or the same and stands before it.

    RFC 9110 §12.5.1. Wildcards are ignored: curl, browsers and HTTP libraries send them without meaning SSE.
    """
    sse = best_json = 0.0
    for media_type, quality in _ranges(accept):
        if media_type == "text/event-stream":
            if quality > best_json:
                sse = max(sse, quality)
        elif media_type in _JSON_TYPES:
            best_json = max(best_json, quality)
    return SSE if sse and sse >= best_json else NDJSON


def _ranges(accept: str) -> list[tuple[str, float]]:
    """Return (media type, quality) in the order of the header; an entry with an invalid quality is left out."""
    parsed = [parse_options_header(entry) for entry in parse_http_list(accept)]
    ranges = [(media_type.lower(), _quality(parameters.get("q", "1"))) for media_type, parameters in parsed]
    return [(media_type, quality) for media_type, quality in ranges if quality > 0]


def _quality(text: str) -> float:
    try:
        quality = float(text)
    except ValueError:
        return 0.0
    return quality if 0 <= quality <= 1 else 0.0
