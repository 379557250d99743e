from __future__ import annotations

import json
from typing import Any

import pytest

from service.dialects.openai.responses_request import parse_responses
from service.errors import BadRequest
from service.protocol.request import Chat
from tests.support.responses import FINISHED, answering, body, chat, delta, refusal

ADD = {"type": "function", "name": "add", "parameters": {"type": "object"}}
AGENTS = {"type": "namespace", "name": "agents_v1", "tools": [{**ADD, "name": "spawn"}, {**ADD, "name": "close"}]}
PATCH = {"type": "custom", "name": "patch", "description": "Edit.", "format": {"type": "grammar", "definition": "S: x"}}
SEARCH = {"type": "tool_search", "execution": "client", "parameters": {"type": "object"}}
# The types of OpenAI's reference that run on OpenAI's servers, and one that this server has never heard of.
HOSTED = [
    "web_search", "web_search_preview", "web_search_2025_08_26", "file_search", "code_interpreter", "image_generation",
    "mcp", "computer", "computer_use_preview", "programmatic_tool_calling", "tool_search", "some_tool_of_next_year",
]  # fmt: skip


def names(**fields: Any) -> list[str]:
    return [tool["function"]["name"] for tool in chat(**fields).tools]


def called(name: str, arguments: dict[str, Any], split_names: bool = False, **fields: Any) -> dict[str, Any]:
    """The item of a call that the model makes."""
    call = {"id": "call_1", "function": {"index": 0, "name": name, "arguments": arguments}}
    answer = answering(split_names=split_names, **fields)
    *_, last = [record for batch in answer.records([[delta(tool_calls=[call]), FINISHED]]) for record in batch]
    (item,) = last["response"]["output"]
    return {field: value for field, value in item.items() if field not in ("id", "status")}


@pytest.mark.parametrize("kind", HOSTED)
def test_a_tool_that_only_openai_runs_is_not_shown_to_the_model(kind: str):
    assert names(tools=[{"type": kind}, ADD]) == ["add"]
    assert names(tools=[{"type": kind}]) == []


@pytest.mark.parametrize("kind", HOSTED)
@pytest.mark.parametrize("choice", ["required", {}])
def test_a_tool_that_only_openai_runs_is_refused_where_the_request_forces_it(kind: str, choice: Any):
    assert kind in refusal(tools=[{"type": kind}], tool_choice=choice or {"type": kind})


def test_a_namespace_is_flattened_as_ollama_does():
    assert names(tools=[ADD, AGENTS]) == ["add", "agents_v1.spawn", "agents_v1.close"]
    nested = {"type": "namespace", "name": "a", "tools": [{"type": "namespace", "name": "b", "tools": [ADD, PATCH]}]}
    assert names(tools=[nested]) == ["a.b.add", "a.b.patch"]
    assert names(tools=[{**AGENTS, "tools": [{**ADD, "name": "agents_v1.spawn"}]}]) == ["agents_v1.spawn"]


def test_a_call_of_a_tool_in_a_namespace_is_named_for_the_client():
    named = {"type": "function_call", "call_id": "call_1", "arguments": "{}"}
    assert called("agents_v1.close", {}, tools=[AGENTS]) == {**named, "name": "agents_v1.close"}
    split = called("agents_v1.close", {}, tools=[AGENTS], split_names=True)
    assert split == {**named, "name": "close", "namespace": "agents_v1"}


@pytest.mark.parametrize(
    ("choice", "forced"),
    [
        ({"type": "function", "name": "agents_v1.close"}, "agents_v1.close"),
        ({"type": "function", "name": "close"}, "agents_v1.close"),
        ({"type": "function", "name": "close", "namespace": "agents_v1"}, "agents_v1.close"),
        ({"type": "custom", "name": "patch"}, "patch"),
        ({"type": "shell"}, "shell"),
    ],
)
def test_any_tool_of_the_client_can_be_forced(choice: Any, forced: str):
    prompt = chat(tools=[AGENTS, PATCH, {"type": "shell"}], tool_choice=choice)
    assert (prompt.tool_choice, prompt.forced_tool) == ("required", forced)


def test_hosted_tools_among_the_allowed_are_passed_over():
    allowed = [{"type": "mcp", "server_label": "x"}, {"type": "function", "name": "add"}, {"type": "apply_patch"}]
    choice = {"type": "allowed_tools", "mode": "required", "tools": allowed}
    tools = [ADD, PATCH, {"type": "mcp"}, {"type": "apply_patch"}]
    assert names(tools=tools, tool_choice=choice) == ["add", "apply_patch"]
    text = refusal(tools=tools, tool_choice={**choice, "tools": allowed[:1]})
    assert text == "tool_choice allows no tool that the client runs, and requires a call"


def test_a_custom_tool_is_a_function_with_a_text_and_its_call_is_handed_back_as_one():
    (tool,) = chat(tools=[PATCH]).tools
    assert tool["function"]["description"] == "Edit.\n\nThe input has to fit this grammar (lark):\nS: x"
    assert tool["function"]["parameters"]["required"] == ["input"]
    item = {"type": "custom_tool_call", "call_id": "call_1", "name": "patch"}
    assert called("patch", {"input": "+a"}, tools=[PATCH]) == {**item, "input": "+a"}
    assert called("patch", {"patch": "+a"}, tools=[PATCH]) == {**item, "input": "+a"}
    assert called("patch", {"a": 1, "b": 2}, tools=[PATCH]) == {**item, "input": '{"a":1,"b":2}'}


@pytest.mark.parametrize(
    ("tool", "arguments", "item"),
    [
        (
            {"type": "local_shell"},
            {"command": ["ls"], "working_directory": "/"},
            {
                "type": "local_shell_call",
                "action": {
                    "type": "exec", "command": ["ls"], "env": {}, "timeout_ms": None, "user": None,
                    "working_directory": "/",
                },
            },
        ),
        (
            {"type": "shell", "environment": {"type": "local"}},
            {"commands": ["ls"]},
            {
                "type": "shell_call",
                "action": {"commands": ["ls"], "timeout_ms": None, "max_output_length": None},
            },
        ),
        (
            {"type": "apply_patch"},
            {"type": "delete_file", "path": "a"},
            {"type": "apply_patch_call", "operation": {"type": "delete_file", "path": "a"}},
        ),
        (
            SEARCH,
            {"query": "mail"},
            {"type": "tool_search_call", "execution": "client", "arguments": {"query": "mail"}},
        ),
    ],
)  # fmt: skip
def test_a_tool_that_the_client_runs_has_an_item_of_its_own(tool: Any, arguments: Any, item: Any):
    assert called(tool["type"], arguments, tools=[tool]) == {**item, "call_id": "call_1"}


def test_a_shell_in_a_container_of_openai_is_not_shown():
    assert names(tools=[{"type": "shell", "environment": {"type": "container_auto"}}]) == []


def test_a_call_of_a_tool_that_was_not_offered_is_a_function_call():
    assert called("invented", {"a": 1})["type"] == "function_call"


@pytest.mark.parametrize("kind", ["additional_tools", "tool_search_output"])
def test_items_of_the_input_add_tools(kind: str):
    said = [{"role": "user", "content": "a"}, {"type": kind, "role": "developer", "tools": [AGENTS, {"type": "mcp"}]}]
    prompt = parse_responses(body(said, tools=[ADD])).request.prompt
    assert isinstance(prompt, Chat)
    assert [tool["function"]["name"] for tool in prompt.tools] == ["add", "agents_v1.spawn", "agents_v1.close"]


def test_a_deferred_tool_is_shown_once_the_clients_search_has_found_it():
    later = {**ADD, "name": "later", "defer_loading": True}
    assert names(tools=[later, ADD]) == ["later", "add"]
    assert names(tools=[later, SEARCH]) == ["tool_search"]
    found = [{"role": "user", "content": "a"}, {"type": "tool_search_output", "call_id": "c", "tools": [later]}]
    assert names(said=found, tools=[later, SEARCH]) == ["later", "tool_search"]


def test_a_streamed_custom_call_has_events_of_its_own():
    call = {"id": "call_1", "function": {"index": 0, "name": "patch", "arguments": {"input": "+a"}}}
    records = [r for batch in answering(tools=[PATCH]).records([[delta(tool_calls=[call])]]) for r in batch]
    added, piece, done, item = records[2:]
    assert (added["item"]["input"], piece["delta"], done["input"], item["item"]["input"]) == ("", "+a", "+a", "+a")
    assert (piece["type"], done["type"]) == (
        "response.custom_tool_call_input.delta",
        "response.custom_tool_call_input.done",
    )


def test_what_codex_sends_is_answered():
    """The standard request of Codex CLI 0.169, shortened: nothing in it is a reason to refuse a turn."""
    request = {
        "model": "x", "stream": True, "store": False, "tool_choice": "auto", "parallel_tool_calls": True,
        "reasoning": {"summary": "auto"}, "include": ["reasoning.encrypted_content"], "prompt_cache_key": "k",
        "client_metadata": {"turn_id": "t"},
        "tools": [ADD, AGENTS, {"type": "web_search", "external_web_access": True}],
        "input": [
            {"type": "message", "id": "m1", "role": "developer", "content": [{"type": "input_text", "text": "Be."}]},
            {"type": "message", "id": "m2", "role": "user", "content": [{"type": "input_text", "text": "hi"}]},
            {"type": "function_call", "id": "fc", "name": "close", "namespace": "agents_v1", "arguments": '{"a":',
             "call_id": "c1", "status": "completed"},
            {"type": "function_call_output", "id": "fco", "call_id": "c1", "output": "unsupported call: close"},
        ],
    }  # fmt: skip
    call = parse_responses(json.loads(json.dumps(request)))
    assert isinstance(call.request.prompt, Chat)
    _, _, made, output = call.request.prompt.messages
    assert made.tool_calls[0]["function"] == {"name": "agents_v1.close", "arguments": {"arguments": '{"a":'}}
    assert (output.tool_name, output.text) == ("agents_v1.close", "unsupported call: close")


def test_a_tool_without_a_name_is_refused():
    with pytest.raises(BadRequest, match=r"^tools\[0\]\.tools\[0\]: name is required$"):
        chat(tools=[{"type": "namespace", "name": "a", "tools": [{"type": "function"}]}])
