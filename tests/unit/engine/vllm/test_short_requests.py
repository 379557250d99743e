from __future__ import annotations

from typing import Any

import pytest

from service.engine.vllm.short_requests import CHARACTERS, MESSAGES, is_short
from service.protocol.request import Chat, Constraint, Image, Infill, Message, Request, Text, Tokens

LONG = "a" * (CHARACTERS + 1)
CALL = {"type": "function", "function": {"name": "f", "arguments": {}}}


def chat(*messages: Message, **fields: Any) -> Chat:
    return Chat(list(messages) or [Message("user", "Hello")], **fields)


@pytest.mark.parametrize(
    "prompt",
    [
        Text(LONG[1:]),
        Infill("a", "b"),
        Tokens([1] * 10_000),
        chat(Message("system", "Be brief."), Message("user", "Hello"), think=True),
        chat(Message("user", LONG[len("user") + 1 :])),
        chat(*[Message("user", "a")] * MESSAGES),
    ],
)
def test_a_few_words_are_short(prompt: Chat | Text | Infill | Tokens):
    assert is_short(Request("m", prompt))


@pytest.mark.parametrize(
    "prompt",
    [
        Text(LONG),
        Infill(LONG, ""),
        Infill("", LONG),
        chat(Message("user", LONG)),
        chat(Message("user", thinking=LONG)),
        chat(Message(LONG, "a")),
        chat(Message("tool", "a", tool_name=LONG)),
        chat(Message("user", [Image(b"")])),
        chat(Message("assistant", tool_calls=[CALL])),
        chat(*[Message("user")] * (MESSAGES + 1)),
        chat(tools=[CALL]),
        chat(template="{{ .Prompt }}"),
        chat(template_arguments={"a": "b"}),
    ],
)
def test_what_may_take_long_is_not_short(prompt: Chat | Text | Infill | Tokens):
    assert not is_short(Request("m", prompt))


@pytest.mark.parametrize(
    "fields", [{"format": "json"}, {"constraint": Constraint(regex="a")}, {"n": 2}, {"render_only": True}]
)
def test_schemas_and_several_answers_are_not_short(fields: dict[str, Any]):
    assert not is_short(Request("m", chat(), **fields))
