from __future__ import annotations

import json
from typing import Any

import pytest

from service.dialects.openai.chat_answer import ChatAnswer
from service.dialects.openai.chat_request import parse_chat
from service.errors import BadRequest
from service.protocol.events import Delta
from service.protocol.request import Chat
from service.web.framing import encode

ADD = {"type": "function", "function": {"name": "add", "parameters": {"type": "object"}}}
GRAMMAR = {"type": "grammar", "grammar": {"syntax": "regex", "definition": "a+"}}
CODE = {"type": "custom", "custom": {"name": "code", "description": "Runs code.", "format": GRAMMAR}}


def body(**fields: Any) -> dict[str, Any]:
    return {"model": "x", "messages": [{"role": "user", "content": "hi"}], **fields}


def chat(**fields: Any) -> Chat:
    prompt = parse_chat(body(**fields)).requests[0].prompt
    assert isinstance(prompt, Chat)
    return prompt


def refusal(**fields: Any) -> str:
    with pytest.raises(BadRequest) as caught:
        parse_chat(body(**fields))
    return caught.value.message


def names(**fields: Any) -> list[str]:
    return [tool["function"]["name"] for tool in chat(**fields).tools]


@pytest.mark.parametrize("kind", ["web_search", "web_search_preview", "mcp", "code_interpreter", "tool_of_next_year"])
def test_a_tool_that_another_server_runs_is_left_out_unless_it_is_forced(kind: str):
    assert names(tools=[{"type": kind}, ADD]) == ["add"]
    assert kind in refusal(tools=[{"type": kind}], tool_choice="required")
    assert kind in refusal(tools=[{"type": kind}, ADD], tool_choice={"type": kind})


def test_a_custom_tool_is_a_function_with_a_text_and_its_call_is_handed_back_as_one():
    (tool,) = chat(tools=[CODE]).tools
    assert tool["function"]["description"] == "Runs code.\n\nThe input has to fit this grammar (regex):\na+"
    call = {"id": "call_1", "function": {"index": 0, "name": "code", "arguments": {"input": "1+1"}}}
    answer = ChatAnswer(parse_chat(body(tools=[CODE])))
    whole = json.loads(encode(answer.collect(answer.records([[Delta(1, 0, "", [1], tool_calls=[call])]]))))
    assert whole["choices"][0]["message"]["tool_calls"] == [
        {"id": "call_1", "index": 0, "type": "custom", "custom": {"name": "code", "input": "1+1"}}
    ]


@pytest.mark.parametrize(
    ("choice", "expected"),
    [
        ({"type": "custom", "custom": {"name": "code"}}, ("required", "code", ["add", "code"])),
        ({"type": "function", "name": "add"}, ("required", "add", ["add", "code"])),
        (
            {"type": "allowed_tools", "allowed_tools": {"mode": "auto", "tools": [ADD, {"type": "mcp"}]}},
            ("auto", "", ["add"]),
        ),
        ({"type": "allowed_tools", "allowed_tools": {"mode": "required", "tools": [CODE]}}, ("required", "", ["code"])),
    ],
)
def test_every_type_of_choice_is_read(choice: Any, expected: tuple[str, str, list[str]]):
    prompt = chat(tools=[ADD, CODE], tool_choice=choice)
    assert (prompt.tool_choice, prompt.forced_tool) == expected[:2]
    assert names(tools=[ADD, CODE], tool_choice=choice) == expected[2]


def test_a_choice_of_no_tool_that_must_be_called_is_refused():
    allowed = {"mode": "required", "tools": [{"type": "mcp"}]}
    text = refusal(tools=[ADD], tool_choice={"type": "allowed_tools", "allowed_tools": allowed})
    assert text == "tool_choice allows no tool that the client runs, and requires a call"
