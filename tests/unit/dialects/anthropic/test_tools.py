from __future__ import annotations

from typing import Any

import pytest

from service.dialects.anthropic.request import parse_messages
from service.errors import BadRequest
from service.protocol.request import Chat

ADD = {"name": "add", "description": "Add", "input_schema": {"type": "object"}}
LATER = {"name": "later", "input_schema": {"type": "object"}, "defer_loading": True}
SEARCH = {"name": "ToolSearch", "input_schema": {"type": "object"}}
# The types of Anthropic's reference that run on Anthropic's servers, and one that this server has never heard of.
HOSTED = [
    "web_search_20250305", "web_search_20260318", "web_fetch_20250910", "code_execution_20250825", "advisor_20260301",
    "tool_search_tool_bm25_20251119", "tool_search_tool_regex", "mcp_toolset", "browser_toolset_20260801",
    "tool_of_next_year_20270101",
]  # fmt: skip


def body(*turns: dict[str, Any], **fields: Any) -> dict[str, Any]:
    return {"model": "x", "max_tokens": 9, "messages": list(turns) or [{"role": "user", "content": "hi"}], **fields}


def chat(*turns: dict[str, Any], **fields: Any) -> Chat:
    prompt = parse_messages(body(*turns, **fields)).request.prompt
    assert isinstance(prompt, Chat)
    return prompt


def names(*turns: dict[str, Any], **fields: Any) -> list[str]:
    return [tool["function"]["name"] for tool in chat(*turns, **fields).tools]


def refusal(**fields: Any) -> str:
    with pytest.raises(BadRequest) as caught:
        parse_messages(body(**fields))
    return caught.value.message


@pytest.mark.parametrize("kind", HOSTED)
def test_a_tool_that_only_anthropic_runs_is_not_shown_to_the_model(kind: str):
    assert names(tools=[{"type": kind, "name": "w"}, ADD]) == ["add"]
    assert kind in refusal(tools=[{"type": kind, "name": "w"}], tool_choice={"type": "any"})


def test_a_tool_that_only_anthropic_runs_is_refused_where_the_request_forces_it():
    search = {"type": "web_search_20250305", "name": "web_search"}
    text = refusal(tools=[search, ADD], tool_choice={"type": "tool", "name": "web_search"})
    assert text == 'tool_choice names the tool "web_search", which this server can\'t run'


def test_a_type_of_any_length_is_compared_at_once_with_the_tool_that_must_be_called():
    # A search for the date from each of its letters on would take hours.
    text = refusal(tools=[{"type": "a" * 1_000_000}], tool_choice={"type": "tool", "name": "bash"})
    assert text == 'tool_choice names "bash", which is not among the tools'


@pytest.mark.parametrize(
    ("kind", "name", "parameter"),
    [
        ("bash_20250124", "bash", "command"),
        ("text_editor_20250728", "str_replace_based_edit_tool", "old_str"),
        ("text_editor_20250124", "str_replace_editor", "view_range"),
        ("memory_20250818", "memory", "old_path"),
        ("computer_20251124", "computer", "coordinate"),
    ],
)
def test_a_tool_that_the_client_runs_has_the_parameters_of_anthropics_guide(kind: str, name: str, parameter: str):
    (tool,) = chat(tools=[{"type": kind, "name": name}], tool_choice={"type": "tool", "name": name}).tools
    assert tool["function"]["name"] == name
    assert parameter in tool["function"]["parameters"]["properties"]


def test_a_deferred_tool_is_shown_once_the_clients_search_has_found_it():
    """As Claude Code 2.1 does it: its ToolSearch answers with references, and the tool is declared from then on."""
    found = [{"type": "tool_reference", "tool_name": "later"}]
    turns = [
        {"role": "user", "content": "hi"},
        {"role": "assistant", "content": [{"type": "tool_use", "id": "t", "name": "ToolSearch", "input": {}}]},
        {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "t", "content": found}]},
    ]
    assert names(tools=[SEARCH, LATER]) == ["ToolSearch"]
    assert names(*turns, tools=[SEARCH, LATER]) == ["ToolSearch", "later"]
    assert chat(*turns, tools=[SEARCH, LATER]).messages[-1].text == "The tool later can be called now."


def test_without_a_search_of_the_client_deferred_tools_are_shown():
    assert names(tools=[{"type": "tool_search_tool_bm25", "name": "s"}, LATER]) == ["later"]


@pytest.mark.parametrize(
    ("change", "shown"),
    [
        ({"type": "tool_addition", "tool": {"type": "tool_definition", "definition": LATER}}, ["add", "later"]),
        ({"type": "tool_removal", "tool": {"type": "tool_reference", "name": "add"}}, []),
        ({"type": "tool_addition", "tool": {"type": "tool_of_next_year"}}, ["add"]),
        ({"type": "tool_addition"}, ["add"]),
    ],
)
def test_a_turn_of_the_system_changes_the_tools(change: dict[str, Any], shown: list[str]):
    turns = [{"role": "user", "content": "hi"}, {"role": "system", "content": [change]}]
    assert names(*turns, tools=[ADD]) == shown
    assert [message.role for message in chat(*turns, tools=[ADD]).messages] == ["user"]
