"""Every type of tool, item and block in the clients' own type definitions is accepted, and so are those to come.

No server: what the installed `openai` and `anthropic` declare is parsed by the dialects.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Annotated, Any, Union, get_args, get_origin

import pytest
from anthropic.types.beta import BetaContentBlockParam, BetaToolUnionParam
from openai.types.responses import ResponseInputItemParam, ToolParam

from service.dialects.anthropic.request import parse_messages
from service.dialects.openai.responses_request import parse_responses

ASKED = {"role": "user", "content": "hi"}


def types_of(union: Any) -> list[str]:
    """The values that the `type` of a union's members may have."""
    # Read as texts: some members have annotations that their modules import for type checkers only.
    hints = [str(member.__annotations__.get("type", "")) for member in _members(union)]
    return sorted({value for hint in hints for value in re.findall(r"""["'](\w+)["']""", hint.partition("Literal")[2])})


def _members(union: Any) -> Iterator[Any]:
    for member in get_args(union):
        if get_origin(member) in (Union, Annotated):
            yield from _members(member)
        else:
            yield member


@pytest.mark.parametrize("kind", [each for each in types_of(ResponseInputItemParam) if each != "item_reference"])
def test_every_item_of_a_response_can_be_in_the_history(kind: str):
    item = {"type": kind, "id": "x", "call_id": "c", "role": "assistant"}
    assert parse_responses({"model": "x", "input": [ASKED, item, ASKED]})


@pytest.mark.parametrize("kind", types_of(ToolParam))
def test_every_tool_of_a_response_can_be_offered(kind: str):
    assert parse_responses({"model": "x", "input": "hi", "tools": [{"type": kind, "name": "x"}]})


@pytest.mark.parametrize("kind", types_of(BetaContentBlockParam))
@pytest.mark.parametrize("role", ["user", "assistant", "system"])
def test_every_block_of_a_message_can_be_in_the_history(kind: str, role: str):
    turns = [ASKED, {"role": role, "content": [{"type": kind}]}, {"role": "assistant", "content": "ok"}, ASKED]
    assert parse_messages({"model": "x", "max_tokens": 9, "messages": turns})


@pytest.mark.parametrize("kind", [each for each in types_of(BetaToolUnionParam) if each != "custom"])
def test_every_tool_of_a_message_can_be_offered(kind: str):
    assert parse_messages({"model": "x", "max_tokens": 9, "messages": [ASKED], "tools": [{"type": kind, "name": "x"}]})
