"""A record of nothing but text is encoded by filling in a shape: the same bytes, without the objects."""

from __future__ import annotations

import itertools
from typing import Any

import pytest

from service.dialects.ollama.answer import OllamaChatAnswer, OllamaGenerateAnswer
from service.dialects.ollama.request import parse_chat as parse_ollama_chat
from service.dialects.ollama.request import parse_generate
from service.dialects.openai.chat_answer import ChatAnswer
from service.dialects.openai.chat_request import parse_chat
from service.dialects.openai.completions import CompletionAnswer, parse_completion
from service.dialects.plain_text import PlainText
from service.protocol.events import Delta, TokenLogprob
from service.web.framing import encode

# A name and texts with what a format, JSON and Go take for something else.
MODEL = "a%b<c>"
USER = {"model": "m", "messages": [{"role": "user", "content": "a"}]}
TEXTS = ["plain", '%b "quoted" \\ %', "<b>&amp;</b>", "line\u2028\u2029\x85\n\t\0", "世界 🎉", " ", "}"]
ANSWERS: dict[str, Any] = {
    "/api/chat": lambda: OllamaChatAnswer(parse_ollama_chat(USER), itertools.count(10**18, 10**9).__next__),
    "/api/generate": lambda: OllamaGenerateAnswer(
        parse_generate({"model": "m", "prompt": "a"}), itertools.count(10**18, 10**9).__next__
    ),
    "/v1/chat/completions": lambda: ChatAnswer(parse_chat(USER), lambda: 1),
    "/v1/completions": lambda: CompletionAnswer(parse_completion({"model": "m", "prompt": "a"}), lambda: 1),
}


def answer(route: str, streams: bool) -> Any:
    made = ANSWERS[route]()
    made.streams, made._model = streams, MODEL
    if hasattr(made, "_id"):
        made._id = "cmpl-1"
    return made


def lines(made: Any, deltas: list[Delta]) -> list[Any]:
    return [record for batch in made.records([[delta] for delta in deltas]) for record in batch]


@pytest.mark.parametrize("route", ANSWERS)
def test_what_is_filled_in_has_the_bytes_of_the_record(route: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("service.dialects.ollama.answer.timestamp", lambda nanoseconds: "2026-11-26T00:00:00Z")
    deltas = [Delta(1, place, text, [place]) for place, text in enumerate(TEXTS)]
    plain, whole = (lines(answer(route, streams), deltas) for streams in (True, False))
    assert [encode(record) for record in plain] == [encode(record) for record in whole]
    # Where the first record differs from those that follow, it is a record of its own.
    assert {type(record) for record in plain[1:]} == {PlainText}
    assert not any(isinstance(record, PlainText) for record in whole)
    assert len({record.shape for record in plain[1:]}) == 1


@pytest.mark.parametrize("route", ANSWERS)
def test_a_delta_of_more_than_text_is_a_record(route: str):
    call = {"id": "1", "type": "function", "function": {"name": "f", "arguments": {}}}
    for fields in ({"thinking": "a"}, {"tool_calls": [call]}):
        if route != "/v1/completions":
            records = lines(answer(route, True), [Delta(1, 0, "a", [0], **fields)])
            assert not any(isinstance(record, PlainText) for record in records)


def test_a_delta_with_log_probabilities_is_a_record():
    made = OllamaGenerateAnswer(parse_generate({"model": "m", "prompt": "a", "logprobs": True}))
    made.streams = True
    (record,) = lines(made, [Delta(1, 0, "a", [0], logprobs=[TokenLogprob("a", -1.0)])])
    assert not isinstance(record, PlainText)
    call = parse_completion({"model": "m", "prompt": "a", "logprobs": 1})
    completion = CompletionAnswer(call)
    completion.streams = True
    assert not any(isinstance(record, PlainText) for record in lines(completion, [Delta(1, 0, "a", [0])] * 2))
