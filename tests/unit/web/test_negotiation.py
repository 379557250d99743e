from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.errors import BadRequest
from service.web.framing import NDJSON, SSE, Framing
from service.web.negotiation import negotiate

SSE_TYPE, NDJSON_TYPE = "text/event-stream", "application/x-ndjson"

entries = st.builds(
    "{}{}{}".format,
    st.sampled_from([SSE_TYPE, NDJSON_TYPE, "application/json", "TEXT/Event-Stream", "*/*", "text/*", "", '"', "a/b"]),
    st.sampled_from(["", ";", " ; "]),
    st.sampled_from(["", "q=1", "q=0", "Q=.5", "q=", "q=x", "q=nan", "q=-1", 'q="0.5"', "a*=utf-8''%ff", "=;="]),
)
headers = st.text() | st.text(st.characters(max_codepoint=255)) | st.lists(entries).map(",".join)


@pytest.mark.parametrize(
    ("stream", "stream_type", "query", "accept", "framing"),
    [
        (False, None, None, "", None),
        (False, SSE_TYPE, None, "", None),
        (False, NDJSON_TYPE, "sse", SSE_TYPE, None),
        (False, "text/plain", "xml", "", None),
        ("sse", None, None, "", SSE),
        ("jsonl", None, None, "", NDJSON),
        ("ndjson", None, None, "", NDJSON),
        (None, SSE_TYPE, None, "", SSE),
        (None, NDJSON_TYPE, None, "", NDJSON),
        (None, None, "sse", "", SSE),
        (None, None, None, SSE_TYPE, SSE),
        (None, None, None, "", NDJSON),
        (None, None, None, "*/*", NDJSON),
        (True, None, None, "", NDJSON),
    ],
)
def test_each_row_of_the_table(stream: Any, stream_type: Any, query: str | None, accept: str, framing: Framing | None):
    assert negotiate(stream, stream_type, query, accept) is framing


@pytest.mark.parametrize(("stream", "framing"), [(False, None), ("jsonl", NDJSON), ("ndjson", NDJSON)])
def test_the_body_beats_the_query_and_the_header(stream: Any, framing: Framing | None):
    assert negotiate(stream, None, "sse", SSE_TYPE) is framing


def test_the_type_in_the_body_beats_the_query_and_the_header():
    assert negotiate(None, NDJSON_TYPE, "sse", SSE_TYPE) is NDJSON
    assert negotiate(None, SSE_TYPE, None, NDJSON_TYPE) is SSE


def test_the_query_beats_the_header():
    assert negotiate(None, None, "sse", "application/x-ndjson") is SSE


@pytest.mark.parametrize(("query", "accept"), [("sse", ""), (None, SSE_TYPE)])
def test_a_stream_that_is_merely_true_leaves_the_format_to_the_others(query: str | None, accept: str):
    assert negotiate(True, None, query, accept) is SSE


@pytest.mark.parametrize(
    ("accept", "framing"),
    [
        ("text/event-stream, application/json", SSE),
        ("application/json, text/event-stream", NDJSON),
        ("text/event-stream, application/x-ndjson", SSE),
        ("application/x-ndjson, text/event-stream", NDJSON),
        ("application/json;q=0.5, text/event-stream", SSE),
        ("application/json;q=0.5, text/event-stream;q=0.5", NDJSON),
        ("text/event-stream;q=0.5, application/json;q=0.5", SSE),
        ("text/event-stream;q=0.5, application/json", NDJSON),
        ("text/event-stream;q=0.9, application/json;q=0.1, application/x-ndjson", NDJSON),
        ("application/json, text/event-stream;q=0.999", NDJSON),
        ("text/html, text/event-stream;q=0.1, */*", SSE),
    ],
)
def test_the_header_decides_by_quality_and_then_by_order(accept: str, framing: Framing):
    assert negotiate(None, None, None, accept) is framing


@pytest.mark.parametrize(
    ("accept", "framing"),
    [
        ("text/event-stream;q=0", NDJSON),
        ("text/event-stream;q=0.0, */*", NDJSON),
        ("text/event-stream;q=nonsense", NDJSON),
        ("text/event-stream, application/json;q=0", SSE),
        ("application/json;q=0, text/event-stream;q=0.1", SSE),
        ("text/*", NDJSON),
        ("text/*, */*;q=0.1", NDJSON),
        ("text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8", NDJSON),
        ("text/event-streams", NDJSON),
    ],
)
def test_only_a_type_that_is_named_and_wanted_counts(accept: str, framing: Framing):
    assert negotiate(None, None, None, accept) is framing


@pytest.mark.parametrize(
    "accept",
    [
        "text/event-stream; charset=utf-8",
        'text/event-stream;x="a,application/json";q=0.2',
        "TEXT/Event-Stream",
        "text/event-stream;Q=0.5, application/json;Q=0.4",
        "  text/event-stream  ",
    ],
)
def test_parameters_case_and_blanks_do_not_matter_in_the_header(accept: str):
    assert negotiate(None, None, None, accept) is SSE


@pytest.mark.parametrize("stream_type", ["TEXT/EVENT-STREAM", "text/event-stream; charset=utf-8"])
def test_parameters_and_case_do_not_matter_in_the_body(stream_type: str):
    assert negotiate(None, stream_type, None, "") is SSE


@pytest.mark.parametrize(
    ("stream", "stream_type"),
    [
        ("sse", NDJSON_TYPE),
        ("jsonl", SSE_TYPE),
        ("ndjson", SSE_TYPE),
    ],
)
def test_a_body_that_contradicts_itself_is_refused(stream: Any, stream_type: str):
    with pytest.raises(BadRequest):
        negotiate(stream, stream_type, None, "")


@pytest.mark.parametrize(
    ("stream", "stream_type", "framing"),
    [("sse", SSE_TYPE, SSE), ("ndjson", NDJSON_TYPE, NDJSON), (True, SSE_TYPE, SSE), (True, NDJSON_TYPE, NDJSON)],
)
def test_a_body_that_says_it_twice_is_believed(stream: Any, stream_type: str, framing: Framing):
    assert negotiate(stream, stream_type, None, "") is framing


@pytest.mark.parametrize("stream", ["", "json", "xml", "true", "false", "text/event-stream", 0, 1, 1.5, [], {}])
def test_an_unknown_stream_is_refused(stream: Any):
    with pytest.raises(BadRequest, match=r"^stream must be"):
        negotiate(stream, None, None, "")


@pytest.mark.parametrize("stream_type", ["", "sse", "application/json", "text/html", "*/*", True, False, 1, [], {}])
def test_an_unknown_stream_type_is_refused(stream_type: Any):
    with pytest.raises(BadRequest, match=r"^stream_type must be"):
        negotiate(None, stream_type, None, "")


@given(headers)
def test_no_header_breaks_the_negotiation(accept: str):
    assert negotiate(None, None, None, accept) in (NDJSON, SSE)
    assert negotiate(False, None, None, accept) is None
