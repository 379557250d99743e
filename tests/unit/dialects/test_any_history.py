"""A client sends its history with every request, so nothing in an earlier turn ends the conversation."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.dialects.anthropic.request import parse_messages
from service.dialects.openai.chat_request import parse_chat
from service.dialects.openai.responses_request import parse_responses
from tests.support.any_json import scalars

# Types of parts, blocks and items, and of things that are none of these.
KINDS = [
    "text", "input_text", "output_text", "refusal", "image", "image_url", "input_image", "input_file", "input_audio",
    "document", "thinking", "tool_use", "tool_result", "server_tool_use", "compaction", "message", "reasoning",
    "function_call", "function_call_output", "custom_tool_call", "computer_call_output", "web_search_call", "mcp_call",
    "shell_call", "shell_call_output", "apply_patch_call", "tool_search_output", "additional_tools", "of_next_year",
]  # fmt: skip
NAMES = [
    "content", "text", "source", "image_url", "input", "output", "arguments", "action", "id", "call_id", "name",
    "tool_use_id", "thinking", "summary", "tools", "tool_calls", "function_call", "refusal", "encrypted_content",
]  # fmt: skip
ROLES = ["user", "assistant", "system", "developer", "tool", "function", "critic"]

kinds = st.sampled_from([*KINDS, None])


def objects(values: st.SearchStrategy[Any], **more: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    named = st.dictionaries(st.sampled_from(NAMES), values, max_size=4)
    return st.builds(lambda fields, given: fields | given, named, st.fixed_dictionaries(more))


parts = objects(scalars | st.lists(scalars, max_size=2), type=kinds)
contents = scalars | parts | st.lists(scalars | parts, max_size=3)
turns = objects(contents, role=st.sampled_from(ROLES))
# An item with an id and without a type refers to one that is stored, which is none of these.
items = turns | objects(contents, type=kinds.filter(lambda kind: kind != "message")).filter(
    lambda item: item["type"] is not None or not isinstance(item.get("id"), str)
)
EARLIER = {"role": "user", "content": "first"}
LATER = [{"role": "assistant", "content": "so"}, {"role": "user", "content": "and now?"}]
DIALECTS: dict[str, tuple[Callable[..., Any], dict[str, Any], str, st.SearchStrategy[dict[str, Any]]]] = {
    "chat": (parse_chat, {}, "messages", turns),
    "responses": (parse_responses, {}, "input", items),
    "messages": (parse_messages, {"max_tokens": 9}, "messages", turns),
}


@pytest.mark.parametrize("dialect", DIALECTS)
@given(st.data())
def test_nothing_in_an_earlier_turn_is_refused(dialect: str, data: st.DataObject):
    parse, required, field, earlier = DIALECTS[dialect]
    history = data.draw(st.lists(earlier, min_size=1, max_size=3))
    assert parse({"model": "m", **required, field: [EARLIER, *history, *LATER]})
