"""Requests and answers of OpenAI's Responses API for the tests of its modules."""

from __future__ import annotations

from typing import Any

import pytest

from service.dialects.openai.responses_answer import ResponsesAnswer
from service.dialects.openai.responses_request import ResponsesCall, parse_responses
from service.errors import BadRequest
from service.protocol.events import Delta, Event, Finished
from service.protocol.request import Chat

FUNCTION = {"type": "function", "name": "add", "description": "Add", "parameters": {"type": "object"}}
CALL = {"id": "call_1", "function": {"index": 0, "name": "add", "arguments": {"a": 1}}}
THOUGHT = {"type": "summary_text", "text": "hm"}
FINISHED = Finished(1, "stop", 7, 3, 5, 0, 0, 0, thinking_tokens=2)
CUT = Finished(1, "length", 7, 3, 5, 0, 0, 0)


def body(said: Any = "hi", **fields: Any) -> dict[str, Any]:
    return {"model": "x", "input": said, **fields}


def chat(said: Any = "hi", **fields: Any) -> Chat:
    prompt = parse_responses(body(said, **fields)).request.prompt
    assert isinstance(prompt, Chat)
    return prompt


def refusal(**fields: Any) -> str:
    with pytest.raises(BadRequest) as caught:
        parse_responses(body() | fields)
    return caught.value.message


def answering(split_names: bool = False, **fields: Any) -> ResponsesAnswer:
    return ResponsesAnswer(parse_responses(body(**fields), split_names=split_names), "k", lambda: 1000.5)


def answer(*events: Event, **fields: Any) -> list[dict[str, Any]]:
    return [record for batch in answering(**fields).records([list(events)]) for record in batch]


def delta(text: str = "", thinking: str = "", tool_calls: Any = (), logprobs: Any = ()) -> Delta:
    return Delta(1, 0, text, [1], thinking, list(tool_calls), list(logprobs))


def stored(call: ResponsesCall) -> dict[str, Any]:
    """What is stored of an answer to the call that says "Hi"."""
    kept: list[tuple[str, dict[str, Any]]] = []
    call.echo["store"] = True
    storing = ResponsesAnswer(call, "k", lambda: 1000.5, lambda *record: kept.append(record))
    *_, last = [record for batch in storing.records([[delta("Hi"), FINISHED]]) for record in batch]
    ((name, record),) = kept
    assert (name, record["response"]) == ("resp_k", last["response"])
    return record
