"""Whether a chat thinks, in the words of all who copied OpenAI's chats."""

from __future__ import annotations

from typing import Any

import pytest

from service.dialects.openai.chat_request import parse_chat
from service.dialects.openai.parameters import OpenAICall
from service.errors import BadRequest
from service.protocol.request import Chat


def parsed(**fields: Any) -> OpenAICall:
    return parse_chat({"model": "m", "messages": [{"role": "user", "content": "hi"}], **fields})


@pytest.mark.parametrize(
    ("fields", "think"),
    [
        ({}, None),
        ({"reasoning_effort": "none"}, False),
        ({"reasoning": {"effort": "low"}}, "low"),
        ({"reasoning": {"enabled": False}}, False),
        ({"reasoning": {"enabled": True}}, True),
        ({"think": False}, False),
        ({"think": "high"}, "high"),
        ({"thinking": {"type": "disabled"}}, False),
        ({"thinking": {"type": "enabled", "budget_tokens": 1024}}, True),
        ({"thinking": {"type": "auto"}}, None),
        ({"enable_thinking": False}, False),
        ({"chat_template_kwargs": {"enable_thinking": False}}, False),
        ({"reasoning_effort": "high", "enable_thinking": False}, "high"),
    ],
)
def test_every_switch_is_honoured(fields: dict[str, Any], think: bool | str | None):
    prompt = parsed(**fields).requests[0].prompt
    assert isinstance(prompt, Chat)
    assert prompt.think == think


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"think": 1}, "think"),
        ({"think": "much"}, "think"),
        ({"thinking": {"type": "on"}}, "thinking.type"),
        ({"enable_thinking": "no"}, "enable_thinking"),
        ({"reasoning": {"enabled": 0}}, "reasoning.enabled"),
    ],
)
def test_a_switch_that_nobody_has_is_refused_by_its_place(fields: dict[str, Any], param: str):
    with pytest.raises(BadRequest) as refused:
        parsed(**fields)
    assert refused.value.param == param


def test_thoughts_are_kept_back_where_openrouters_field_says_so():
    assert [parsed(reasoning={"exclude": exclude}).show_thinking for exclude in (True, False, None)] == [
        False,
        True,
        True,
    ]


@pytest.mark.parametrize(
    ("choice", "mode", "forced"),
    [("any", "required", ""), ({"type": "any"}, "required", ""), ({"type": "tool", "name": "f"}, "required", "f")],
)
def test_a_tool_choice_can_have_anthropics_form(choice: Any, mode: str, forced: str):
    tool = {"type": "function", "function": {"name": "f"}}
    prompt = parsed(tools=[tool], tool_choice=choice).requests[0].prompt
    assert isinstance(prompt, Chat)
    assert (prompt.tool_choice, prompt.forced_tool) == (mode, forced)
