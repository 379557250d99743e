from __future__ import annotations

import itertools
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.answer import Arrival, Broken, Chunks, arrivals, read

HEAD = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


def said(text: str, **fields: Any) -> bytes:
    return json.dumps({"message": {"content": text}, "done": False, **fields}).encode() + b"\n"


def chunk(data: bytes) -> bytes:
    return b"%X\r\n%s\r\n" % (len(data), data)


DONE = chunk(said("", done=True, eval_count=2, prompt_eval_count=7)) + b"0\r\n\r\n"


@given(st.lists(st.binary(min_size=1, max_size=40)), st.lists(st.integers(0, 400)))
def test_a_chunked_body_is_the_same_wherever_it_is_cut(parts: list[bytes], cuts: list[int]):
    wire = HEAD + b"".join(map(chunk, parts)) + b"0\r\n\r\n"
    edges = sorted({0, *(cut for cut in cuts if cut < len(wire)), len(wire)})
    chunks = Chunks()
    pieces = [chunks.feed(wire[start:end]) for start, end in itertools.pairwise(edges)]
    assert b"".join(pieces) == b"".join(parts)


def test_a_record_arrives_when_its_last_byte_does():
    line = chunk(said("one"))
    pieces = [(1.0, HEAD + line[:10]), (2.0, line[10:] + chunk(said("two") + said(" three"))), (3.0, DONE)]
    answer = read(pieces, "ollama")
    assert answer.arrivals == [Arrival(2.0, "onetwo three")]
    assert (answer.tokens, answer.prompt_tokens) == (2, 7)


def test_heartbeats_and_records_without_text_are_no_arrivals():
    assert arrivals([(1.0, HEAD + chunk(b": heartbeat\n\n") + chunk(b" ") + chunk(said("")))], "ollama") == []


def test_openais_events_are_read_and_their_last_word_is_not():
    first = {"choices": [{"delta": {"content": "hi"}}]}
    usage = {"choices": [], "usage": {"completion_tokens": 1, "prompt_tokens": 3}}
    body = b"".join(b"data: %s\n\n" % json.dumps(each).encode() for each in (first, usage)) + b"data: [DONE]\n\n"
    answer = read([(1.0, HEAD + chunk(body))], "openai")
    assert (answer.arrivals, answer.tokens, answer.prompt_tokens) == ([Arrival(1.0, "hi")], 1, 3)


@pytest.mark.parametrize(
    "wire",
    [
        HEAD + chunk(said("cut")),
        HEAD + DONE[:-5] + DONE,
        HEAD + chunk(b'{"error": "no"}\n'),
        b"HTTP/1.1 503 No\r\n\r\n",
    ],
)
def test_an_answer_that_is_cut_or_failed_does_not_count(wire: bytes):
    with pytest.raises(Broken):
        read([(1.0, wire)], "ollama")
