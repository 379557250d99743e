from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import httpx
import msgspec
import pytest
from httpx_sse import EventSource
from hypothesis import example, given
from hypothesis import strategies as st

from service.errors import BadRequest, ClientGone, EngineFailure, ServiceError
from service.web.framing import NDJSON, SSE, SSE_NAMED, SSE_WITH_DONE, Framing, encode, stream

FORMATS = [NDJSON, SSE]
# What one or the other reader could take for the end of a line, an event or a field, and what Go escapes.
texts = st.text(max_size=20) | st.text('\r\n\0\v\f\x1c\x1e\x85\u2028\u2029<>&:"\\ {}da\ufeffé😀', max_size=20)
values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | texts,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4),
    max_leaves=4,
)
records = st.dictionaries(texts, values, max_size=3)
batches = st.lists(st.lists(records, max_size=3), max_size=5)


def error_record(error: ServiceError) -> dict[str, str]:
    return {"error": error.message}


def pieces(data: bytes, cuts: list[int]) -> Iterator[bytes]:
    """`data` cut at any bytes, as a network does."""
    places = sorted(place % (len(data) + 1) for place in cuts)
    for start, end in zip([0, *places], [*places, len(data)], strict=True):
        yield data[start:end]


def response(data: bytes, cuts: list[int], framing: Framing) -> httpx.Response:
    headers = {"Content-Type": framing.media_type}
    return httpx.Response(200, headers=headers, content=pieces(data, cuts), default_encoding="utf-8")


def read_sse(data: bytes, cuts: list[int]) -> list[Any]:
    return [event.json() for event in EventSource(response(data, cuts, SSE)).iter_sse()]


def read_ndjson(data: bytes) -> list[Any]:
    return [json.loads(line) for line in data.split(b"\n") if line.strip()]


def sent(batches: list[list[Any]], framing: Framing) -> bytes:
    return b"".join(stream(batches, framing, error_record))


def and_then(error: Exception) -> Iterator[list[Any]]:
    """A batch, and then an error."""
    yield [{"a": 1}, {"b": 2}]
    raise error


@given(batches, st.lists(st.integers(0, 10_000), max_size=10))
def test_both_formats_give_the_records_that_went_in(batches: list[list[Any]], cuts: list[int]):
    records = [record for batch in batches for record in batch]
    assert read_sse(sent(batches, SSE), cuts) == records
    assert read_ndjson(sent(batches, NDJSON)) == records


@given(batches, st.lists(st.integers(0, 10_000), max_size=10))
@example([[{"content": "a\x85b"}]], [])
def test_records_read_with_httpx_as_ollama_python_reads_them_stay_whole(batches: list[list[Any]], cuts: list[int]):
    lines = response(sent(batches, NDJSON), cuts, NDJSON).iter_lines()
    assert [json.loads(line) for line in lines if line.strip()] == [record for batch in batches for record in batch]


@pytest.mark.parametrize("framing", FORMATS)
@given(batches=batches)
def test_heartbeats_do_not_change_what_is_read(framing: Framing, batches: list[list[Any]]):
    read = read_ndjson if framing is NDJSON else lambda data: read_sse(data, [])
    quiet = [batch for batch in batches if batch]
    restless = [batch for each in quiet for batch in ([], each, [], [])]
    assert read(sent(restless, framing)) == read(sent(quiet, framing))


@pytest.mark.parametrize("framing", FORMATS)
def test_a_silence_sends_one_heartbeat(framing: Framing):
    assert list(stream([[], [{"a": 1}]], framing, error_record)) == [framing.heartbeat, framing.frame({"a": 1})]


def test_a_heartbeat_is_no_line_of_ndjson():
    assert NDJSON.heartbeat.strip() == b""
    assert b"\n" not in NDJSON.heartbeat


def test_a_batch_is_one_chunk():
    assert list(stream([[{"a": 1}, {"b": 2}]], NDJSON, error_record)) == [b'{"a":1}\n{"b":2}\n']


def test_an_event_holds_the_very_json_of_the_line():
    record = {"text": "<b> & \u2028 é"}
    assert SSE.frame(record) == b"data: " + NDJSON.frame(record).rstrip(b"\n") + b"\n\n"


@pytest.mark.parametrize(
    ("value", "data"),
    [
        ("<b> & é", r'"\u003cb\u003e \u0026 é"'),
        ("\u2028\u2029", r'"\u2028\u2029"'),
        ("\b\f\n\r\t\0\x1f", r'"\b\f\n\r\t\u0000\u001f"'),
        ("/\x7f😀", '"/\x7f😀"'),
        ('"\\', r'"\"\\"'),
        ({"<": [1, None, True]}, r'{"\u003c":[1,null,true]}'),
    ],
)
def test_text_is_escaped_as_go_escapes_it(value: Any, data: str):
    assert encode(value) == data.encode()


@pytest.mark.parametrize("framing", FORMATS)
def test_a_stream_that_ends_by_itself_ends_with_its_last_record(framing: Framing):
    assert sent([[{"a": 1}], [{"done": True}]], framing).endswith(framing.frame({"done": True}))


@pytest.mark.parametrize("framing", FORMATS)
@pytest.mark.parametrize("error", [BadRequest("no"), EngineFailure("no"), ServiceError("no")])
def test_a_stream_that_fails_ends_with_one_error_record(framing: Framing, error: ServiceError):
    chunks = list(stream(and_then(error), framing, error_record))
    assert chunks[1:] == [framing.frame({"error": "no"})]


@pytest.mark.parametrize("framing", FORMATS)
def test_a_stream_that_breaks_ends_with_one_error_record_that_tells_no_secret(framing: Framing):
    chunks = list(stream(and_then(RuntimeError("the password is x")), framing, error_record))
    assert len(chunks) == 2
    assert chunks[1].count(b'{"error":') == 1
    assert b"password" not in chunks[1]


@pytest.mark.parametrize("framing", FORMATS)
def test_a_record_that_is_no_json_ends_the_stream_with_one_error_record(framing: Framing):
    chunks = list(stream([[{"a": 1}], [{"b": object()}], [{"c": 1}]], framing, error_record))
    assert chunks[0] == framing.frame({"a": 1})
    assert [b'"error"' in chunk for chunk in chunks[1:]] == [True]


@pytest.mark.parametrize("framing", FORMATS)
def test_a_client_that_is_gone_is_sent_nothing_more(framing: Framing):
    assert len(list(stream(and_then(ClientGone("gone")), framing, error_record))) == 1


def test_closing_the_stream_closes_what_it_reads():
    closed = []

    def batches() -> Iterator[list[Any]]:
        try:
            yield [{"a": 1}]
        finally:
            closed.append(True)

    chunks = stream(batches(), NDJSON, error_record)
    next(chunks)
    chunks.close()  # type: ignore[attr-defined]
    assert closed


def test_a_terminator_follows_a_success():
    assert list(stream([[{"a": 1}]], SSE_WITH_DONE, error_record)) == [b'data: {"a":1}\n\n', b"data: [DONE]\n\n"]


def test_no_terminator_follows_a_failure():
    assert list(stream(and_then(BadRequest("oh")), SSE_WITH_DONE, error_record))[1:] == [b'data: {"error":"oh"}\n\n']


def test_a_named_event_is_called_what_its_record_says():
    class Ping(msgspec.Struct):
        type: str = "ping"

    framed = b"".join(stream([[{"type": "a.b"}, Ping()]], SSE_NAMED, error_record))
    assert framed == b'event: a.b\ndata: {"type":"a.b"}\n\nevent: ping\ndata: {"type":"ping"}\n\n'
